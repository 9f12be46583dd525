//! What a worker needs from the broker, told by its types.
use telltale_nats::{
    Lane,
    manifest::{Consumer, Manifest},
};

/// What is said of a worker by its constants and types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) name: &'static str,
    pub(crate) reads: &'static [Lane],
    pub(crate) writes: &'static [Lane],
    pub(crate) events: &'static [&'static str],
    pub(crate) commands: &'static [&'static str],
    pub(crate) buckets: &'static [&'static str],
    pub(crate) keeps: &'static [&'static str],
    pub(crate) ordered: bool,
    pub(crate) api: &'static [&'static str],
    pub(crate) observes: &'static [&'static str],
}

/// The constants of both kinds of workers have the same names, but belong to two traits.
macro_rules! needs {
    ($worker:ident, $ordered:literal) => {
        Needs {
            name: $worker::NAME,
            reads: <$worker::Input as crate::Inbound>::LANES,
            writes: <$worker::Output as crate::Outbound>::LANES,
            events: $worker::EVENTS,
            commands: $worker::COMMANDS,
            buckets: $worker::BUCKETS,
            keeps: $worker::KEEPS,
            ordered: $ordered,
            api: $worker::API,
            observes: $worker::OBSERVES,
        }
    };
}

impl Needs {
    pub(crate) fn of<W: crate::Worker>() -> Self {
        needs!(W, false)
    }

    pub(crate) fn of_batch<W: crate::BatchWorker>() -> Self {
        needs!(W, false)
    }

    pub(crate) fn of_ordered<W: crate::OrderedWorker>() -> Self {
        needs!(W, true)
    }

    /// What `--manifest` prints.
    pub(crate) fn manifest(&self) -> Manifest {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Manifest {
            name: self.name.to_owned(),
            inputs: self.reads.to_vec(),
            outputs: self.writes.to_vec(),
            events: owned(self.events),
            commands: owned(self.commands),
            buckets: owned(self.buckets),
            keeps: owned(self.keeps),
            ordered: self.ordered,
            sql: Vec::new(),
            consumer: Consumer::default(),
            api: owned(self.api),
            observes: owned(self.observes),
        }
    }
}
