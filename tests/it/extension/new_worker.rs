//! From `telltale new-worker` to a worker that handles a reading beside a running system, by the commands that it
//! prints.
use super::untouched::untouched;
use cargo_metadata::MetadataCommand;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use telltale_cli::stack::{StackOptions, cargo};
use telltale_tests::pipeline::{Pipeline, binary};

const NAME: &str = "too-hot";
/// What a made worker depends on, of ours.
const OURS: [&str; 3] = ["telltale-schemas", "telltale-nats", "telltale-runtime"];

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the checkout")
}

/// Cargo's folder of everything that it builds. One for the made worker too: what it depends on is built there already.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("`tmp` is in it")
}

/// A workspace like ours, with its dependencies, lints, profiles and lock, and no crate of ours as its member: the
/// worker is made there, and the sources stay clean. Always in the same place, so that cargo knows what it has built.
fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-worker");
    let workers = root.join("workers");
    if workers.exists() {
        fs::remove_dir_all(&workers).unwrap();
    }
    fs::create_dir_all(workers.join("all/src")).unwrap();
    for file in ["Cargo.lock", "clippy.toml", "rustfmt.toml"] {
        fs::copy(checkout().join(file), root.join(file)).unwrap();
    }
    let ours = fs::read_to_string(checkout().join("Cargo.toml")).unwrap();
    let mut manifest = String::new();
    for line in ours.lines() {
        let line = match line.split_once("{ path = \"") {
            Some((name, path)) => format!("{name}{{ path = \"{}/{path}", checkout().display()),
            None if line.starts_with("members = ") => "members = [\"workers/*\"]".to_owned(),
            None => line.to_owned(),
        };
        writeln!(manifest, "{line}").unwrap();
    }
    for package in OURS {
        // Here they are no members; what is built of them is as little optimised as at home.
        writeln!(manifest, "\n[profile.dev.package.{package}]\nopt-level = 0").unwrap();
    }
    fs::write(root.join("Cargo.toml"), manifest).unwrap();
    fs::write(workers.join("all/Cargo.toml"), manifest_of_all()).unwrap();
    fs::write(workers.join("all/src/lib.rs"), "//! Nothing.\n").unwrap();
    root
}

/// A crate with every dependency that crates of ours have, and all their features: as a member beside the made worker it
/// makes cargo choose the features that it chose at home, so that nothing of others is built a second time.
fn manifest_of_all() -> String {
    let home = MetadataCommand::new()
        .no_deps()
        .current_dir(checkout())
        .exec()
        .unwrap();
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    let dependencies = home.packages.into_iter().flat_map(|package| package.dependencies);
    for dependency in dependencies.filter(|dependency| dependency.path.is_none()) {
        let features = all.entry(dependency.name).or_default();
        features.extend(dependency.features);
    }
    let mut manifest = "[package]\nname = \"all\"\nedition.workspace = true\n\n\
                        [lib]\ntest = false\ndoctest = false\n\n[dependencies]\n"
        .to_owned();
    for (name, features) in all {
        let features: Vec<_> = features.iter().map(|feature| format!("\"{feature}\"")).collect();
        let features = features.join(", ");
        writeln!(
            manifest,
            "{name} = {{ workspace = true, features = [{features}] }}"
        )
        .unwrap();
    }
    manifest
}

/// Runs a command in that folder to its end; what it printed.
fn run(root: &Path, command: &mut Command) -> String {
    let output = command.current_dir(root).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

/// The whole workspace, of which the worker is all that has code.
fn run_cargo(root: &Path, verb: &str, more: &[&str]) -> String {
    let mut command = cargo();
    command.args([verb, "--quiet", "--offline", "--workspace", "--target-dir"]);
    run(root, command.arg(target()).args(more))
}

/// Makes the worker and holds it to what everything of ours is held to; its program.
fn made() -> PathBuf {
    let root = workspace();
    let printed = run(&root, Command::new(binary("telltale")).args(["new-worker", NAME]));
    for step in [
        "cargo test",
        "cargo build",
        "admit target/debug/too-hot",
        "start too-hot",
    ] {
        assert!(
            printed.contains(step),
            "`{step}` is among what comes next: {printed}"
        );
    }
    let source = |file: &str| root.join("workers").join(NAME).join("src").join(file);
    let files = ["lib.rs", "main.rs", "tests.rs"].map(source);
    run(
        &root,
        Command::new("rustfmt")
            .args(["--check", "--edition", "2024"])
            .args(files),
    );
    run_cargo(&root, "clippy", &["--all-targets", "--", "-D", "warnings"]);
    let tested = run_cargo(&root, "test", &[]);
    assert!(
        tested.contains("test result: ok. 1 passed"),
        "its own test ran: {tested}"
    );
    run_cargo(&root, "build", &[]);
    target().join("debug").join(NAME)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_new_worker_made_joins_a_running_system_and_handles_a_reading() {
    let mut pipeline = Pipeline::start(StackOptions::default()).await;
    let before = untouched(&pipeline, NAME).await;
    let program = tokio::task::spawn_blocking(made).await.unwrap();
    let admit = pipeline.telltale(&["admit", program.to_str().unwrap()]).await;
    assert!(
        admit.status.success(),
        "{}",
        String::from_utf8_lossy(&admit.stderr)
    );
    pipeline.stack.start_one(NAME).await.unwrap();
    for degrees in [59, 61] {
        let body = format!(r#"{{"temperature":{degrees}}}"#);
        let answer = pipeline
            .http
            .post("/things/oven/readings", &[], body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let raised = "select count(*) from events where name = 'too_hot' and thing = 'oven' \
                  and (data ->> 'value')::float8 = 61";
    pipeline.until(raised, 1, Duration::from_secs(30)).await;
    assert_eq!(pipeline.count("select count(*) from events").await, Some(1));
    assert_eq!(untouched(&pipeline, NAME).await, before);
}
