//! What is known of the `things` bucket, in bounded memory: the newest revision of each thing wins, whichever of
//! the watch and a get brought it.
//!
//! The bound is in bytes. As long as there is room, what nobody has asked for yet is kept too.
use super::texts::Texts;
use lru::LruCache;
use std::{collections::HashMap, sync::Arc};

/// What an entry of the cache costs beside its texts: its node, its place in the table, its allocations.
const ENTRY_BYTES: usize = 240;
/// What a text costs beside its bytes.
const TEXT_BYTES: usize = 48;

/// What the bucket says of one thing.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Of the entry, or of its deletion; 0 where there never was one.
    pub(super) revision: u64,
    /// `None` where nobody registered it; the error where the entry cannot be used.
    pub(super) entry: Result<Option<Texts>, Arc<str>>,
}

/// A get that is under way. The cache counts them, so that a watch's update knows whom it has to reach.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) thing: String,
    era: u64,
}

#[derive(Debug, Default)]
struct Fetching {
    gets: usize,
    newest: Option<Known>,
}

/// Answer of [`Cache::begin`].
#[derive(Debug)]
pub(super) enum Lookup {
    Known(Known),
    Fetch(Ticket),
}

/// The cache itself; no I/O, and the caller holds the lock.
#[derive(Debug)]
pub(super) struct Cache {
    known: LruCache<Box<str>, Known>,
    /// Each shared text once, and how many entries have it.
    texts: HashMap<Arc<str>, usize>,
    bytes: usize,
    bytes_max: usize,
    fetching: HashMap<String, Fetching>,
    /// Counts how often the bucket turned out to be another one.
    era: u64,
    /// Something was forgotten or passed over: of what is not here, something newer may have been seen.
    has_gaps: bool,
}

impl Cache {
    /// One that holds about so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            known: LruCache::unbounded(),
            texts: HashMap::new(),
            bytes: 0,
            bytes_max,
            fetching: HashMap::new(),
            era: 0,
            has_gaps: false,
        }
    }

    /// What is known, or leave to ask the bucket. Whoever gets a ticket gives it back to [`Self::finish`].
    pub(super) fn begin(&mut self, thing: &str) -> Lookup {
        if let Some(known) = self.known.get(thing) {
            return Lookup::Known(known.clone());
        }
        self.fetching.entry(thing.to_owned()).or_default().gets += 1;
        Lookup::Fetch(Ticket {
            thing: thing.to_owned(),
            era: self.era,
        })
    }

    /// What the bucket answered to a get (`None`: nothing, it failed). The newest of it, of what the watch
    /// brought in the meantime, and of what another get found, is kept and returned.
    pub(super) fn finish(&mut self, ticket: &Ticket, got: Option<Known>) -> Option<Known> {
        let watched = self.fetching.get_mut(&ticket.thing).and_then(|fetching| {
            fetching.gets -= 1;
            fetching.newest.clone()
        });
        if self
            .fetching
            .get(&ticket.thing)
            .is_some_and(|fetching| fetching.gets == 0)
        {
            self.fetching.remove(&ticket.thing);
        }
        let got = got.filter(|_| ticket.era == self.era);
        let cached = self.known.peek(ticket.thing.as_str()).cloned();
        let newest = [got, watched, cached]
            .into_iter()
            .flatten()
            .max_by_key(|known| known.revision)?;
        self.keep(&ticket.thing, newest.clone());
        self.shrink();
        Some(newest)
    }

    /// What the watch brought.
    pub(super) fn update(&mut self, thing: &str, update: &Known) {
        self.learn(thing, update);
        if let Some(fetching) = self.fetching.get_mut(thing) {
            fetching.newest = Some(update.clone());
        }
    }

    /// What was in the bucket at some time of this era. `false`: it is of no use any more to go on.
    pub(super) fn offer(&mut self, thing: &str, found: &Known, era: u64) -> bool {
        // With gaps, what is not here may have been changed since, and nobody would notice.
        if self.has_gaps || self.era != era {
            return false;
        }
        self.learn(thing, found);
        !self.has_gaps
    }

    /// Keeps it, unless something newer is known, or nobody asked for it and there is no room.
    fn learn(&mut self, thing: &str, news: &Known) {
        let old = self.known.peek(thing).map(|known| known.revision);
        match old {
            Some(revision) if revision >= news.revision => {}
            Some(_) => {
                self.keep(thing, news.clone());
                self.shrink();
            }
            None if self.bytes + cost(thing, news) > self.bytes_max => self.has_gaps = true,
            None => {
                self.keep(thing, news.clone());
                // Whoever is asked for stays longer.
                self.known.demote(thing);
            }
        }
    }

    fn keep(&mut self, thing: &str, mut known: Known) {
        if let Ok(Some(texts)) = &mut known.entry {
            self.share(texts);
        }
        self.bytes += own_cost(thing, &known);
        if let Some((_, old)) = self.known.push(Box::from(thing), known) {
            self.let_go(thing, &old);
        }
    }

    fn shrink(&mut self) {
        while self.bytes > self.bytes_max {
            let Some((thing, old)) = self.known.pop_lru() else {
                return;
            };
            self.let_go(&thing, &old);
            self.has_gaps = true;
        }
    }

    /// One text for all that have it.
    fn share(&mut self, texts: &mut Texts) {
        let Some(text) = &mut texts.shared else { return };
        if let Some((same, _)) = self.texts.get_key_value(text) {
            *text = same.clone();
        } else {
            self.bytes += text_cost(text);
        }
        *self.texts.entry(text.clone()).or_default() += 1;
    }

    fn let_go(&mut self, thing: &str, old: &Known) {
        self.bytes -= own_cost(thing, old);
        let Ok(Some(Texts {
            shared: Some(text), ..
        })) = &old.entry
        else {
            return;
        };
        if let Some(uses) = self.texts.get_mut(text) {
            *uses -= 1;
            if *uses == 0 {
                self.texts.remove(text);
                self.bytes -= text_cost(text);
            }
        }
    }

    /// The bucket was made anew: revisions count from 1 again, and nothing known holds any more.
    pub(super) fn reset(&mut self) {
        self.era += 1;
        self.known.clear();
        self.texts.clear();
        self.bytes = 0;
        for fetching in self.fetching.values_mut() {
            fetching.newest = None;
        }
    }

    /// Which of its lives the bucket is in.
    pub(super) fn era(&self) -> u64 {
        self.era
    }

    /// How much it holds: entries, gets under way.
    #[cfg(test)]
    fn sizes(&self) -> (usize, usize) {
        (self.known.len(), self.fetching.len())
    }
}

fn text_cost(text: &str) -> usize {
    TEXT_BYTES + text.len()
}

/// What it costs by itself.
fn own_cost(thing: &str, known: &Known) -> usize {
    let own = match &known.entry {
        Ok(Some(texts)) => texts.own.as_deref().map_or(0, text_cost),
        Ok(None) => 0,
        Err(problem) => text_cost(problem),
    };
    ENTRY_BYTES + thing.len() + own
}

/// What it costs at most, its shared text included.
fn cost(thing: &str, known: &Known) -> usize {
    let shared = match &known.entry {
        Ok(Some(texts)) => texts.shared.as_deref().map_or(0, text_cost),
        Ok(None) | Err(_) => 0,
    };
    own_cost(thing, known) + shared
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One with room for so many entries without texts, with names of one letter.
    fn cache(entries_max: usize) -> Cache {
        Cache::new(entries_max * (ENTRY_BYTES + 1))
    }

    fn texts(shared: &str, own: &str) -> Texts {
        let some = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        Texts {
            shared: some(shared),
            own: some(own),
        }
    }

    fn at(revision: u64) -> Known {
        Known {
            revision,
            entry: Ok(Some(Texts::default())),
        }
    }

    fn absent(revision: u64) -> Known {
        Known {
            revision,
            entry: Ok(None),
        }
    }

    fn ticket(cache: &mut Cache, thing: &str) -> Ticket {
        match cache.begin(thing) {
            Lookup::Fetch(ticket) => ticket,
            Lookup::Known(known) => panic!("already known: {known:?}"),
        }
    }

    fn known(cache: &mut Cache, thing: &str) -> u64 {
        match cache.begin(thing) {
            Lookup::Known(known) => known.revision,
            Lookup::Fetch(_) => panic!("not known"),
        }
    }

    #[test]
    fn an_update_during_the_get_wins_over_the_older_answer() {
        let mut cache = cache(4);
        let asked = ticket(&mut cache, "t");
        cache.update("t", &at(9));
        assert_eq!(cache.finish(&asked, Some(at(5))).unwrap().revision, 9);
        assert_eq!(known(&mut cache, "t"), 9);
    }

    #[test]
    fn a_deletion_during_the_get_wins_too() {
        let mut cache = cache(4);
        let asked = ticket(&mut cache, "t");
        cache.update("t", &absent(9));
        assert!(
            cache
                .finish(&asked, Some(at(5)))
                .unwrap()
                .entry
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_get_that_saw_more_than_the_watch_wins() {
        let mut cache = cache(4);
        let asked = ticket(&mut cache, "t");
        cache.update("t", &at(5));
        assert_eq!(cache.finish(&asked, Some(at(9))).unwrap().revision, 9);
        cache.update("t", &at(7));
        assert_eq!(known(&mut cache, "t"), 9, "a late update does not take it back");
    }

    #[test]
    fn of_two_gets_the_slower_and_older_does_not_overwrite() {
        let mut cache = cache(4);
        let (slow, quick) = (ticket(&mut cache, "t"), ticket(&mut cache, "t"));
        assert_eq!(cache.finish(&quick, Some(at(9))).unwrap().revision, 9);
        assert_eq!(cache.finish(&slow, Some(at(5))).unwrap().revision, 9);
        assert_eq!(cache.sizes(), (1, 0));
    }

    #[test]
    fn a_failed_get_is_saved_by_the_watch_or_leaves_nothing() {
        let mut cache = cache(4);
        let asked = ticket(&mut cache, "t");
        assert!(cache.finish(&asked, None).is_none());
        assert_eq!(cache.sizes(), (0, 0));
        let asked = ticket(&mut cache, "t");
        cache.update("t", &at(3));
        assert_eq!(cache.finish(&asked, None).unwrap().revision, 3);
    }

    #[test]
    fn it_is_bounded_and_forgets_what_was_used_least() {
        let mut cache = cache(2);
        for thing in ["a", "b", "c"] {
            let asked = ticket(&mut cache, thing);
            cache.finish(&asked, Some(absent(0)));
        }
        assert_eq!(cache.sizes(), (2, 0));
        ticket(&mut cache, "a");
        assert_eq!(known(&mut cache, "c"), 0);
        for n in 0..100 {
            cache.update(&format!("unasked-{n}"), &at(n));
        }
        assert_eq!(cache.sizes(), (2, 1), "what nobody asked for takes nobody's room");
    }

    #[test]
    fn what_nobody_asked_for_is_kept_while_there_is_room_and_goes_first() {
        let mut cache = cache(2);
        cache.update("a", &at(1));
        assert!(cache.offer("b", &at(2), 0));
        assert!(cache.offer("a", &at(1), 0), "known already");
        assert_eq!((known(&mut cache, "a"), cache.sizes()), (1, (2, 0)));
        let asked = ticket(&mut cache, "c");
        cache.finish(&asked, Some(at(3)));
        assert_eq!(known(&mut cache, "a"), 1);
        ticket(&mut cache, "b");
    }

    #[test]
    fn what_was_read_before_a_change_does_not_come_back_after_it() {
        let mut cache = cache(1);
        cache.update("a", &at(1));
        cache.update("b", &at(9));
        cache.update("a", &absent(10));
        assert!(!cache.offer("b", &at(2), 0), "the change of b was passed over");
        assert_eq!(cache.sizes(), (1, 0));

        let mut cache = self::cache(4);
        cache.update("t", &absent(9));
        assert!(cache.offer("t", &at(2), 0));
        assert_eq!(known(&mut cache, "t"), 9, "deleted since");
        cache.reset();
        assert!(!cache.offer("t", &at(9), 0), "of a former bucket");
    }

    #[test]
    fn what_many_have_in_common_is_kept_once_and_counted_once() {
        let mut cache = Cache::new(1 << 20);
        let model = "m".repeat(1_000);
        let of = |revision, shared: &str, own: &str| Known {
            revision,
            entry: Ok(Some(texts(shared, own))),
        };
        for n in 0..100 {
            cache.update(&format!("{n:03}"), &of(n, &model, "own"));
        }
        let own = ENTRY_BYTES + 3 + text_cost("own");
        assert_eq!(cache.bytes, 100 * own + text_cost(&model));
        let shared = |cache: &mut Cache, thing| match cache.begin(thing) {
            Lookup::Known(Known {
                entry: Ok(Some(Texts { shared, .. })),
                ..
            }) => shared.unwrap(),
            other => panic!("{other:?}"),
        };
        assert!(Arc::ptr_eq(
            &shared(&mut cache, "007"),
            &shared(&mut cache, "099")
        ));
        for n in 0..100 {
            cache.update(&format!("{n:03}"), &of(1_000, "", "own"));
        }
        assert_eq!((cache.bytes, cache.texts.len()), (100 * own, 0));
    }

    #[test]
    fn one_large_entry_makes_others_go_and_never_more_than_the_bound_stays() {
        let mut cache = cache(3);
        for thing in ["a", "b", "c"] {
            cache.update(thing, &at(1));
        }
        let large = Known {
            revision: 2,
            entry: Ok(Some(texts("", &"x".repeat(ENTRY_BYTES)))),
        };
        cache.update("c", &large);
        assert!(cache.bytes <= cache.bytes_max && cache.sizes().0 < 3);
        let asked = ticket(&mut cache, "huge");
        let huge = Known {
            revision: 3,
            entry: Ok(Some(texts("", &"x".repeat(10_000)))),
        };
        assert_eq!(cache.finish(&asked, Some(huge)).unwrap().revision, 3);
        assert_eq!((cache.bytes, cache.sizes()), (0, (0, 0)), "used, and not kept");
    }

    #[test]
    fn an_answer_of_the_former_bucket_is_not_kept() {
        let mut cache = cache(4);
        let first = ticket(&mut cache, "known");
        cache.finish(&first, Some(at(40)));
        let asked = ticket(&mut cache, "t");
        cache.update("t", &at(50));
        cache.reset();
        assert!(cache.finish(&asked, Some(at(50))).is_none());
        assert_eq!(cache.sizes(), (0, 0));
    }
}
