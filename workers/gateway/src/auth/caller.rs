//! Who asks: the extractor with which every handler begins, and the layer that audits what came of it.
use super::{Person, Scope, audit::Entry};
use crate::app::App;
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{Method, header, request::Parts},
    middleware::Next,
    response::Response,
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use telltale_nats::Name;
use telltale_runtime::web::{Peer, Problem, body};
use tracing::warn;

/// Longest path that stands in an audit entry, in characters.
const PATH_MAX: usize = 256;

/// Whoever sent a request, with a token that was checked.
#[derive(Debug, Clone)]
pub struct Caller {
    person: Arc<Person>,
    asked: Asked,
}

/// Who used which scope in a request. Shared by the extractor, which writes it, and the layer, which reads it.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<Option<Used>>>);

/// Who used which scope.
type Used = (Arc<Person>, Scope);

impl Asked {
    /// A write is remembered before a read.
    fn note(&self, person: &Arc<Person>, scope: Scope) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.as_ref().is_none_or(|(_, before)| !before.writes()) {
            *asked = Some((person.clone(), scope));
        }
    }

    /// Who asked, where somebody did.
    fn person(&self) -> Option<Arc<Person>> {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.as_ref().map(|(person, _)| person.clone())
    }

    fn take(&self) -> Option<Used> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.take().filter(|(_, scope)| scope.writes())
    }
}

impl Caller {
    /// Refuses (403) unless the token is for that. Whatever is asked for with a scope that writes is audited, also
    /// where it is refused.
    pub fn may(&self, scope: Scope) -> Result<(), Problem> {
        self.asked.note(&self.person, scope);
        if self.person.may(scope) {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "the token of `{}` is not for this: it lacks the scope `{scope}`",
            self.person.name
        )))
    }

    /// Whose token it is.
    pub fn name(&self) -> &str {
        &self.person.name
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let person = app.people().admit(&parts.headers, peer(parts.extensions.get()))?;
        let asked = parts.extensions.get::<Asked>().cloned().unwrap_or_default();
        Ok(Self { person, asked })
    }
}

fn peer(peer: Option<&Peer>) -> IpAddr {
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0)
}

/// A layer: audits every request that used a scope which writes, before it is answered; and an answer that goes on
/// breaks off when its token is taken away.
pub(crate) async fn watch(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let asked = Asked::default();
    request.extensions_mut().insert(asked.clone());
    let mut watched = Watched {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        address: peer(request.extensions().get()),
        app,
        asked,
    };
    let response = next.run(request).await;
    let person = watched.asked.person();
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok());
    if let Some(entry) = watched.entry(Some(response.status().as_u16()), location) {
        let app = watched.app.clone();
        // A task of its own: the client may leave just now.
        let recorded = tokio::spawn(async move { app.people().audit().record(&entry).await });
        drop(recorded.await);
    }
    let Some(person) = person else {
        return response;
    };
    let people = watched.app.people().clone();
    body::until(response, async move { people.until_gone(&person).await })
}

/// A request under way. A client that leaves takes its handler with it, but not what that has done already: the entry
/// is written all the same.
struct Watched {
    app: App,
    method: Method,
    path: String,
    address: IpAddr,
    asked: Asked,
}

impl Watched {
    /// What is to be written, once.
    fn entry(&mut self, status: Option<u16>, location: Option<&str>) -> Option<Entry> {
        let (person, scope) = self.asked.take()?;
        let path: String = self.path.chars().take(PATH_MAX).collect();
        Some(Entry {
            who: person.name.clone(),
            scope: Some(scope),
            what: format!("{} {path}", self.method),
            thing: thing_of(location.unwrap_or_default()).or_else(|| thing_of(&self.path)),
            status,
            address: Some(self.address),
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(entry) = self.entry(None, None) {
            warn!("a client left before its answer: {}", entry.what);
            let app = self.app.clone();
            tokio::spawn(async move { app.people().audit().record(&entry).await });
        }
    }
}

/// The thing of a path `/things/{id}…`.
fn thing_of(path: &str) -> Option<Name> {
    let escaped = path.strip_prefix("/things/")?.split('/').next()?;
    crate::registry::name(&unescape(escaped)?)
}

/// Percent-decoded, as the handlers see it.
fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thing_of_a_path_is_its_id_unescaped() {
        for (path, thing) in [
            ("/things/lamp", Some("lamp")),
            ("/things/urn%3Adev%3A1/credentials", Some("urn:dev:1")),
            ("/things/urn:dev:1/actions/on", Some("urn:dev:1")),
            ("/things/a%2Fb", Some("a/b")),
            ("/things/", None),
            ("/things", None),
            ("/things/%zz", None),
            ("/query", None),
        ] {
            let found = thing_of(path);
            assert_eq!(found.as_ref().map(Name::plain), thing, "{path}");
        }
    }

    #[test]
    fn a_write_is_remembered_before_a_read_and_a_read_alone_is_not_audited() {
        let (_, person) = Person::new_token(&Name::new("ann").unwrap(), vec![Scope::Admin], None);
        let caller = Caller {
            person: Arc::new(person),
            asked: Asked::default(),
        };
        assert!(caller.may(Scope::DataRead).is_ok());
        assert!(caller.asked.take().is_none());
        assert!(caller.may(Scope::ThingsWrite).is_ok() && caller.may(Scope::ThingsRead).is_ok());
        assert_eq!(
            caller.asked.take().map(|(_, scope)| scope),
            Some(Scope::ThingsWrite)
        );
    }

    #[test]
    fn a_token_that_is_not_for_it_is_refused_by_name_and_scope() {
        let (_, person) = Person::new_token(&Name::new("ann").unwrap(), vec![Scope::DataRead], None);
        let caller = Caller {
            person: Arc::new(person),
            asked: Asked::default(),
        };
        let problem = caller.may(Scope::Command).unwrap_err();
        assert_eq!(problem.status().as_u16(), 403);
        assert!(problem.detail().contains("`ann`") && problem.detail().contains("`command`"));
        assert!(caller.asked.take().is_some(), "what is refused is audited too");
    }
}
