//! Who is connected: a second session of the same device and client id ends the first.
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// Sessions of one device at once, each with its own client id. A gateway's are not counted: many programs
/// may share its credential.
const PER_DEVICE_MAX: usize = 16;

type Sessions = HashMap<String, HashMap<String, Arc<CancellationToken>>>;

/// The open sessions, by device and client id. A client id alone would let one device end another's session.
#[derive(Debug, Clone, Default)]
pub(super) struct Registry(Arc<Mutex<Sessions>>);

/// A session's entry; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Registry,
    device: String,
    client_id: String,
    token: Arc<CancellationToken>,
}

impl Registry {
    /// Enters a session and ends the one that was there. None if the device has too many.
    pub(super) fn enter(&self, device: &str, client_id: &str, is_gateway: bool) -> Option<Place> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_device = sessions.entry(device.to_owned()).or_default();
        let is_known = of_device.contains_key(client_id);
        if !is_known && !is_gateway && of_device.len() >= PER_DEVICE_MAX {
            return None;
        }
        let token = Arc::new(CancellationToken::new());
        if let Some(older) = of_device.insert(client_id.to_owned(), token.clone()) {
            older.cancel();
        }
        Some(Place {
            registry: self.clone(),
            device: device.to_owned(),
            client_id: client_id.to_owned(),
            token,
        })
    }
}

impl Place {
    /// Returns when another session has taken over.
    pub(super) async fn taken_over(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sessions = self.registry.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut of_device) = sessions.entry(std::mem::take(&mut self.device)) else {
            return;
        };
        // The entry may be a younger session's by now.
        if of_device
            .get()
            .get(&self.client_id)
            .is_some_and(|token| Arc::ptr_eq(token, &self.token))
        {
            of_device.get_mut().remove(&self.client_id);
        }
        if of_device.get().is_empty() {
            of_device.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_younger_session_ends_the_older_and_keeps_its_place() {
        let registry = Registry::default();
        let first = registry.enter("lamp", "c", false).unwrap();
        let second = registry.enter("lamp", "c", false).unwrap();
        assert!(first.token.is_cancelled());
        drop(first);
        assert!(!second.token.is_cancelled());
        let third = registry.enter("lamp", "c", false).unwrap();
        assert!(second.token.is_cancelled() && !third.token.is_cancelled());
        drop((second, third));
        assert!(registry.0.lock().unwrap().is_empty());
    }

    #[test]
    fn another_device_or_client_id_is_another_session() {
        let registry = Registry::default();
        let lamp = registry.enter("lamp", "c", false).unwrap();
        let other = (
            registry.enter("pillar", "c", false),
            registry.enter("lamp", "d", false),
        );
        assert!(!lamp.token.is_cancelled());
        drop(other);
    }

    #[test]
    fn a_device_has_a_limited_number_of_sessions_and_a_gateway_has_not() {
        let registry = Registry::default();
        let places: Vec<_> = (0..100)
            .filter_map(|n| registry.enter("lamp", &n.to_string(), false))
            .collect();
        assert_eq!(places.len(), PER_DEVICE_MAX);
        assert!(
            registry.enter("lamp", "3", false).is_some(),
            "a take-over needs no room"
        );
        let places: Vec<_> = (0..100)
            .filter_map(|n| registry.enter("hub", &n.to_string(), true))
            .collect();
        assert_eq!(places.len(), 100);
    }
}
