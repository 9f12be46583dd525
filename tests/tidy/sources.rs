//! Rules over the text of the sources.
use crate::{files, none, read};

const LINES_MAX: usize = 500;
const BLOB_MAX: u64 = 256 * 1024;

fn rust() -> Vec<String> {
    files("").into_iter().filter(|f| f.ends_with(".rs")).collect()
}

#[test]
fn a_file_is_one_room() {
    let wrong: Vec<String> = files("")
        .into_iter()
        .filter(|f| f.ends_with(".rs") || f.ends_with(".sql"))
        .filter_map(|f| {
            let lines = read(&f).lines().count();
            (lines > LINES_MAX).then(|| format!("{f}: {lines} lines"))
        })
        .collect();
    none("files over 500 lines", &wrong);
}

#[test]
fn no_module_is_a_drawer_for_anything() {
    let drawers = ["util", "utils", "common", "helpers", "misc", "shared"];
    let wrong: Vec<String> = rust()
        .into_iter()
        .filter(|f| {
            let stem = f
                .rsplit('/')
                .next()
                .and_then(|n| n.strip_suffix(".rs"))
                .unwrap_or_default();
            drawers.contains(&stem) || drawers.iter().any(|d| f.contains(&format!("/{d}/")))
        })
        .collect();
    none("modules named for nothing", &wrong);
}

#[test]
fn the_main_of_a_worker_is_five_lines_at_most() {
    let wrong: Vec<String> = rust()
        .into_iter()
        .filter(|f| f.starts_with("workers/") && f.ends_with("/src/main.rs"))
        .filter(|f| read(f).lines().count() > 5)
        .collect();
    none("a worker's main.rs does too much", &wrong);
}

#[test]
fn subjects_are_built_in_one_file() {
    let lanes = [
        "raw",
        "valid",
        "annotated",
        "derived",
        "event",
        "command",
        "outcome",
        "thing",
        "quarantine",
        "redo",
        "api",
    ];
    let mut wrong = Vec::new();
    for file in rust()
        .into_iter()
        .filter(|f| !f.starts_with("nats/src/") && !f.starts_with("tests/tidy/"))
    {
        for (number, line) in read(&file).lines().enumerate() {
            let built = lanes
                .iter()
                .any(|lane| line.contains(&format!("format!(\"{lane}.")));
            if built {
                wrong.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("subjects built outside nats/src", &wrong);
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["#[ign", "ore"].concat(),
        ["unimple", "mented!"].concat(),
    ];
    let mut wrong = Vec::new();
    for file in rust().into_iter().filter(|f| !f.starts_with("tests/tidy/")) {
        for (number, line) in read(&file).lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                wrong.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("unfinished or switched off", &wrong);
}

#[test]
fn each_module_says_what_it_is_for() {
    let wrong: Vec<String> = rust()
        .into_iter()
        .filter(|f| !f.ends_with("main.rs") && !f.contains("/templates/"))
        .filter(|f| !read(f).trim_start().starts_with("//!"))
        .collect();
    none("modules without a first line of docs", &wrong);
}

#[test]
fn each_kind_has_good_and_bad_examples() {
    let examples = files("schemas/examples");
    let mut wrong = Vec::new();
    for kind in telltale_schemas::Kind::ALL {
        for sort in ["ok-", "bad-"] {
            let prefix = format!("schemas/examples/{}/{sort}", kind.word());
            if !examples.iter().any(|f| f.starts_with(&prefix)) {
                wrong.push(prefix);
            }
        }
    }
    none("kinds without examples", &wrong);
}

#[test]
fn no_blob_hides_in_the_tree() {
    let wrong: Vec<String> = files("")
        .into_iter()
        .filter(|f| std::fs::metadata(crate::root().join(f)).is_ok_and(|m| m.len() > BLOB_MAX))
        .collect();
    none("files over 256 KiB", &wrong);
}
