//! Exit codes, and how an error is told.
use std::{fmt::Write as _, io, process::ExitCode};

/// It failed.
pub const FAILED: u8 = 1;
/// It was asked in a way that cannot be meant.
pub const USAGE: u8 = 2;
/// Something that has to be there is not: a running system, a port, a provisioned stream.
pub const PRECONDITION: u8 = 3;
/// The credential does not reach that far.
pub const UNAUTHORISED: u8 = 4;
/// Unhealthy, or a balance that is wrong, or a difference found.
pub const UNHEALTHY: u8 = 10;
/// Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// An error that knows its exit code and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    code: u8,
    what: String,
    hint: Option<String>,
}

impl Refused {
    /// Asked in a way that cannot be meant.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(USAGE, what)
    }

    /// Something that has to be there is not.
    pub fn precondition(what: impl Into<String>) -> Self {
        Self::new(PRECONDITION, what)
    }

    /// The credential does not reach that far.
    pub fn unauthorised(what: impl Into<String>) -> Self {
        Self::new(UNAUTHORISED, what)
    }

    /// It failed.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(FAILED, what)
    }

    fn new(code: u8, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            hint: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Tells the error on stderr, and says with which code to end.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken) {
        return ExitCode::SUCCESS; // The reader (`head`) has what it wanted.
    }
    eprint!("{}", told(error));
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<Refused>());
    ExitCode::from(refused.map_or(FAILED, |refused| refused.code))
}

fn told(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries print their source in their own message; it is told once.
        if !last.contains(&cause) {
            let _infallible = writeln!(text, "  caused by: {cause}");
        }
        last = cause;
    }
    let hint = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Refused>())
        .and_then(|refused| refused.hint.as_ref());
    if let Some(hint) = hint {
        let _infallible = writeln!(text, "hint: {hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_error_says_what_why_and_what_to_do_once() {
        let error = anyhow::Error::new(Refused::precondition("no stack runs here").hint("telltale up"))
            .context("read the status");
        assert_eq!(
            told(&error),
            "error: read the status\n  caused by: no stack runs here\nhint: telltale up\n"
        );
        let echo = Err::<(), _>(io::Error::other("refused"))
            .context("connect: refused")
            .unwrap_err();
        assert_eq!(told(&echo), "error: connect: refused\n");
    }
}
