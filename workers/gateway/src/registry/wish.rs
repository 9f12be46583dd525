//! What the author of a description may say of its registration: how long it is to last.
//!
//! W3C WoT Discovery §6.2.2: of `registration`, `ttl` and `expires` are the author's; where there is a `ttl`, the
//! server computes `expires` and ignores the author's. `created`, `modified` and `retrieved` are the server's alone.
use serde_json::{Map, Value, json};
use telltale_schemas::{Timestamp, kinds::Fault, thing::Registered};

/// The member of a description that tells of its registration.
pub const MEMBER: &str = "registration";
/// The longest time that may be asked for, in seconds: a hundred years.
const TTL_MAX: f64 = 100.0 * 365.25 * 86_400.0;

/// How long a registration is to last.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Wish {
    /// Seconds from each time that it is written.
    pub ttl: Option<f64>,
    /// Until then; of no meaning where there is a `ttl`.
    pub expires: Option<Timestamp>,
}

impl Wish {
    /// Takes the `registration` out of a description.
    pub fn take(td: &mut Value) -> Result<Self, Vec<Fault>> {
        let registration = td.as_object_mut().and_then(|td| td.remove(MEMBER));
        let Some(registration) = registration else {
            return Ok(Self::default());
        };
        let Value::Object(members) = registration else {
            return Err(vec![Fault::at(
                "/registration",
                "`registration` must be an object",
            )]);
        };
        let (ttl, expires) = (ttl(&members), expires(&members));
        match (ttl, expires) {
            (Ok(ttl), Ok(expires)) => Ok(Self {
                ttl,
                expires: expires.filter(|_| ttl.is_none()),
            }),
            (ttl, expires) => Err([ttl.err(), expires.err()].into_iter().flatten().collect()),
        }
    }

    /// What was wished for a registration that stands.
    pub fn of(times: &Registered) -> Self {
        Self {
            ttl: times.ttl,
            expires: times.expires.filter(|_| times.ttl.is_none()),
        }
    }

    /// Puts it into a description, as its author would have.
    pub fn put(&self, td: &mut Value) {
        let mut registration = Map::new();
        if let Some(ttl) = self.ttl {
            registration.insert("ttl".to_owned(), json!(ttl));
        }
        if let Some(expires) = self.expires {
            registration.insert("expires".to_owned(), json!(expires));
        }
        if let (Some(td), false) = (td.as_object_mut(), registration.is_empty()) {
            td.insert(MEMBER.to_owned(), Value::Object(registration));
        }
    }

    /// The times of a registration that is written now.
    pub fn times(&self, created: Timestamp, now: Timestamp) -> Registered {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most a hundred years of microseconds"
        )]
        let runs_out = |ttl: f64| now.plus_micros((ttl * 1e6) as i64);
        Registered {
            created,
            modified: now,
            expires: self.ttl.map(runs_out).or(self.expires),
            ttl: self.ttl,
        }
    }
}

fn ttl(members: &Map<String, Value>) -> Result<Option<f64>, Fault> {
    match members.get("ttl") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let ttl = value.as_f64().filter(|ttl| *ttl > 0.0 && *ttl <= TTL_MAX);
            let wrong = || {
                let message =
                    format!("`{value}` is no number of seconds, more than 0 and at most a hundred years");
                Fault::at("/registration/ttl", message)
            };
            ttl.map(Some).ok_or_else(wrong)
        }
    }
}

fn expires(members: &Map<String, Value>) -> Result<Option<Timestamp>, Fault> {
    match members.get("expires") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let text = value.as_str().unwrap_or_default();
            let wrong = |_| Fault::at("/registration/expires", format!("`{value}` is no RFC 3339 time"));
            Timestamp::parse(text).map(Some).map_err(wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_ttl_decides_and_what_the_author_says_of_expiry_beside_it_does_not() {
        let mut td = json!({"title": "t", "registration": {"ttl": 60, "expires": "2030-01-01T00:00:00Z",
            "created": "1999-01-01T00:00:00Z"}});
        let wish = Wish::take(&mut td).unwrap();
        assert_eq!(td, json!({"title": "t"}));
        let times = wish.times(at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        assert_eq!(times.created, at("2026-01-01T00:00:00Z"));
        assert_eq!(times.modified, at("2026-01-02T00:00:00Z"));
        assert_eq!(times.expires, Some(at("2026-01-02T00:01:00Z")));
        assert_eq!(Wish::of(&times), wish);
    }

    #[test]
    fn an_absolute_expiry_is_taken_where_there_is_no_ttl() {
        let mut td = json!({"registration": {"expires": "2030-01-01T01:00:00+01:00", "ttl": null}});
        let wish = Wish::take(&mut td).unwrap();
        assert_eq!(wish.expires, Some(at("2030-01-01T00:00:00Z")));
        wish.put(&mut td);
        assert_eq!(td, json!({"registration": {"expires": "2030-01-01T00:00:00Z"}}));
        assert_eq!(Wish::take(&mut json!({})).unwrap(), Wish::default());
    }

    #[test]
    fn a_wish_that_cannot_be_is_refused_with_its_place() {
        for (wrong, pointer) in [
            (json!(7), "/registration"),
            (json!({"ttl": 0}), "/registration/ttl"),
            (json!({"ttl": -1}), "/registration/ttl"),
            (json!({"ttl": 1e300}), "/registration/ttl"),
            (json!({"ttl": "60"}), "/registration/ttl"),
            (json!({"expires": "soon"}), "/registration/expires"),
            (json!({"expires": 7}), "/registration/expires"),
        ] {
            let faults = Wish::take(&mut json!({"registration": wrong.clone()})).unwrap_err();
            assert_eq!(faults[0].pointer, pointer, "{wrong}");
        }
    }
}
