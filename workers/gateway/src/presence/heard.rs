//! Who was heard of, and who is overdue. No clock and no broker: both are the caller's.
use std::{collections::HashMap, time::Duration};
use telltale_nats::Name;
use telltale_schemas::kinds::Change;
use tokio::time::Instant;

/// A thing is stale after so many of its intervals: one reading may be lost, and one late.
const INTERVALS: u32 = 3;
/// Each further silence within this time doubles the patience, up to as much: the stream of registrations is kept
/// for ever, and no device may fill it.
const FORGET: Duration = Duration::from_hours(1);

/// What is known of the things that have an interval.
#[derive(Debug, Default)]
pub(super) struct Heard {
    things: HashMap<Name, Thing>,
}

#[derive(Debug)]
struct Thing {
    interval: Duration,
    /// Of its entry.
    revision: u64,
    /// When it spoke last, or since when we listen.
    last: Instant,
    /// What was said of it last; `None`: nothing, or we could not say it.
    said: Option<Change>,
    /// Id of its last reading, or of what was said of it.
    cause: String,
    /// How often it was told to be stale lately, and when last.
    falls: u32,
    fell: Option<Instant>,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    pub(super) thing: Name,
    pub(super) change: Change,
    /// Of the thing's entry.
    pub(super) revision: u64,
    pub(super) interval: Duration,
    /// Id of the message that it follows from.
    pub(super) cause: String,
}

impl Heard {
    /// What is expected of a thing from now on; `None`: nothing, or it is not registered any more.
    pub(super) fn expect(&mut self, thing: Name, interval: Option<Duration>, revision: u64, now: Instant) {
        let Some(interval) = interval else {
            self.things.remove(&thing);
            return;
        };
        let known = self.things.entry(thing).or_insert_with(|| Thing {
            interval,
            revision,
            last: now,
            said: None,
            cause: String::new(),
            falls: 0,
            fell: None,
        });
        (known.interval, known.revision) = (interval, revision);
    }

    /// Somebody said that of its device: we did, another gateway, or the bridge.
    pub(super) fn said(&mut self, thing: &Name, change: Change, id: &str, now: Instant) {
        if let Some(known) = self.things.get_mut(thing) {
            if change == Change::Online && known.said != Some(Change::Online) {
                known.last = now;
            }
            known.said = Some(change);
            if known.cause.is_empty() {
                id.clone_into(&mut known.cause);
            }
        }
    }

    /// It spoke. What is to be told of that, if anything.
    pub(super) fn heard(&mut self, thing: &Name, id: &str, now: Instant) -> Option<News> {
        let (name, known) = (thing, self.things.get_mut(thing)?);
        known.last = now;
        id.clone_into(&mut known.cause);
        (known.said != Some(Change::Online)).then(|| known.tell(name, Change::Online))
    }

    /// Those that are online and have been silent for too long.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<News> {
        self.things
            .iter_mut()
            .filter_map(|(name, known)| {
                if !known.is_overdue(now) {
                    return None;
                }
                known.falls = known.recent_falls(now) + 1;
                known.fell = Some(now);
                Some(known.tell(name, Change::Stale))
            })
            .collect()
    }

    /// It could not be told: what follows next says it again.
    pub(super) fn untold(&mut self, news: &News) {
        if let Some(known) = self.things.get_mut(&news.thing) {
            known.said = match news.change {
                Change::Stale => Some(Change::Online),
                _ => None,
            };
        }
    }
}

impl Thing {
    fn is_overdue(&self, now: Instant) -> bool {
        let usual = self.interval.saturating_mul(INTERVALS);
        let doubled = usual.saturating_mul(1 << self.recent_falls(now).min(16));
        self.said == Some(Change::Online)
            && now.saturating_duration_since(self.last) > doubled.min(usual.max(FORGET))
    }

    fn recent_falls(&self, now: Instant) -> u32 {
        let is_recent = |fell: Instant| now.saturating_duration_since(fell) < FORGET;
        if self.fell.is_some_and(is_recent) {
            self.falls
        } else {
            0
        }
    }

    fn tell(&mut self, name: &Name, change: Change) -> News {
        self.said = Some(change);
        News {
            thing: name.clone(),
            change,
            revision: self.revision,
            interval: self.interval,
            cause: self.cause.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// One that expects something of `t` each minute.
    fn listening(now: Instant) -> Heard {
        let mut heard = Heard::default();
        heard.expect(name("t"), Some(MINUTE), 7, now);
        heard
    }

    #[test]
    fn a_thing_is_online_with_its_first_reading_and_that_is_told_once() {
        let now = Instant::now();
        let mut heard = listening(now);
        let news = heard.heard(&name("t"), "t:1", now).unwrap();
        assert_eq!(
            (news.change, news.revision, news.cause.as_str()),
            (Change::Online, 7, "t:1")
        );
        assert_eq!(heard.heard(&name("t"), "t:2", now), None);
        assert_eq!(
            heard.heard(&name("u"), "u:1", now),
            None,
            "nothing is expected of it"
        );
    }

    #[test]
    fn it_is_stale_after_three_intervals_and_online_when_it_speaks_again() {
        let now = Instant::now();
        let mut heard = listening(now);
        assert_eq!(heard.overdue(now + 9 * MINUTE), [], "one that never spoke");
        heard.heard(&name("t"), "t:1", now);
        assert_eq!(heard.overdue(now + 3 * MINUTE), []);
        let later = now + 3 * MINUTE + Duration::from_secs(1);
        let [news] = heard.overdue(later).try_into().unwrap();
        assert_eq!((news.change, news.cause.as_str()), (Change::Stale, "t:1"));
        assert_eq!(heard.overdue(later + MINUTE), [], "told once");
        let back = heard.heard(&name("t"), "t:2", later + MINUTE).unwrap();
        assert_eq!((back.change, back.cause.as_str()), (Change::Online, "t:2"));
    }

    #[test]
    fn what_others_said_is_not_said_again() {
        let now = Instant::now();
        let mut heard = listening(now);
        heard.said(&name("t"), Change::Online, "t:0.gateway.online", now);
        assert_eq!(heard.heard(&name("t"), "t:1", now), None);
        heard.said(&name("t"), Change::Offline, "t:bye", now);
        assert_eq!(heard.overdue(now + 9 * MINUTE), [], "who has gone is not stale");
        assert!(
            heard.heard(&name("t"), "t:2", now).is_some(),
            "it speaks by another way"
        );
    }

    #[test]
    fn after_a_start_silence_counts_from_the_start_and_names_what_was_said_last() {
        let now = Instant::now();
        let mut heard = listening(now);
        heard.said(&name("t"), Change::Online, "t:0.gateway.online", now);
        let [news] = heard.overdue(now + 4 * MINUTE).try_into().unwrap();
        assert_eq!(news.cause, "t:0.gateway.online");
    }

    #[test]
    fn another_interval_holds_at_once_and_without_one_nothing_is_expected() {
        let now = Instant::now();
        let mut heard = listening(now);
        heard.heard(&name("t"), "t:1", now);
        heard.expect(name("t"), Some(10 * MINUTE), 8, now + MINUTE);
        assert_eq!(heard.overdue(now + 9 * MINUTE), []);
        heard.expect(name("t"), Some(MINUTE), 9, now + MINUTE);
        assert_eq!(heard.overdue(now + 9 * MINUTE).len(), 1);
        heard.expect(name("t"), None, 10, now);
        assert_eq!(heard.heard(&name("t"), "t:2", now), None);
    }

    #[test]
    fn what_could_not_be_told_is_told_with_what_comes_next() {
        let now = Instant::now();
        let mut heard = listening(now);
        let news = heard.heard(&name("t"), "t:1", now).unwrap();
        heard.untold(&news);
        assert!(heard.heard(&name("t"), "t:2", now).is_some());
        let [news] = heard.overdue(now + 4 * MINUTE).try_into().unwrap();
        heard.untold(&news);
        assert_eq!(heard.overdue(now + 15 * MINUTE).len(), 1);
    }

    #[test]
    fn a_thing_that_falls_silent_again_and_again_is_told_of_ever_more_rarely() {
        let begin = Instant::now();
        let mut heard = listening(begin);
        let (mut now, mut told) = (begin, 0);
        // A reading each four minutes, where one a minute is expected.
        while now < begin + 60 * MINUTE {
            heard.heard(&name("t"), "t:1", now);
            now += 4 * MINUTE;
            told += heard.overdue(now).len();
        }
        assert_eq!(told, 1);
        heard.heard(&name("t"), "t:2", now);
        assert_eq!(
            heard.overdue(now + 20 * MINUTE).len(),
            1,
            "silent for longer, it is"
        );
        heard.heard(&name("t"), "t:3", now + 90 * MINUTE);
        assert_eq!(
            heard.overdue(now + 94 * MINUTE).len(),
            1,
            "forgotten after an hour"
        );
    }
}
