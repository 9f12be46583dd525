//! People and programs that ask the gateway: the bucket `people`, kept by watch, so that a token that is taken away
//! ends within moments.
use super::{Scope, audit::Audit};
use axum::http::{HeaderMap, StatusCode, header};
use futures::{StreamExt as _, TryStreamExt as _};
use prometheus::IntCounterVec;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq as _;
use telltale_nats::{
    Name,
    async_nats::{
        Client,
        jetstream::kv::{Entry, Operation, Store},
    },
    client,
};
use telltale_runtime::{
    Check,
    identity::{
        guard::Guard,
        refusals::{Refusals, Refused},
        token,
    },
    web::Problem,
};
use telltale_schemas::{Timestamp, id};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The bucket that holds them, one value for each token, under its name as a token of a subject.
pub const BUCKET: &str = "people";
/// The word for how people come, in what is told of those who were refused.
const PROTOCOL: &str = "gateway";
/// How often it is looked for whom to tell of.
const TELL: Duration = Duration::from_secs(1);
/// Pause before the watch is opened again.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// An entry of the bucket `people`: one token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Whose it is; it stands in the audit of all that is done with it.
    pub name: String,
    /// SHA-256 of the secret, lower-case hex. The secret has 256 random bits: nothing slower is needed.
    pub hash: String,
    /// What it is for.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl Person {
    /// Of a fresh secret, with the token to hand over. The secret exists nowhere else afterwards.
    pub fn new_token(name: &Name, scopes: Vec<Scope>, expires: Option<Timestamp>) -> (String, Self) {
        let secret = token::new_secret();
        let person = Self {
            name: name.plain().to_owned(),
            hash: id::digest(secret.as_bytes()),
            scopes,
            created: Timestamp::now(),
            expires,
        };
        (token::join(name.plain(), &secret), person)
    }

    /// Whether the token is for that.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// Whether that is its secret.
    fn is_proven_by(&self, secret: &str) -> bool {
        let digest = Sha256::digest(secret.as_bytes());
        let mut expected = [0; 32];
        let is_hash = self.hash.len() == 64
            && (expected.iter_mut().zip(self.hash.as_bytes().chunks_exact(2))).all(|(byte, digits)| {
                let digits = std::str::from_utf8(digits).ok();
                let read = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                *byte = read.unwrap_or_default();
                read.is_some()
            });
        is_hash && digest.as_slice().ct_eq(&expected).into()
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl fmt::Debug for Person {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Person")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The people that are known, and where what they do is written; cheap to clone.
#[derive(Debug, Clone)]
pub struct People(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// By name; none until the bucket was read.
    known: RwLock<Option<HashMap<String, Arc<Person>>>>,
    /// Told of each change of them.
    changed: watch::Sender<()>,
    guard: Guard,
    refused: IntCounterVec,
    refusals: Refusals,
    audit: Audit,
}

impl People {
    /// Nobody yet, and what keeps them known until stopped, and tells of those who were refused, whom `refused`
    /// counts; `check` is ready while it does.
    pub fn follow<'a>(
        client: &Client,
        site: &Name,
        refused: IntCounterVec,
        check: Check,
        stop: &'a CancellationToken,
    ) -> (Self, impl Future<Output = ()> + use<'a>) {
        let people = Self(Arc::new(Inner {
            known: RwLock::new(None),
            changed: watch::Sender::new(()),
            guard: Guard::new(),
            refused,
            refusals: Refusals::default(),
            audit: Audit::new(client.clone(), site.clone()),
        }));
        let (following, context) = (people.clone(), client::context(client.clone()));
        let telling = people.clone();
        let keep = async move {
            loop {
                let opened = async {
                    let store = context.get_key_value(BUCKET).await?;
                    following.keep(&store, &check).await
                };
                tokio::select! {
                    () = stop.cancelled() => return,
                    Err(error) = opened => {
                        warn!("cannot follow the bucket of people: {error:#}");
                        check.set_unready("the bucket `people` cannot be followed");
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(WATCH_RETRY) => {}
                }
            }
        };
        let follow = async move {
            tokio::join!(keep, telling.tell(stop));
        };
        (people, follow)
    }

    /// Tells of those who were refused, until stopped, and then once more.
    async fn tell(&self, stop: &CancellationToken) {
        let mut tick = tokio::time::interval(TELL);
        loop {
            let is_end = tokio::select! {
                () = stop.cancelled() => true,
                _ = tick.tick() => false,
            };
            for (_, event) in self.0.refusals.due(Instant::now(), is_end) {
                self.0.audit.tell(event).await;
            }
            if is_end {
                return;
            }
        }
    }

    /// Counts and notes somebody who is refused, and says so.
    fn refuse(&self, reason: &'static str, name: Option<&str>, is_ours: bool, from: IpAddr) {
        self.0.refused.with_label_values(&[reason]).inc();
        let name = name.filter(|name| Name::new(*name).is_ok()).map(str::to_owned);
        self.0.refusals.note(Refused {
            name: name.clone().filter(|_| is_ours),
            protocol: PROTOCOL,
            reason,
            address: from,
            wanted: name,
        });
    }

    /// Where what they do is written.
    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    async fn keep(&self, store: &Store, check: &Check) -> anyhow::Result<std::convert::Infallible> {
        // The watch first: what changes while the rest is read comes after it.
        let mut changes = store.watch_all().await?;
        let mut known = HashMap::new();
        let mut keys = store.keys().await?;
        while let Some(key) = keys.try_next().await? {
            if let Some(entry) = store.entry(&key).await? {
                heed(&mut known, &entry);
            }
        }
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        self.0.changed.send_replace(());
        check.set_ready();
        info!("following the bucket of people");
        while let Some(change) = changes.next().await {
            let change = change?;
            {
                let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
                heed(known.get_or_insert_default(), &change);
            }
            self.0.changed.send_replace(());
        }
        anyhow::bail!("the watch has ended")
    }

    /// Waits until that token is taken away, replaced by another, for other things than before, or over.
    pub(crate) async fn until_gone(&self, person: &Person) {
        let mut changed = self.0.changed.subscribe();
        loop {
            let now = Timestamp::now();
            if !self.is_known(person) || person.is_over(now) {
                return;
            }
            let over = async {
                match person.expires {
                    Some(expires) => {
                        let left = u64::try_from(expires.as_micros() - now.as_micros()).unwrap_or_default();
                        tokio::time::sleep(Duration::from_micros(left)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // We hold the sender ourselves.
                _ = changed.changed() => {}
                () = over => {}
            }
        }
    }

    /// Also while the bucket cannot be read: nobody has taken it away then.
    fn is_known(&self, person: &Person) -> bool {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .is_none_or(|known| known.get(&person.name).is_some_and(|known| **known == *person))
    }

    /// Who it is that sends these headers.
    pub(crate) fn admit(&self, headers: &HeaderMap, from: IpAddr) -> Result<Arc<Person>, Problem> {
        let mut said = headers.get_all(header::AUTHORIZATION).iter();
        let claim = match (said.next(), said.next()) {
            (Some(value), None) => token::bearer(value.as_bytes()),
            _ => None,
        };
        let Some((name, secret)) = claim else {
            self.refuse("missing", None, false, from);
            return Err(Problem::unauthorized(
                "say `Authorization: Bearer <name>.<secret>`; `telltale token create` makes one",
            ));
        };
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.as_ref() else {
            return Err(Problem::away("tokens cannot be checked now"));
        };
        // First, so that nobody's guesses lock out whoever has the secret.
        let person = known.get(name);
        match person.filter(|person| person.is_proven_by(secret)) {
            Some(person) if person.is_over(Timestamp::now()) => {
                self.refuse("expired", Some(name), true, from);
                return Err(Problem::unauthorized("the token has expired"));
            }
            Some(person) => return Ok(person.clone()),
            None => {}
        }
        let is_ours = person.is_some();
        // Of what can be no name, which may be long, nothing is remembered.
        if is_ours || Name::new(name).is_ok() {
            let guessed = self.0.guard.take(name, from, Instant::now());
            guessed.map_err(|wait| {
                self.refuse("slowed", Some(name), is_ours, from);
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many attempts").with_retry_after(wait)
            })?;
        }
        let reason = if is_ours { "secret" } else { "unknown" };
        self.refuse(reason, Some(name), is_ours, from);
        Err(Problem::unauthorized("name and secret do not match"))
    }
}

fn heed(known: &mut HashMap<String, Arc<Person>>, entry: &Entry) {
    let Ok(name) = Name::from_token(&entry.key) else {
        return;
    };
    let person = (entry.operation == Operation::Put)
        .then(|| serde_json::from_slice::<Person>(&entry.value))
        .transpose();
    match person {
        Ok(Some(person)) if person.name == name.plain() => {
            known.insert(person.name.clone(), Arc::new(person));
        }
        Ok(found) => {
            if found.is_some() {
                warn!("the token under `{name}` is another's");
            }
            known.remove(name.plain());
        }
        Err(error) => {
            warn!(%error, "the token of `{name}` cannot be read");
            known.remove(name.plain());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        Name::new("ann").unwrap()
    }

    #[test]
    fn a_token_proves_its_own_person_and_no_other() {
        let (said, person) = Person::new_token(&name(), vec![Scope::ThingsRead], None);
        let (said_name, secret) = token::split(&said).unwrap();
        assert_eq!(said_name, "ann");
        assert!(person.is_proven_by(secret));
        assert!(!person.is_proven_by("guess") && !person.is_proven_by(""));
        for hash in ["", "zz", &"g".repeat(64), &"+1".repeat(32)] {
            let broken = Person {
                hash: hash.to_owned(),
                ..person.clone()
            };
            assert!(!broken.is_proven_by(secret), "{hash}");
        }
        let shown = format!("{person:?}");
        assert!(
            !shown.contains(secret) && !shown.contains(&person.hash),
            "{shown}"
        );
    }

    #[test]
    fn a_scope_is_had_or_comes_with_admin() {
        let (_, reader) = Person::new_token(&name(), vec![Scope::ThingsRead], None);
        let (_, admin) = Person::new_token(&name(), vec![Scope::Admin], None);
        for scope in Scope::ALL {
            assert!(admin.may(scope));
            assert_eq!(reader.may(scope), scope == Scope::ThingsRead);
        }
    }

    #[test]
    fn a_token_ends_when_it_says() {
        let now = Timestamp::now();
        let (_, person) = Person::new_token(&name(), Vec::new(), Some(now));
        assert!(person.is_over(now));
        let before = now.plus_micros(-1);
        assert!(!person.is_over(before));
    }
}
