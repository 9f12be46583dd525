//! What is known of things, bounded; and the rule by which a watch wins over a slower get.
use lru::LruCache;
use std::{collections::HashMap, num::NonZeroUsize, sync::Arc};
use telltale_schemas::thing::Entry;

/// What the bucket says of one thing.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Of the entry, or of its deletion; 0 where there never was one.
    pub(super) revision: u64,
    /// `None` where nobody registered it; the error where the entry cannot be used.
    pub(super) entry: Result<Option<Arc<Entry>>, Arc<str>>,
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
    known: LruCache<String, Known>,
    fetching: HashMap<String, Fetching>,
    /// Counts how often the bucket turned out to be another one.
    era: u64,
}

impl Cache {
    pub(super) fn new(entries_max: NonZeroUsize) -> Self {
        Self {
            known: LruCache::new(entries_max),
            fetching: HashMap::new(),
            era: 0,
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
        let cached = self.known.peek(&ticket.thing).cloned();
        let newest = [got, watched, cached]
            .into_iter()
            .flatten()
            .max_by_key(|known| known.revision)?;
        self.known.put(ticket.thing.clone(), newest.clone());
        Some(newest)
    }

    /// What the watch brought. A thing that nobody asked for stays unknown.
    pub(super) fn update(&mut self, thing: &str, update: &Known) {
        if let Some(known) = self.known.peek_mut(thing)
            && known.revision < update.revision
        {
            *known = update.clone();
        }
        if let Some(fetching) = self.fetching.get_mut(thing) {
            fetching.newest = Some(update.clone());
        }
    }

    /// The bucket was made anew: revisions count from 1 again, and nothing known holds any more.
    pub(super) fn reset(&mut self) {
        self.era += 1;
        self.known.clear();
        for fetching in self.fetching.values_mut() {
            fetching.newest = None;
        }
    }

    /// How much it holds.
    #[cfg(test)]
    fn sizes(&self) -> (usize, usize) {
        (self.known.len(), self.fetching.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries_max: usize) -> Cache {
        Cache::new(NonZeroUsize::new(entries_max).unwrap())
    }

    fn at(revision: u64) -> Known {
        let entry = Entry {
            thing: format!("r{revision}"),
            ..Entry::default()
        };
        Known {
            revision,
            entry: Ok(Some(Arc::new(entry))),
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
        assert_eq!(cache.sizes(), (2, 1), "the watch alone adds nothing");
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
