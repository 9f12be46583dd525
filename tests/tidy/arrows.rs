//! Which crate may know which: schemas <- nats <- runtime <- each worker; bridge and cli above.
use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::BTreeMap;

fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .current_dir(crate::root())
        .exec()
        .unwrap();
    metadata
        .packages
        .iter()
        .map(|package| {
            let normal = package
                .dependencies
                .iter()
                .filter(|d| d.kind == DependencyKind::Normal);
            (package.name.to_string(), normal.map(|d| d.name.clone()).collect())
        })
        .collect()
}

/// What each crate of ours may depend on, of ours.
fn allowed(package: &str) -> Option<&'static [&'static str]> {
    Some(match package {
        "telltale-schemas" | "telltale-checker" => &[],
        "telltale-nats" => &["telltale-schemas"],
        "telltale-runtime" => &["telltale-schemas", "telltale-nats"],
        "telltale-cli" | "telltale-tests" => return None,
        _ => &["telltale-schemas", "telltale-nats", "telltale-runtime"],
    })
}

#[test]
fn dependencies_follow_the_arrows() {
    let mut wrong = Vec::new();
    for (package, dependencies) in dependencies() {
        let Some(allowed) = allowed(&package) else {
            continue;
        };
        for dependency in dependencies.iter().filter(|d| d.starts_with("telltale-")) {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{package} -> {dependency}"));
            }
        }
    }
    crate::none("arrows that DESIGN does not have", &wrong);
}

#[test]
fn only_the_roads_and_the_loop_name_the_broker_s_client() {
    let mut wrong = Vec::new();
    for (package, dependencies) in dependencies() {
        let may = ["telltale-nats", "telltale-runtime"].contains(&package.as_str());
        if !may && dependencies.iter().any(|d| d == "async-nats") {
            wrong.push(package);
        }
    }
    crate::none("crates that name async-nats", &wrong);
}

#[test]
fn only_crates_that_own_sql_name_the_database_s_client() {
    let mut wrong = Vec::new();
    for (package, dependencies) in dependencies() {
        let may = [
            "telltale-store",
            "telltale-gateway",
            "telltale-cli",
            "telltale-tests",
        ]
        .contains(&package.as_str());
        if !may && dependencies.iter().any(|d| d == "tokio-postgres") {
            wrong.push(package);
        }
    }
    crate::none("crates that name tokio-postgres", &wrong);
}

#[test]
fn words_have_no_async_and_no_io() {
    let all = dependencies();
    let wrong: Vec<String> = all["telltale-schemas"]
        .iter()
        .filter(|d| ["tokio", "futures", "async-nats", "axum", "hyper"].contains(&d.as_str()))
        .cloned()
        .collect();
    crate::none("async in schemas", &wrong);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = crate::read("Cargo.toml");
    let mut reason = false;
    let mut wrong = Vec::new();
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("the section is there");
    for line in section.split("\n[").next().unwrap_or_default().lines() {
        if line.starts_with('#') {
            reason = true;
        } else if line.trim().is_empty() {
            reason = false;
        } else if let Some((name, _)) = line.split_once(" = ") {
            // Our own crates stand in one paragraph; neighbours of one purpose may share its line.
            if !reason && !name.starts_with("telltale-") {
                wrong.push(name.to_owned());
            }
        }
    }
    crate::none("dependencies without a line of why", &wrong);
}
