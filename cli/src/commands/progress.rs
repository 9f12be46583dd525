//! Progress on stderr: a bar on a terminal, a plain line every ten seconds without one.
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// Without a terminal a line is said this often at most.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// How far something has come.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    total: Option<u64>,
    began: Instant,
    said: Instant,
}

impl Progress {
    /// Begins; without a total there is no end to it.
    pub fn new(what: &'static str, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (bar, template) = match total {
                Some(total) => (
                    ProgressBar::new(total),
                    "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
                ),
                None => (
                    ProgressBar::new_spinner(),
                    "{spinner} {msg} {human_pos} {per_sec} {elapsed}",
                ),
            };
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_message(what);
            bar
        });
        let now = Instant::now();
        Self {
            what,
            bar,
            total,
            began: now,
            said: now,
        }
    }

    /// It has come so far.
    pub fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.said.elapsed() >= PLAIN_EVERY {
            self.said = Instant::now();
            let rate = done as f64 / self.began.elapsed().as_secs_f64();
            let of = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
            // Nobody may be listening; that is no reason to stop.
            writeln!(std::io::stderr().lock(), "{} {done}{of}, {rate:.0}/s", self.what).ok();
        }
    }

    /// Says something without disturbing the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| writeln!(std::io::stderr().lock(), "{text}").ok()),
            None => writeln!(std::io::stderr().lock(), "{text}").ok(),
        };
    }

    /// The end.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
