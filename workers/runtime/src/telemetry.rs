//! Logs, to standard error.
use crate::args::LogFormat;
use anyhow::Context as _;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Turns logging on for the process; a second call changes nothing.
pub(crate) fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    // The client's own lines repeat what we say of a connection.
    let filter = EnvFilter::try_new(format!("async_nats=error,{filter}"))
        .with_context(|| format!("read the log filter `{filter}`"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Compact => false,
    };
    let set = if json {
        lines.json().flatten_event(true).with_span_list(false).try_init()
    } else {
        lines
            .compact()
            .with_ansi(std::io::stderr().is_terminal())
            .try_init()
    };
    if set.is_err() {
        tracing::debug!("logging was on already");
    }
    Ok(())
}
