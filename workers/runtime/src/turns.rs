//! One message at a time for each thing, in the order of arrival.
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::Hash,
};

/// Which of two queues an item stands in when it is its key's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Those that are tried for the first time.
    First,
    /// Those that failed before.
    Again,
}

/// Who may go next. A key has at most one item out between [`Turns::next`] and [`Turns::done`].
#[derive(Debug)]
pub(crate) struct Turns<K, T> {
    ready: [VecDeque<(K, T)>; 2],
    /// An entry for each key that is ready or out; what waits behind it.
    behind: HashMap<K, VecDeque<(Queue, T)>>,
    len: usize,
}

impl<K: Hash + Eq + Clone, T> Turns<K, T> {
    pub(crate) fn new() -> Self {
        Self {
            ready: [VecDeque::new(), VecDeque::new()],
            behind: HashMap::new(),
            len: 0,
        }
    }

    /// How many wait, ready or behind another; those that are out do not count.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Arrives.
    pub(crate) fn push(&mut self, key: K, queue: Queue, item: T) {
        self.len += 1;
        match self.behind.entry(key) {
            Entry::Occupied(mut line) => line.get_mut().push_back((queue, item)),
            Entry::Vacant(place) => {
                self.ready[queue as usize].push_back((place.key().clone(), item));
                place.insert(VecDeque::new());
            }
        }
    }

    /// Goes out.
    pub(crate) fn next(&mut self, queue: Queue) -> Option<(K, T)> {
        let next = self.ready[queue as usize].pop_front()?;
        self.len -= 1;
        Some(next)
    }

    /// Is back, and the next of that key may go.
    pub(crate) fn done(&mut self, key: &K) {
        let Some(line) = self.behind.get_mut(key) else {
            return;
        };
        match line.pop_front() {
            Some((queue, item)) => self.ready[queue as usize].push_back((key.clone(), item)),
            None => {
                self.behind.remove(key);
            }
        }
    }

    /// Is back undone: it goes before all others.
    pub(crate) fn again(&mut self, key: K, queue: Queue, item: T) {
        self.len += 1;
        self.ready[queue as usize].push_front((key, item));
    }

    /// Forgets all that wait.
    pub(crate) fn clear(&mut self) {
        self.ready.iter_mut().for_each(VecDeque::clear);
        self.behind.clear();
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Queue::*, *};

    #[test]
    fn a_thing_has_one_message_out_and_keeps_its_order() {
        let mut turns = Turns::new();
        for (thing, n) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            turns.push(thing, First, n);
        }
        assert_eq!(turns.len(), 4);
        assert_eq!(turns.next(First), Some(("a", 1)));
        assert_eq!(turns.next(First), Some(("b", 3)));
        assert_eq!(turns.next(First), None, "`a` is out");
        turns.done(&"b");
        turns.done(&"a");
        assert_eq!(turns.next(First), Some(("a", 2)));
        turns.again("a", First, 2);
        assert_eq!(
            turns.next(First),
            Some(("a", 2)),
            "what comes back undone goes first"
        );
        turns.done(&"a");
        assert_eq!(turns.next(First), Some(("a", 4)));
        turns.done(&"a");
        assert_eq!((turns.len(), turns.next(First)), (0, None));
        assert!(
            turns.behind.is_empty(),
            "nothing is kept of a thing that is quiet"
        );
    }

    #[test]
    fn what_failed_before_stands_in_a_queue_of_its_own_and_still_waits_for_its_thing() {
        let mut turns = Turns::new();
        turns.push("a", Again, 1);
        turns.push("b", First, 2);
        turns.push("a", First, 3);
        assert_eq!(turns.next(First), Some(("b", 2)), "not held up by what failed");
        assert_eq!(turns.next(First), None, "`a` has one ahead");
        assert_eq!(turns.next(Again), Some(("a", 1)));
        turns.done(&"a");
        assert_eq!(turns.next(First), Some(("a", 3)));
    }
}
