//! Asking before something is done that cannot be undone. Without a terminal only `--yes` agrees.
use super::exit::Refused;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Asks whether to do `what` («delete thing `lamp`»); whoever agrees types `word`.
pub fn ask(yes: bool, what: &str, word: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Refused::usage(format!("would {what}")).hint("add --yes").into());
    }
    write!(std::io::stderr().lock(), "{what}? Type `{word}`: ")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim() == word {
        return Ok(());
    }
    Err(Refused::usage("nothing was done").into())
}
