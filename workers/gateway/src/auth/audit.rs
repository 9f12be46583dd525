//! Who did what and when: an event `audit` of the thing that it was done to, or of the site. SQL has them in the view
//! `audit`.
use super::Scope;
use std::net::IpAddr;
use telltale_nats::{
    Lane, Name, Subject,
    async_nats::Client,
    header,
    publish::{Options, Outgoing, Publisher},
    rights::AUDIT,
};
use telltale_schemas::{Envelope, Event, Timestamp, id};
use tracing::error;

/// One thing that was done, or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose token, or which identity.
    pub who: String,
    /// With which right; none for an operator, who has all.
    pub scope: Option<Scope>,
    /// What: method and path, or the command.
    pub what: String,
    /// To which thing, if it is one.
    pub thing: Option<Name>,
    /// The status that it was answered with; none where the client had left by then, or there are no statuses.
    pub status: Option<u16>,
    /// From where.
    pub address: Option<IpAddr>,
}

/// Where it is written.
#[derive(Debug)]
pub struct Audit {
    publisher: Publisher,
    site: Name,
    stage: &'static str,
}

impl Audit {
    /// The gateway's.
    pub(crate) fn new(client: Client, site: Name) -> Self {
        Self::by(client, site, "gateway")
    }

    /// Written by that stage.
    pub fn by(client: Client, site: Name, stage: &'static str) -> Self {
        let publisher = Publisher::new(client, Options::default());
        Self {
            publisher,
            site,
            stage,
        }
    }

    /// Writes an entry, and returns once the broker has it. What the broker does not take goes to the log: the deed is
    /// done already.
    pub async fn record(&self, entry: &Entry) {
        let thing = entry.thing.as_ref().unwrap_or(&self.site);
        self.write(thing, event(entry)).await;
    }

    /// Writes an event of the site itself.
    pub(crate) async fn tell(&self, event: Event) {
        self.write(&self.site, event).await;
    }

    async fn write(&self, thing: &Name, event: Event) {
        let detail = event.detail.clone();
        let outcome = match self.message(thing, event) {
            Ok(message) => self
                .publisher
                .send(message)
                .await
                .map(drop)
                .map_err(anyhow::Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            error!(?detail, "an audit entry could not be written: {error:#}");
        }
    }

    fn message(&self, thing: &Name, event: Event) -> anyhow::Result<Outgoing> {
        let name = Name::new(event.name.as_str())?;
        let id = id::of(thing.plain(), &format!("audit.{:032x}", rand::random::<u128>()));
        let source = format!("/{}/{}", self.site.plain(), self.stage);
        let envelope = Envelope::new(&id, source, thing.plain(), Timestamp::now(), event);
        let subject = Subject::named(Lane::Event, self.site.clone(), thing.clone(), name);
        Ok(Outgoing {
            subject: subject.to_string(),
            headers: vec![
                (header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()),
                (header::MSG_ID, id),
            ],
            payload: serde_json::to_vec(&envelope)?.into(),
            stream: Lane::Event.stream(),
        })
    }
}

fn event(entry: &Entry) -> Event {
    let mut event = Event::new(AUDIT)
        .with("who", entry.who.as_str())
        .with("what", entry.what.as_str());
    if let Some(scope) = entry.scope {
        event = event.with("scope", scope.word());
    }
    if let Some(status) = entry.status {
        event = event.with("status", status);
    }
    if let Some(address) = entry.address {
        event = event.with("address", address.to_string());
    }
    event
}
