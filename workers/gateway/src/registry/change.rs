//! One thing, by its description: created, replaced, patched, taken away.
use super::{Error, Found, Registry, announce::Changed, away, wish::Wish};
use serde_json::{Map, Value};
use telltale_nats::{Name, async_nats::jetstream::kv};
use telltale_schemas::{
    Timestamp,
    kinds::{Change, Fault},
    td,
    thing::Entry,
};

/// Attempts to write one entry while others write it too.
pub(super) const CONTESTS_MAX: usize = 5;
/// The largest entry, in bytes: what the bucket takes, and a little less.
const ENTRY_MAX: usize = 255 * 1024;

/// What came of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The thing as it stands now.
    pub found: Found,
    /// What was told; none where all is as it was, or only lasts anew.
    pub change: Option<Change>,
}

/// What is to become of an entry.
pub(super) enum Decision {
    /// It is right as it is.
    Keep(Box<Found>),
    /// This; and as what it is told.
    Write(Box<Entry>, Option<Change>),
}

impl Registry {
    /// Registers a thing that is not there yet. A description without an `id` gets one: a random URN (RFC 9562).
    pub async fn create(&self, mut td: Value, by: Option<&str>) -> Result<Written, Error> {
        let wish = Wish::take(&mut td).map_err(Error::Invalid)?;
        let members = td.as_object_mut();
        if let Some(members) = members.filter(|members| !members.contains_key("id")) {
            members.insert("id".to_owned(), Value::String(new_id()));
        }
        let entry = entry(td, wish, None)?;
        let thing = thing_of(&entry)?;
        let known = || Error::Known(thing.plain().to_owned());
        let decide = |found: Option<&Found>| match found.filter(|found| found.entry.td.is_some()) {
            Some(_) => Err(known()),
            None => Ok(Decision::Write(Box::new(entry.clone()), Some(Change::Created))),
        };
        self.write(&thing, None, by, decide).await
    }

    /// Registers a thing, or replaces its description, whose `id` must be that thing's. `revision`: only over that.
    pub async fn replace(
        &self,
        thing: &Name,
        mut td: Value,
        revision: Option<u64>,
        by: Option<&str>,
    ) -> Result<Written, Error> {
        let wish = Wish::take(&mut td).map_err(Error::Invalid)?;
        let same_id = td.get("id").and_then(Value::as_str).and_then(td::thing_name);
        let entry = entry(td, wish, None)?;
        if same_id.as_deref() != Some(thing.plain()) {
            let message = format!(
                "`id` is another than that of the path, `{}`",
                td::thing_id(thing.plain())
            );
            return Err(Error::Invalid(vec![Fault::at("/id", message)]));
        }
        let decide = |found: Option<&Found>| {
            let old = found.filter(|found| found.entry.td.is_some());
            let Some(old) = old else {
                return Ok(Decision::Write(Box::new(entry.clone()), Some(Change::Created)));
            };
            Ok(renewed(old, entry.clone(), wish))
        };
        self.write(thing, revision, by, decide).await
    }

    /// Changes parts of a description (RFC 7396). An empty patch makes a registration with a `ttl` last anew.
    pub async fn patch(
        &self,
        thing: &Name,
        patch: &Value,
        revision: Option<u64>,
        by: Option<&str>,
    ) -> Result<Written, Error> {
        if !patch.is_object() {
            let message = "a patch of a description is an object".to_owned();
            return Err(Error::Invalid(vec![Fault::at("", message)]));
        }
        let decide = |found: Option<&Found>| {
            let old = found.filter(|found| found.entry.td.is_some());
            let old = old.ok_or_else(|| Error::Unknown(thing.plain().to_owned()))?;
            let mut td = old.entry.td.clone().unwrap_or_default();
            let id = td.get("id").cloned();
            if let Some(times) = &old.entry.registration {
                Wish::of(times).put(&mut td);
            }
            let mut td = td::merge::patch(td, patch);
            let wish = Wish::take(&mut td).map_err(Error::Invalid)?;
            if td.get("id") != id.as_ref() {
                let message =
                    "the `id` of a thing stays: register another thing, and delete this one".to_owned();
                return Err(Error::Invalid(vec![Fault::at("/id", message)]));
            }
            Ok(renewed(old, self::entry(td, wish, Some(old))?, wish))
        };
        self.write(thing, revision, by, decide).await
    }

    /// Takes a thing away, described or not, and tells it as `change`, a word without an entry. `revision`: only
    /// that one.
    pub async fn remove(
        &self,
        thing: &Name,
        change: Change,
        revision: Option<u64>,
        by: Option<&str>,
    ) -> Result<Found, Error> {
        self.take_away(thing, change, revision, by, Map::new()).await
    }

    /// Takes a thing away that goes to another site, which is to register it afterwards.
    pub async fn moved(&self, thing: &Name, to: &Name, by: Option<&str>) -> Result<Found, Error> {
        let detail = Map::from_iter([("to".to_owned(), to.plain().into())]);
        self.take_away(thing, Change::Moved, None, by, detail).await
    }

    async fn take_away(
        &self,
        thing: &Name,
        change: Change,
        revision: Option<u64>,
        by: Option<&str>,
        detail: Map<String, Value>,
    ) -> Result<Found, Error> {
        let store = self.store().await?;
        for _ in 0..CONTESTS_MAX {
            let found = store.entry(thing.token()).await.map_err(away)?;
            let found = found.as_ref().and_then(Found::read);
            let found = found.ok_or_else(|| Error::Unknown(thing.plain().to_owned()))?;
            if revision.is_some_and(|revision| revision != found.revision) {
                return Err(Error::Stale(thing.plain().to_owned()));
            }
            let deleted = store.delete_expect_revision(thing.token(), Some(found.revision));
            match deleted.await {
                Ok(()) => {}
                Err(error) if error.kind() == kv::DeleteErrorKind::WrongLastRevision => continue,
                Err(error) => return Err(away(error)),
            }
            self.0.index.lost(thing, found.revision).await;
            let changed = Changed {
                thing,
                change,
                revision: found.revision,
                entry: None,
                by,
                detail,
            };
            self.0.announce(changed).await?;
            return Ok(found);
        }
        Err(Error::Contested(thing.plain().to_owned()))
    }

    /// Writes what `decide` makes of what is there, and never over what it did not see.
    pub(super) async fn write(
        &self,
        thing: &Name,
        revision: Option<u64>,
        by: Option<&str>,
        decide: impl Fn(Option<&Found>) -> Result<Decision, Error>,
    ) -> Result<Written, Error> {
        let store = self.store().await?;
        for _ in 0..CONTESTS_MAX {
            let there = store.entry(thing.token()).await.map_err(away)?;
            let found = there.as_ref().and_then(Found::read);
            if let Some(found) = found.as_ref().filter(|found| found.is_expired(Timestamp::now())) {
                // It is gone already for everybody; its end is told before its new beginning.
                match self
                    .remove(thing, Change::Expired, Some(found.revision), None)
                    .await
                {
                    Ok(_) | Err(Error::Stale(_) | Error::Unknown(_)) => continue,
                    Err(error) => return Err(error),
                }
            }
            let is_stale = |wanted| found.as_ref().is_none_or(|found| found.revision != wanted);
            if revision.is_some_and(is_stale) {
                return Err(Error::Stale(thing.plain().to_owned()));
            }
            let (entry, change) = match decide(found.as_ref())? {
                Decision::Keep(found) => {
                    return Ok(Written {
                        found: *found,
                        change: None,
                    });
                }
                Decision::Write(entry, change) => (*entry, change),
            };
            let value = serde_json::to_vec(&entry).map_err(away)?;
            if value.len() > ENTRY_MAX {
                return Err(Error::TooLarge(thing.plain().to_owned()));
            }
            let last = there.as_ref().map_or(0, |there| there.revision);
            let revision = match store.update(thing.token(), value.into(), last).await {
                Ok(revision) => revision,
                Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => continue,
                Err(error) => return Err(away(error)),
            };
            self.0.index.reached(revision).await;
            if let Some(change) = change {
                let changed = Changed {
                    thing,
                    change,
                    revision,
                    entry: Some(&entry),
                    by,
                    detail: Map::new(),
                };
                self.0.announce(changed).await?;
            }
            let found = Found { revision, entry };
            return Ok(Written { found, change });
        }
        Err(Error::Contested(thing.plain().to_owned()))
    }
}

/// A described thing with another description or another wish; since when it is there stays.
fn renewed(old: &Found, mut entry: Entry, wish: Wish) -> Decision {
    let now = Timestamp::now();
    let times = old.entry.registration;
    let is_same = old.entry.td == entry.td;
    let same_wish = times.is_some_and(|times| Wish::of(&times) == wish);
    if is_same && same_wish && wish.ttl.is_none() {
        return Decision::Keep(Box::new(old.clone()));
    }
    entry.registration = Some(wish.times(times.map_or(now, |times| times.created), now));
    // What only lasts anew is no news to those who go by descriptions.
    Decision::Write(
        Box::new(entry),
        (!is_same || !same_wish).then_some(Change::Updated),
    )
}

/// The entry of a description, with what is compiled from it.
fn entry(td: Value, wish: Wish, old: Option<&Found>) -> Result<Entry, Error> {
    let now = Timestamp::now();
    let created = old
        .and_then(|old| old.entry.registration)
        .map(|times| times.created);
    td::entry(td, wish.times(created.unwrap_or(now), now)).map_err(Error::Invalid)
}

fn thing_of(entry: &Entry) -> Result<Name, Error> {
    Name::new(entry.thing.as_str()).map_err(|error| Error::Invalid(vec![Fault::at("/id", error.to_string())]))
}

/// The `id` of a description that came without one.
fn new_id() -> String {
    let random = rand::random::<u128>();
    // Version 4, variant 10 (RFC 9562 §5.4).
    let bits = random & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let groups = [8, 4, 4, 4, 12].into_iter().scan(hex.chars(), |rest, length| {
        Some(rest.by_ref().take(length).collect::<String>())
    });
    format!("urn:uuid:{}", groups.collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_id_is_a_random_uuid_and_a_name() {
        let id = new_id();
        let uuid = id.strip_prefix("urn:uuid:").unwrap();
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(uuid.as_bytes()[14], b'4', "{uuid}");
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert!(Name::new(td::thing_name(&id).unwrap()).is_ok());
        assert_ne!(id, new_id());
    }
}
