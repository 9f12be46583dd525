//! Ids for messages whose publisher gave none: the same for a message that the broker delivers again, another for the next one, though
//! it say the same.
//!
//! What a redelivery carries is its packet id, which stays within the session (MQTT 3.1.1 and 5, 4.4), and the mark DUP. So the key is a
//! hash of an *epoch*, the packet id, the topic and the payload. Within an epoch each packet id is used once: when the broker uses one
//! again, the next epoch begins. The epoch is kept in the bucket `sessions` before anything is published under it, with the older epochs of
//! what was still in flight, so that a bridge that was killed makes the same keys again. A broker that counts through all 65 535 costs one
//! write for as many messages.
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroU16,
};
use telltale_schemas::Timestamp;

/// What is kept of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    epoch: i64,
    /// By packet id, the epochs of what was in flight when this one began.
    carried: BTreeMap<u16, i64>,
}

impl Kept {
    fn epoch_of(&self, packet: NonZeroU16) -> i64 {
        self.carried.get(&packet.get()).copied().unwrap_or(self.epoch)
    }
}

/// The ids of one session at the broker.
#[derive(Debug)]
pub(super) struct Ids {
    client_id: String,
    kept: Kept,
    /// As it stands in the bucket.
    stored: Option<Kept>,
    /// Packet ids that were used in this epoch.
    used: HashSet<NonZeroU16>,
    /// Whether the epoch is of a process before this one: which packet ids it used is not known.
    is_inherited: bool,
    /// The last epoch of the process before, for what it left in flight.
    before: Option<Kept>,
}

impl Ids {
    /// Goes on from what was found in the bucket.
    pub(super) fn new(client_id: &str, found: Option<Kept>) -> Self {
        Self {
            client_id: client_id.to_owned(),
            is_inherited: found.is_some(),
            stored: found.clone(),
            kept: found.unwrap_or_else(|| Kept {
                epoch: Timestamp::now().as_micros(),
                carried: BTreeMap::new(),
            }),
            used: HashSet::new(),
            before: None,
        }
    }

    /// The broker knows no session: nothing that it delivers was delivered before.
    pub(super) fn begin_anew(&mut self) {
        self.turn([]);
        self.before = None;
    }

    /// What has to be in the bucket before anything is published under the keys that were given.
    pub(super) fn unstored(&self) -> Option<Kept> {
        (self.stored.as_ref() != Some(&self.kept)).then(|| self.kept.clone())
    }

    pub(super) fn stored(&mut self, kept: Kept) {
        self.stored = Some(kept);
    }

    /// The key of a message; `in_flight` are the packet ids that are not acknowledged.
    pub(super) fn key(
        &mut self,
        packet: NonZeroU16,
        is_again: bool,
        topic: &str,
        payload: &[u8],
        in_flight: impl IntoIterator<Item = NonZeroU16>,
    ) -> String {
        if !is_again && (self.is_inherited || self.used.contains(&packet)) {
            self.turn(in_flight);
            self.kept.carried.remove(&packet.get());
        }
        let is_first = self.used.insert(packet);
        if is_again
            && is_first
            && let Some(before) = &self.before
        {
            // Left in flight by the process before, and delivered after something new.
            let epoch = before.epoch_of(packet);
            self.kept.carried.insert(packet.get(), epoch);
        }
        let mut hash = Sha256::new();
        hash.update(self.kept.epoch_of(packet).to_be_bytes());
        hash.update(packet.get().to_be_bytes());
        for text in [self.client_id.as_bytes(), topic.as_bytes(), payload] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text);
        }
        let digest = hash.finalize();
        let half: [u8; 16] = std::array::from_fn(|n| digest[n]);
        format!("{:032x}", u128::from_be_bytes(half))
    }

    /// The next epoch.
    fn turn(&mut self, in_flight: impl IntoIterator<Item = NonZeroU16>) {
        let carried: BTreeMap<u16, i64> = in_flight
            .into_iter()
            .map(|packet| (packet.get(), self.kept.epoch_of(packet)))
            .collect();
        self.used = carried
            .keys()
            .filter_map(|packet| NonZeroU16::new(*packet))
            .collect();
        let next = Kept {
            // Clocks may go back.
            epoch: Timestamp::now().as_micros().max(self.kept.epoch + 1),
            carried,
        };
        let last = std::mem::replace(&mut self.kept, next);
        self.before = std::mem::take(&mut self.is_inherited).then_some(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u16) -> NonZeroU16 {
        NonZeroU16::new(id).unwrap()
    }

    fn key(ids: &mut Ids, id: u16, is_again: bool, in_flight: &[u16]) -> String {
        let in_flight: Vec<_> = in_flight.iter().map(|id| packet(*id)).collect();
        ids.key(packet(id), is_again, "things/t/readings", b"{}", in_flight)
    }

    /// As a bridge that was killed finds it.
    fn killed(ids: &mut Ids) -> Ids {
        let kept = ids.unstored().or_else(|| ids.stored.clone()).unwrap();
        Ids::new("c", Some(kept))
    }

    #[test]
    fn what_is_delivered_again_has_the_same_key_and_what_is_said_again_has_another() {
        let mut ids = Ids::new("c", None);
        let first = key(&mut ids, 1, false, &[]);
        assert_eq!(key(&mut ids, 1, true, &[]), first);
        let second = key(&mut ids, 2, false, &[1]);
        assert_ne!(second, first);
        let third = key(&mut ids, 1, false, &[2]);
        assert_ne!(third, first, "the packet id was free again");
        assert_eq!(key(&mut ids, 2, true, &[1]), second, "in flight over the turn");
        assert_eq!(key(&mut ids, 1, true, &[2]), third);
    }

    #[test]
    fn a_killed_bridge_makes_the_same_keys_again_however_often() {
        let mut ids = Ids::new("c", None);
        key(&mut ids, 1, false, &[]);
        let second = key(&mut ids, 2, false, &[1]);
        let third = key(&mut ids, 1, false, &[2]);
        let mut ids = killed(&mut ids);
        assert_eq!(key(&mut ids, 1, true, &[]), third);
        // Something new between what is delivered again.
        let fourth = key(&mut ids, 3, false, &[1]);
        assert_eq!(key(&mut ids, 2, true, &[1, 3]), second);
        let mut ids = killed(&mut ids);
        for (id, was) in [(2, &second), (3, &fourth), (1, &third)] {
            assert_eq!(key(&mut ids, id, true, &[]), *was, "{id}");
        }
        let mut ids = killed(&mut ids);
        let fifth = key(&mut ids, 3, false, &[]);
        assert_ne!(fifth, fourth, "which packet ids were used before is not known");
    }

    #[test]
    fn an_epoch_is_written_once_for_all_packet_ids() {
        let mut ids = Ids::new("c", None);
        let mut written = 0;
        for n in 0..200_000_u32 {
            let id = u16::try_from(n % 65_535).unwrap() + 1;
            key(&mut ids, id, false, &[]);
            if let Some(kept) = ids.unstored() {
                ids.stored(kept);
                written += 1;
            }
        }
        assert_eq!(written, 4);
    }

    #[test]
    fn a_session_that_the_broker_forgot_begins_anew() {
        let mut ids = Ids::new("c", None);
        let first = key(&mut ids, 1, false, &[]);
        let mut ids = killed(&mut ids);
        ids.begin_anew();
        assert_ne!(key(&mut ids, 1, true, &[]), first);
    }
}
