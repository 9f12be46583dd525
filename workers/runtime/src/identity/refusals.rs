//! Who was refused, told as events `access_refused`.
//!
//! The first refusal of its kind is told at once, the following ones are counted and told once a minute: whoever
//! guesses writes no stream full. A name that nobody of ours ever had makes no subject and no kind of its own: it
//! stands in the detail of an event of the site itself.
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use telltale_schemas::Event;

/// The event's name. No device may raise one of this name.
pub use telltale_nats::rights::ACCESS_REFUSED as EVENT;
/// Refusals of one kind are told again after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// Kinds of refusals that are told apart; what comes beyond is told of the site.
const KINDS_MAX: usize = 1_000;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Who, where it is one of ours.
    pub name: Option<String>,
    /// How it came.
    pub protocol: &'static str,
    /// The word of the metric.
    pub reason: &'static str,
    /// From where.
    pub address: IpAddr,
    /// What it wanted to be, or to write as.
    pub wanted: Option<String>,
}

type Kind = (Option<String>, &'static str, &'static str);

#[derive(Debug)]
struct Count {
    untold: u64,
    latest: Refused,
    told: Option<Instant>,
}

/// What is to be told.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Kind, Count>>);

impl Refusals {
    /// Takes a refusal in.
    pub fn note(&self, refused: Refused) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = (refused.name.clone(), refused.protocol, refused.reason);
        if counts.len() >= KINDS_MAX && !counts.contains_key(&kind) {
            kind.0 = None;
        }
        let count = counts.entry(kind).or_insert_with(|| Count {
            untold: 0,
            latest: refused.clone(),
            told: None,
        });
        count.untold += 1;
        count.latest = refused;
    }

    /// The events that are due, and whose: one of ours, or nobody's. At the `end`, all that is untold.
    pub fn due(&self, now: Instant, end: bool) -> Vec<(Option<String>, Event)> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        counts.retain(|(name, ..), count| {
            let is_quiet = count
                .told
                .is_none_or(|told| now.saturating_duration_since(told) >= AGAIN);
            if count.untold == 0 {
                return !is_quiet;
            }
            if is_quiet || end {
                due.push((name.clone(), event(count)));
                count.untold = 0;
                count.told = Some(now);
            }
            true
        });
        due
    }
}

fn event(count: &Count) -> Event {
    let latest = &count.latest;
    let event = Event::new(EVENT)
        .with("reason", latest.reason)
        .with("protocol", latest.protocol)
        .with("address", latest.address.to_string())
        .with("times", count.untold);
    match &latest.wanted {
        Some(wanted) => event.with("wanted", wanted.as_str()),
        None => event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: Option<&str>, reason: &'static str) -> Refused {
        Refused {
            name: name.map(str::to_owned),
            protocol: "mqtt",
            reason,
            address: IpAddr::from([192, 0, 2, 1]),
            wanted: Some("pillar".into()),
        }
    }

    #[test]
    fn the_first_refusal_is_told_at_once_and_the_rest_once_a_minute() {
        let (refusals, begun) = (Refusals::default(), Instant::now());
        refusals.note(refused(Some("lamp"), "secret"));
        let due = refusals.due(begun, false);
        let [(Some(device), event)] = due.as_slice() else {
            panic!("{due:?}")
        };
        assert_eq!((device.as_str(), event.name.as_str()), ("lamp", EVENT));
        assert_eq!(
            serde_json::to_value(&event.detail).unwrap(),
            serde_json::json!({
                "reason": "secret", "protocol": "mqtt", "address": "192.0.2.1", "times": 1, "wanted": "pillar",
            })
        );
        for _ in 0..500 {
            refusals.note(refused(Some("lamp"), "secret"));
        }
        assert!(refusals.due(begun + Duration::from_secs(59), false).is_empty());
        let due = refusals.due(begun + Duration::from_secs(60), false);
        assert_eq!(due[0].1.detail["times"], 500);
        refusals.note(refused(Some("lamp"), "secret"));
        assert_eq!(
            refusals.due(begun + Duration::from_secs(61), true).len(),
            1,
            "the end waits for no minute"
        );
    }

    #[test]
    fn kinds_are_told_apart_up_to_a_limit_and_forgotten_when_quiet() {
        let (refusals, begun) = (Refusals::default(), Instant::now());
        for n in 0..KINDS_MAX + 50 {
            refusals.note(refused(Some(&format!("lamp-{n}")), "secret"));
        }
        refusals.note(refused(None, "unknown"));
        let due = refusals.due(begun, false);
        assert_eq!(
            due.iter().filter(|(device, _)| device.is_some()).count(),
            KINDS_MAX
        );
        let told = |(_, event): &(Option<String>, Event)| event.detail["times"].as_u64().unwrap();
        assert_eq!(
            due.iter().map(told).sum::<u64>(),
            KINDS_MAX as u64 + 51,
            "none is lost"
        );
        assert!(refusals.due(begun + AGAIN, false).is_empty());
        assert!(refusals.0.lock().unwrap().is_empty());
    }
}
