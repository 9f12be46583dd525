//! Python programs as peers that we did not write: packages from PyPI, installed beside the build, never into the system.
use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Mutex,
};

/// Pinned, so that a run today and one next year ask the same peers.
const PACKAGES: [&str; 5] = [
    "nats-py[nkeys]==2.16.0",
    "cloudevents==2.2.0",
    "kpn-senml==1.0.1",
    "paho-mqtt==2.2.0",
    "iotcore==0.4.0",
];

static INSTALLING: Mutex<()> = Mutex::new(());

/// The folder that holds the packages; installs them at the first call.
///
/// # Panics
/// When pip cannot install them.
pub fn packages() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
    let _one_at_a_time = INSTALLING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let stamp = folder.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == PACKAGES.join(" ")) {
        return folder;
    }
    eprintln!("installing {} with pip, for tests only", PACKAGES.join(", "));
    let done = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--upgrade",
            "--target",
        ])
        .arg(&folder)
        .args(PACKAGES)
        .status()
        .expect("python3 and pip are there: the README asks for them");
    assert!(done.success(), "pip could not install {}", PACKAGES.join(", "));
    std::fs::write(stamp, PACKAGES.join(" ")).expect("the build folder can be written");
    folder
}

/// Runs a program with these arguments and that input to its end.
///
/// # Panics
/// When there is no Python.
pub fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write as _;
    let mut child = command(program, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is there: the README asks for it");
    child
        .stdin
        .take()
        .expect("its input is piped")
        .write_all(input)
        .expect("it reads its input");
    child.wait_with_output().expect("it ends")
}

/// The command for a program, to start it and keep it.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command
        .arg("-c")
        .arg(program)
        .args(arguments)
        .env("PYTHONPATH", packages());
    command
}
