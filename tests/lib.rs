//! What the tests share: plain HTTP, Python peers from PyPI, and waiting with a deadline.
pub mod http;
pub mod inventory;
pub mod load;
pub mod newer;
pub mod pipeline;
pub mod python;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use telltale_nats::{Lane, Name, Subject};

/// Third-party cases with expected outcomes; `None`, said loudly, where they are not at hand.
pub fn data(file: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let folder = std::env::var("TELLTALE_DATA").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED: {} is not at hand (TELLTALE_DATA names the folder)",
        path.display()
    );
    None
}

/// How much a test does: `usual`, which shows what it is about in the time that the suite has, or `most` by hand, with
/// `TELLTALE_SIZE=whole`.
///
/// # Panics
/// When `TELLTALE_SIZE` is anything else.
pub fn size(usual: usize, most: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "the tests' own setting")]
    let said = std::env::var("TELLTALE_SIZE").unwrap_or_default();
    match said.as_str() {
        "" => usual,
        "whole" => most,
        other => panic!("TELLTALE_SIZE is `whole` or not there, not `{other}`"),
    }
}

/// The subject of a lane at site `local`, about that thing; its last token is `name` where the lane has one.
///
/// # Panics
/// When a name is none.
pub fn subject(lane: Lane, thing: impl Into<String>, name: &str) -> String {
    let parse = |text: String| Name::new(text).expect("a name");
    let (site, thing) = (parse("local".to_owned()), parse(thing.into()));
    let subject = if lane.has_name() {
        Subject::named(lane, site, thing, parse(name.to_owned()))
    } else {
        Subject::of(lane, site, thing)
    };
    subject.to_string()
}

/// The folder that cargo puts trial workers into; they are built once.
///
/// # Panics
/// When they cannot be built.
pub fn examples() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let done = telltale_cli::stack::cargo()
            .args(["build", "--quiet", "--workspace", "--examples"])
            .status()
            .expect("cargo runs");
        assert!(done.success(), "the trial workers are built");
        pipeline::binary("examples")
    };
    BUILT.get_or_init(build).clone()
}

/// A program of ours, built by the profile of this test run.
///
/// # Panics
/// When it cannot be built.
pub fn program(package: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let path = pipeline::binary(package);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.insert(package) {
        let folder = path.parent().expect("a program is in a folder");
        let mut cargo = telltale_cli::stack::cargo();
        cargo.args(["build", "--quiet", "--package", package, "--target-dir"]);
        cargo
            .arg(folder.parent().expect("cargo's folder has one for each profile"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let done = cargo.status().expect("cargo runs");
        assert!(done.success(), "{package} is built");
    }
    path
}

/// Asks again and again until there is an answer, at most that long.
///
/// # Panics
/// When the time is up, with `what`.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The same for what has to be awaited.
///
/// # Panics
/// When the time is up, with `what`.
pub async fn eventually_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + within;
    let mut next = tokio::time::interval(Duration::from_millis(20));
    loop {
        next.tick().await;
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
    }
}
