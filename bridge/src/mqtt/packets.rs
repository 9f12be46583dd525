//! Packet ids of what we send with QoS 1, until the other side has confirmed it.
use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroU16,
};

/// What is unconfirmed, by packet id: none is used again before it is free (MQTT 5 §2.2.1). Whoever enters keeps fewer
/// unconfirmed than there are ids.
#[derive(Debug)]
pub(crate) struct Packets<T> {
    unconfirmed: HashMap<NonZeroU16, T>,
    first: NonZeroU16,
    last: u16,
}

impl<T> Packets<T> {
    /// None yet; ids below `first` are never given.
    pub(crate) fn from(first: NonZeroU16) -> Self {
        Self {
            unconfirmed: HashMap::new(),
            first,
            last: 0,
        }
    }

    /// How many are unconfirmed.
    pub(crate) fn len(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Takes one more; its id.
    pub(crate) fn enter(&mut self, waiting: T) -> NonZeroU16 {
        loop {
            let next = NonZeroU16::new(self.last.wrapping_add(1)).map_or(self.first, |id| id.max(self.first));
            self.last = next.get();
            if let Entry::Vacant(free) = self.unconfirmed.entry(next) {
                free.insert(waiting);
                return next;
            }
        }
    }

    /// It is confirmed, or was not sent after all.
    pub(crate) fn remove(&mut self, id: NonZeroU16) -> Option<T> {
        self.unconfirmed.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_given_below_the_first_or_again_before_it_is_free() {
        let first = NonZeroU16::new(2).unwrap();
        let mut packets = Packets::from(first);
        let all: Vec<u16> = (2..=u16::MAX).map(|_| packets.enter(()).get()).collect();
        assert_eq!(all, (2..=u16::MAX).collect::<Vec<_>>());
        let freed = NonZeroU16::new(700).unwrap();
        assert_eq!(packets.remove(freed), Some(()));
        assert_eq!(packets.remove(freed), None);
        assert_eq!(packets.enter(()), freed);
    }
}
