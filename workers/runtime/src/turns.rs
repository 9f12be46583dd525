//! One message at a time for each thing, in the order of arrival.
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::Hash,
};

/// Who may go next. A key has at most one item out between [`Turns::next`] and [`Turns::done`].
#[derive(Debug)]
pub(crate) struct Turns<K, T> {
    ready: VecDeque<(K, T)>,
    /// An entry for each key that is ready or out; what waits behind it.
    behind: HashMap<K, VecDeque<T>>,
    len: usize,
}

impl<K: Hash + Eq + Clone, T> Turns<K, T> {
    pub(crate) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            behind: HashMap::new(),
            len: 0,
        }
    }

    /// How many wait, ready or behind another; those that are out do not count.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Arrives.
    pub(crate) fn push(&mut self, key: K, item: T) {
        self.len += 1;
        match self.behind.entry(key) {
            Entry::Occupied(mut line) => line.get_mut().push_back(item),
            Entry::Vacant(place) => {
                self.ready.push_back((place.key().clone(), item));
                place.insert(VecDeque::new());
            }
        }
    }

    /// Goes out.
    pub(crate) fn next(&mut self) -> Option<(K, T)> {
        let next = self.ready.pop_front()?;
        self.len -= 1;
        Some(next)
    }

    /// Is back, and the next of that key may go.
    pub(crate) fn done(&mut self, key: &K) {
        let Some(line) = self.behind.get_mut(key) else {
            return;
        };
        match line.pop_front() {
            Some(item) => self.ready.push_back((key.clone(), item)),
            None => {
                self.behind.remove(key);
            }
        }
    }

    /// Is back undone: it goes before all others.
    pub(crate) fn again(&mut self, key: K, item: T) {
        self.len += 1;
        self.ready.push_front((key, item));
    }

    /// Forgets all that wait.
    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        self.behind.clear();
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_has_one_message_out_and_keeps_its_order() {
        let mut turns = Turns::new();
        for (thing, n) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            turns.push(thing, n);
        }
        assert_eq!(turns.len(), 4);
        assert_eq!(turns.next(), Some(("a", 1)));
        assert_eq!(turns.next(), Some(("b", 3)));
        assert_eq!(turns.next(), None, "`a` is out");
        turns.done(&"b");
        turns.done(&"a");
        assert_eq!(turns.next(), Some(("a", 2)));
        turns.again("a", 2);
        assert_eq!(turns.next(), Some(("a", 2)), "what comes back undone goes first");
        turns.done(&"a");
        assert_eq!(turns.next(), Some(("a", 4)));
        turns.done(&"a");
        assert_eq!((turns.len(), turns.next()), (0, None));
        assert!(
            turns.behind.is_empty(),
            "nothing is kept of a thing that is quiet"
        );
    }
}
