//! Real processes under the supervisor.
use super::*;
use std::time::Instant;

const SOON: Duration = Duration::from_secs(20);

fn spec(name: &str, script: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("WORD".to_owned(), "said".to_owned())],
        folder: "/".into(),
        user: None,
        stop: Signal::TERM,
        grace: Duration::from_millis(300),
        probe: Probe::Alive,
    }
}

fn supervisor(name: &str) -> (Supervisor, PathBuf) {
    let folder = crate::stack::scratch(name).unwrap();
    let traces = Traces {
        run: folder.clone(),
        logs: folder.clone(),
        disposable: Some(folder.clone()),
    };
    (Supervisor::new(traces).unwrap(), folder)
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| !text.contains(") Z "))
}

#[tokio::test]
async fn a_process_that_is_killed_comes_back_and_the_other_keeps_its_id() {
    let (supervisor, folder) = supervisor("killed");
    supervisor.start(spec("one", "echo $WORD; exec sleep 60"));
    supervisor.start(spec("two", "exec sleep 60"));
    let one = supervisor.unit("one").unwrap();
    let two = supervisor.unit("two").unwrap();
    one.ready(SOON).await.unwrap();
    two.ready(SOON).await.unwrap();
    let (first, other) = (one.state().pid.unwrap(), two.state().pid.unwrap());

    assert_eq!(supervisor.kill("one").unwrap(), first);
    let state = one
        .reach(|state| state.restarts == 1 && state.phase == Phase::Running)
        .await;
    assert_ne!(state.pid.unwrap(), first);
    assert!(state.last.unwrap().contains("signal: 9"));
    assert_eq!((two.state().pid, two.state().restarts), (Some(other), 0));
    assert!(folder.join("one.pid").is_file());

    supervisor.end();
    assert!(!is_alive(other) && !is_alive(state.pid.unwrap()));
    assert!(
        !folder.exists(),
        "the watchdog removes a folder that nobody keeps"
    );
}

#[tokio::test]
async fn what_crashes_at_once_waits_longer_and_can_be_stopped_while_it_waits() {
    let (supervisor, _) = supervisor("crashing");
    supervisor.start(spec("bad", "exit 3"));
    let bad = supervisor.unit("bad").unwrap();
    let began = Instant::now();
    let state = bad.reach(|state| state.restarts == 3).await;
    assert!(
        began.elapsed() >= Duration::from_millis(600),
        "0.2 and 0.4 s lie between three ends"
    );
    assert!(state.last.unwrap().contains("exit status: 3"));
    bad.stop().await;
    assert_eq!(bad.state().phase, Phase::Stopped);
    bad.start();
    bad.reach(|state| state.restarts > 3).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_and_takes_nothing_along() {
    let (supervisor, _) = supervisor("missing");
    supervisor.start(Spec {
        program: "/no/such/program".into(),
        ..spec("missing", "")
    });
    let missing = supervisor.unit("missing").unwrap();
    let state = missing.reach(|state| state.phase == Phase::Waiting).await;
    assert!(state.last.unwrap().contains("/no/such/program"));
    let error = missing
        .ready(Duration::from_millis(50))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("missing"), "{error}");
    assert!(matches!(supervisor.kill("nobody"), Err(ControlError::Unknown(name)) if name == "nobody"));
}

#[tokio::test]
async fn a_process_that_does_not_listen_is_killed_after_its_grace_and_a_restart_changes_its_id() {
    let (supervisor, _) = supervisor("deaf");
    supervisor.start(spec("deaf", "trap '' TERM; while :; do sleep 0.05; done"));
    let deaf = supervisor.unit("deaf").unwrap();
    deaf.ready(SOON).await.unwrap();
    let first = deaf.state().pid.unwrap();
    deaf.restart();
    let state = deaf
        .reach(|state| state.pid.is_some_and(|pid| pid != first))
        .await;
    assert_eq!(state.restarts, 0, "a restart that was asked for is no crash");
    deaf.stop().await;
    assert!(!is_alive(first) && !is_alive(state.pid.unwrap()));
}

#[test]
fn the_watchdog_ends_what_a_killed_supervisor_leaves() {
    let folder = crate::stack::scratch("watched").unwrap();
    let watchdog = watchdog::Watchdog::start(Some(&folder)).unwrap();
    let mut kept = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut left = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    watchdog.watch(kept.id(), "TERM");
    watchdog.watch(left.id(), "TERM");
    watchdog.forget(kept.id());
    // Whoever is killed closes the pipe; so does this. The ended child must be awaited for the shell to see it gone.
    let ended = thread::spawn(move || left.wait().unwrap());
    watchdog.dismiss();
    assert_eq!(ended.join().unwrap().to_string(), "signal: 15 (SIGTERM)");
    assert!(
        kept.try_wait().unwrap().is_none(),
        "what was forgotten is not ours any more"
    );
    assert!(!folder.exists());
    kept.kill().unwrap();
    kept.wait().unwrap();
}
