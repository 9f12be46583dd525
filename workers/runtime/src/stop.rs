//! Being told to stop, and how a process ends.
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled by SIGTERM or SIGINT.
pub(crate) fn token() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("told to stop");
        told.cancel();
    });
    Ok(stop)
}

/// An end that has an exit code of its own. Put one at the root of an `anyhow::Error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// Something that must be there is not; exit code 3.
    #[error("{0}")]
    Precondition(String),
    /// The identity lacks a right; exit code 4.
    #[error("{0}")]
    Unauthorised(String),
}

/// The exit code for what a process ended with: 0, 1, 3 or 4 (2 is clap's, for usage).
pub(crate) fn code(ended: &anyhow::Result<()>) -> ExitCode {
    let Err(error) = ended else {
        return ExitCode::SUCCESS;
    };
    match error.chain().find_map(|cause| cause.downcast_ref::<Fatal>()) {
        Some(Fatal::Precondition(_)) => ExitCode::from(3),
        Some(Fatal::Unauthorised(_)) => ExitCode::from(4),
        None => ExitCode::FAILURE,
    }
}
