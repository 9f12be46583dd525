//! An intake whose outbox the test itself empties: it decides when and how an uplink is settled.
use crate::{
    credential::{ANY_THING, Credential, new_token},
    downlink::{Downlinks, Work},
    intake::{Intake, Parts},
    keyring::Keyring,
    metrics::Metrics,
    outbox::{Job, Outbox},
    uplink::Busy,
};
use std::sync::Arc;
use telltale_nats::{Name, publish::Outgoing, seal};
use tokio::sync::mpsc;

pub(crate) struct House {
    pub(crate) intake: Intake,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) lamp: Credential,
    pub(crate) lamp_secret: String,
    pub(crate) gateway_secret: String,
    jobs: mpsc::Receiver<Job>,
    metrics: Metrics,
    /// Nobody does it: the house has no broker.
    _work: Work,
}

/// The key of every test.
pub(crate) fn seal_key() -> seal::Key {
    seal::Key::parse(&"0123456789abcdef".repeat(4)).unwrap()
}

impl House {
    /// With the devices `lamp`, which covers itself, and `gateway`, which may do everything.
    pub(crate) fn new() -> Self {
        let (_, lamp_secret, lamp) = new_token("lamp");
        let (_, gateway_secret, gateway) = new_token("gateway");
        let gateway = Credential {
            things: vec![ANY_THING.into()],
            gateway: true,
            backfill: true,
            ..gateway
        };
        let keyring = Arc::new(Keyring::of([lamp.clone(), gateway]));
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let (outbox, jobs) = Outbox::new();
        let site = Name::new("local").unwrap();
        let (downlinks, work) = Downlinks::new(site.clone(), "bridge-1".into(), metrics.clone());
        let intake = Intake::new(Parts {
            site,
            key: seal_key(),
            keyring: keyring.clone(),
            outbox,
            pace: crate::pace::Pace::new(0),
            presence: crate::presence::Presence::new(std::time::Duration::from_secs(10)),
            downlinks,
            metrics: metrics.clone(),
        });
        Self {
            intake,
            keyring,
            lamp,
            lamp_secret,
            gateway_secret,
            jobs,
            metrics,
            _work: work,
        }
    }

    /// The next uplink in line, not settled yet.
    pub(crate) async fn next(&mut self) -> Job {
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), self.jobs.recv());
        next.await
            .expect("an uplink within ten seconds")
            .expect("the intake is alive")
    }

    /// Whether nothing is in line.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.jobs.try_recv().is_err()
    }

    pub(crate) fn settle(&self, job: Job, result: Result<(), Busy>) {
        job.settle(result, &self.metrics);
    }

    /// Confirms the next uplink and shows its messages.
    pub(crate) async fn confirm(&mut self) -> Vec<Outgoing> {
        let mut job = self.next().await;
        let messages = std::mem::take(&mut job.messages);
        self.settle(job, Ok(()));
        messages
    }
}

/// The value of a header.
pub(crate) fn value<'a>(message: &'a Outgoing, name: &str) -> Option<&'a str> {
    message
        .headers
        .iter()
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value.as_str())
}
