//! Ctrl-C: the first says «finish what you have», the second «leave now».
use std::io::Write as _;
use tokio::{signal::unix, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// What a command looks at while it works.
#[derive(Debug)]
pub struct Interrupt {
    /// Take no more work, finish what is begun.
    pub drain: CancellationToken,
    /// Leave at once.
    pub leave: CancellationToken,
    _listener: JoinSet<()>,
}

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> anyhow::Result<Self> {
        let mut interrupts = unix::signal(unix::SignalKind::interrupt())?;
        let mut terminations = unix::signal(unix::SignalKind::terminate())?;
        let (drain, leave) = (CancellationToken::new(), CancellationToken::new());
        let (first, second) = (drain.clone(), leave.clone());
        let mut listener = JoinSet::new();
        listener.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                }
                if first.is_cancelled() {
                    second.cancel();
                    return;
                }
                writeln!(
                    std::io::stderr().lock(),
                    "finishing what is under way; Ctrl-C again leaves at once"
                )
                .ok();
                first.cancel();
            }
        });
        Ok(Self {
            drain,
            leave,
            _listener: listener,
        })
    }

    /// Whether it was asked for at all.
    pub fn came(&self) -> bool {
        self.drain.is_cancelled()
    }
}
