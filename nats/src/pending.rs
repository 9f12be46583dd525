//! Keys of the bucket `pending`: `<thing>.<command>`, so that whoever holds a thing can watch its commands alone; and
//! what becomes of a command, on its way to the stream.
use crate::{Lane, Name, Outgoing, Subject, header, subject};
use telltale_schemas::{Envelope, Outcome, id};

/// The bucket's name.
pub const BUCKET: &str = "pending";
/// Longest escaped id of a command that stands in a key; of a longer one its hash does.
const TOKEN_MAX: usize = 160;

/// The key of a thing's command of that id. One id has one key.
pub fn key(thing: &Name, command: &str) -> String {
    let escaped = subject::escape(command);
    let token = if escaped.len() > TOKEN_MAX {
        // No escaped text begins so.
        format!("_{}", id::digest(command.as_bytes()))
    } else {
        escaped
    };
    format!("{}.{token}", thing.token())
}

/// All keys of a thing's commands.
pub fn keys_of(thing: &Name) -> String {
    format!("{}.>", thing.token())
}

/// The thing that a key is about.
pub fn thing_of(key: &str) -> Option<Name> {
    let (thing, _) = key.split_once('.')?;
    Name::from_token(thing).ok()
}

/// An outcome as it is published at that site; none where a name of its cannot stand in a subject. Whoever says it
/// again says it under the same `Nats-Msg-Id`.
pub fn outcome(outcome: &Envelope<Outcome>, site: &Name) -> Option<Outgoing> {
    let thing = Name::new(outcome.subject.as_str()).ok()?;
    let name = Name::new(outcome.data.name.as_str()).ok()?;
    let mut headers = vec![(header::CONTENT_TYPE, header::CLOUDEVENT.to_owned())];
    let parent = outcome.traceparent.as_deref();
    let child = parent.and_then(|parent| id::child(parent, &outcome.id));
    headers.extend(child.map(|child| (header::TRACEPARENT, child)));
    headers.push((header::MSG_ID, outcome.id.clone()));
    Some(Outgoing {
        subject: Subject::named(Lane::Outcome, site.clone(), thing, name).to_string(),
        headers,
        payload: serde_json::to_vec(outcome).ok()?.into(),
        stream: Lane::Outcome.stream(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_has_one_key_which_tells_the_thing() {
        let thing = Name::new("urn:lamp:3").unwrap();
        let plain = key(&thing, "urn:lamp:3:01JB3V.a/b~");
        assert_eq!(plain, "urn=3Alamp=3A3.urn=3Alamp=3A3=3A01JB3V=2Ea=2Fb=7E");
        assert_eq!(thing_of(&plain), Some(thing.clone()));
        let long = "x".repeat(1_024);
        assert!(key(&thing, &long).len() < 250);
        assert_ne!(key(&thing, &long), key(&thing, &"x".repeat(1_023)));
        assert_ne!(key(&thing, "_x"), key(&thing, "=5Fx"));
        assert_eq!(keys_of(&thing), "urn=3Alamp=3A3.>");
        assert_eq!(thing_of("nothing"), None);
    }
}
