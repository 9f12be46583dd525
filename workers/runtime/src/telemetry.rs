//! Logs, to standard error.
use crate::args::LogFormat;
use anyhow::Context as _;
use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
};
use telltale_schemas::text;
use tracing_subscriber::EnvFilter;

/// Turns logging on for the process; a second call changes nothing.
pub(crate) fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    // The client's own lines repeat what we say of a connection.
    let filter = EnvFilter::try_new(format!("async_nats=error,{filter}"))
        .with_context(|| format!("read the log filter `{filter}`"))?;
    let is_colourful = matches!(format, LogFormat::Auto | LogFormat::Compact) && io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || OneLine {
            to: io::stderr(),
            is_colourful,
        });
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Compact => false,
    };
    let set = if json {
        lines.json().flatten_event(true).with_span_list(false).try_init()
    } else {
        lines.compact().with_ansi(is_colourful).try_init()
    };
    if set.is_err() {
        tracing::debug!("logging was on already");
    }
    Ok(())
}

/// Takes a whole event with each write, and sees to it that it is one line and commands no terminal, whatever a
/// device or publisher has put into it. A log that finds no room is not written, and nobody is told: to complain
/// there is nowhere, and a panic would be worse.
struct OneLine<W> {
    to: W,
    is_colourful: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = one_line(text.strip_suffix('\n').unwrap_or(&text), self.is_colourful);
        self.to.write_all(line.as_bytes()).ok();
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush().ok();
        Ok(())
    }
}

/// With an end of line. Where there are colours, theirs are the only sequences that stay.
fn one_line(text: &str, is_colourful: bool) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let colour = if is_colourful { colour(rest) } else { 0 };
        let length = if colour > 0 { colour } else { next.len_utf8() };
        let (part, after) = rest.split_at(length);
        if colour == 0 && text::is_hostile(next) {
            // As JSON writes it, so that a line of JSON stays one.
            for unit in next.encode_utf16(&mut [0; 2]) {
                write!(line, "\\u{unit:04x}").expect("a String takes what is written");
            }
        } else {
            line.push_str(part);
        }
        rest = after;
    }
    line.push('\n');
    line
}

/// Bytes of the sequence that begins here, if all it does is to set a colour: `ESC [ 2 m`.
fn colour(text: &str) -> usize {
    let Some(numbers) = text.strip_prefix("\x1b[") else {
        return 0;
    };
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';');
    match end.filter(|end| numbers.as_bytes().get(*end) == Some(&b'm')) {
        Some(end) => "\x1b[".len() + end + 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let hostile = "id=a\nERROR forged\r\u{1b}]8;;http://evil\u{7}x\u{202e}y\u{2028}z";
        for colours in [false, true] {
            let line = one_line(hostile, colours);
            let told = "id=a\\u000aERROR forged\\u000d\\u001b]8;;http://evil\\u0007x\\u202ey\\u2028z\n";
            assert_eq!(line, told);
        }
        assert_eq!(one_line("\x1b[2mdim\x1b[0m é", true), "\x1b[2mdim\x1b[0m é\n");
        assert_eq!(one_line("\x1b[2mdim", false), "\\u001b[2mdim\n");
        assert_eq!(one_line("\x1b[2Jgone", true), "\\u001b[2Jgone\n");
    }

    #[test]
    fn a_log_that_finds_no_room_is_no_error() {
        let mut full = OneLine {
            to: std::fs::File::options().write(true).open("/dev/full").unwrap(),
            is_colourful: false,
        };
        full.write_all(b"an event\n").unwrap();
        full.flush().unwrap();
    }
}
