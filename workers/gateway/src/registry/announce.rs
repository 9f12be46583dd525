//! Telling what changed: a `registration` on `thing.<site>.<thing>.<change>`.
use super::{Error, Inner};
use serde_json::{Map, Value};
use telltale_nats::{Lane, Name, Outgoing, Subject, header};
use telltale_schemas::{Envelope, Registration, Timestamp, kinds::Change, thing::Entry};

/// What changed.
pub(super) struct Changed<'a> {
    pub(super) thing: &'a Name,
    pub(super) change: Change,
    /// Of the entry that was written; of the one that is gone, where it was taken away.
    pub(super) revision: u64,
    /// The entry that is there now.
    pub(super) entry: Option<&'a Entry>,
    /// Who did it, if a person did.
    pub(super) by: Option<&'a str>,
    /// The particulars.
    pub(super) detail: Map<String, Value>,
}

impl Changed<'_> {
    /// One for each change: what is written has a revision of its own, what is taken away has that of its end.
    fn id(&self) -> String {
        let id = format!("{}:things.{}", self.thing.plain(), self.revision);
        match self.entry {
            Some(_) => id,
            None => format!("{id}.{}", self.change.word()),
        }
    }
}

impl Inner {
    /// Returns when the stream has it.
    pub(super) async fn announce(&self, changed: Changed<'_>) -> Result<(), Error> {
        let registration = Registration {
            change: changed.change,
            revision: changed.revision,
            entry: changed.entry.cloned().map(Box::new),
            by: changed.by.map(ToOwned::to_owned),
            detail: changed.detail.clone(),
        };
        self.tell(changed.thing, changed.id(), None, registration).await
    }

    /// The same of any change, under that id; `cause` is the id of the message that it follows from.
    pub(super) async fn tell(
        &self,
        thing: &Name,
        id: String,
        cause: Option<&str>,
        registration: Registration,
    ) -> Result<(), Error> {
        let untold = |why: String| Error::Untold {
            thing: thing.plain().to_owned(),
            why,
        };
        let word = Name::new(registration.change.word()).map_err(|error| untold(error.to_string()))?;
        let source = format!("/{}/{}", self.site.plain(), self.stage);
        let mut envelope = Envelope::new(id, source, thing.plain(), Timestamp::now(), registration);
        envelope.causationid = cause.map(ToOwned::to_owned);
        let subject = Subject::named(Lane::Thing, self.site.clone(), thing.clone(), word);
        let outgoing = Outgoing {
            subject: subject.to_string(),
            headers: vec![
                (header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()),
                (header::MSG_ID, envelope.id.clone()),
            ],
            payload: serde_json::to_vec(&envelope)
                .map_err(|error| untold(error.to_string()))?
                .into(),
            stream: Lane::Thing.stream(),
        };
        let sent = self.publisher.send(outgoing).await;
        sent.map(|_| ()).map_err(|error| untold(error.to_string()))
    }
}
