//! Decision records: numbered once, in order, with a status from the list.
use crate::{files, none, read};

const STATUS: [&str; 3] = ["accepted", "superseded", "proposed"];

fn records() -> Vec<String> {
    files("docs/adr")
        .into_iter()
        .filter(|f| f.ends_with(".md") && !f.ends_with("README.md"))
        .collect()
}

#[test]
fn decision_records_are_numbered_without_gaps() {
    let numbers: Vec<usize> = records()
        .iter()
        .map(|f| {
            f.trim_start_matches("docs/adr/")
                .chars()
                .take(4)
                .collect::<String>()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}

#[test]
fn each_decision_record_has_a_status_from_the_list() {
    let wrong: Vec<String> = records()
        .into_iter()
        .filter(|f| {
            let text = read(f);
            let status = text.lines().find_map(|l| l.strip_prefix("Status: "));
            !status.is_some_and(|s| STATUS.iter().any(|known| s.starts_with(known)))
        })
        .collect();
    none("decision records without a known status", &wrong);
}

#[test]
fn the_index_lists_each_decision_record() {
    let index = read("docs/adr/README.md");
    let wrong: Vec<String> = records()
        .into_iter()
        .filter(|f| !index.contains(f.trim_start_matches("docs/adr/")))
        .collect();
    none("decision records that the index lacks", &wrong);
}

#[test]
fn relative_links_in_the_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for file in files("").into_iter().filter(|f| f.ends_with(".md")) {
        let folder = std::path::Path::new(&file)
            .parent()
            .map(std::path::Path::to_path_buf)
            .unwrap_or_default();
        for link in read(&file)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty()
                || target.contains("://")
                || target.contains(' ')
                || target.starts_with("mailto:")
            {
                continue;
            }
            if !crate::root().join(&folder).join(target).exists() {
                wrong.push(format!("{file}: {link}"));
            }
        }
    }
    none("links that lead nowhere", &wrong);
}
