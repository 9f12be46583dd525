//! docs/GUARANTEES.md promises nothing that no test shows: each cell of its tables links one, and it exists.
use crate::{none, read, root};

const FILE: &str = "docs/GUARANTEES.md";
/// A table with a column of this name has its links there; any other in all but the first.
const EVIDENCE: &str = "shown by";
/// How a cell begins that has no test, and says so.
const HONEST: [&str; 3] = ["not yet", "not promised", "by hand: [power cuts](RELIABILITY.md"];

/// Sources that `text` links, with the test that each link names.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next()?.split_once('#'))
        .filter(|(path, _)| path.ends_with(".rs"))
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split(" | ").map(str::trim).collect()
}

#[test]
fn each_test_that_a_guarantee_names_exists() {
    let text = read(FILE);
    let missing: Vec<String> = links(&text)
        .filter(|(path, name)| {
            let source = std::fs::read_to_string(root().join("docs").join(path)).unwrap_or_default();
            !source.contains(&format!("fn {name}("))
        })
        .map(|(path, name)| format!("{path}: {name}"))
        .collect();
    assert!(links(&text).count() > 50, "the document links its tests");
    none("tests that the guarantees name and nobody has", &missing);
}

#[test]
fn each_cell_of_the_guarantees_links_its_test() {
    let text = read(FILE);
    let tables = text.split("\n\n").filter(|paragraph| paragraph.starts_with("| "));
    let mut bare = Vec::new();
    for table in tables {
        let mut rows = table.lines();
        let head = cells(rows.next().unwrap_or_default());
        let evidence = head.iter().position(|name| *name == EVIDENCE);
        for row in rows.skip(1).map(cells) {
            let promises = evidence.map_or(&row[1..], |column| &row[column..=column]);
            let silent = promises
                .iter()
                .filter(|cell| links(cell).next().is_none() && !HONEST.iter().any(|w| cell.starts_with(w)));
            bare.extend(silent.map(|cell| format!("{}: {cell}", row[0])));
        }
    }
    none("promises without a test", &bare);
}
