//! Which devices are connected, told as registrations: `thing.<site>.<thing>.online` and `.offline`.
//!
//! Only a session says that a device is there, so HTTP says nothing; and only of a device that speaks for the thing of
//! its own name: of what stands behind a gateway, a gateway's session tells nothing. A device that comes back within a
//! moment was never away. One that falls again and again is told of ever more rarely: the stream of registrations is
//! kept for ever, and no device may fill it.
use crate::credential::Credential;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use telltale_schemas::kinds::Change;
use tokio_util::sync::CancellationToken;

/// Falls are forgotten after this time without one; also the longest absence before a device is told offline.
const FORGET: Duration = Duration::from_secs(3600);

/// What is known of one device.
#[derive(Debug, Default)]
struct Seen {
    sessions: usize,
    /// Whether it was last told to be online.
    is_told: bool,
    /// Since when it has no session.
    left: Option<Instant>,
    /// How often it was told to be offline lately, and when last.
    falls: u32,
    fell: Option<Instant>,
}

/// The devices with sessions; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Presence(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    grace: Duration,
    seen: Mutex<HashMap<String, Seen>>,
}

/// One session of a device; it has left when this is dropped.
#[derive(Debug)]
pub(crate) struct Present {
    presence: Presence,
    device: String,
    revoked: CancellationToken,
}

impl Presence {
    /// Devices are told offline once they have been away for `grace`.
    pub(crate) fn new(grace: Duration) -> Self {
        Self(Arc::new(Inner {
            grace,
            seen: Mutex::default(),
        }))
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins, which is cut when `revoked` is cancelled; nothing where it tells of no thing.
    pub(crate) fn enter(&self, credential: &Credential, revoked: CancellationToken) -> Option<Present> {
        if credential.gateway || !credential.covers(&credential.device) {
            return None;
        }
        let device = credential.device.clone();
        self.seen().entry(device.clone()).or_default().sessions += 1;
        Some(Present {
            presence: self.clone(),
            device,
            revoked,
        })
    }

    /// What is to be told now, each once.
    pub(crate) fn due(&self, now: Instant) -> Vec<(String, Change)> {
        let mut due = Vec::new();
        self.seen().retain(|device, seen| {
            let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
            let is_steady = since(seen.fell).is_none_or(|quiet| quiet >= FORGET);
            if is_steady {
                seen.falls = 0;
            }
            if seen.sessions > 0 {
                if !seen.is_told {
                    due.push((device.clone(), Change::Online));
                    seen.is_told = true;
                }
                return true;
            }
            if !seen.is_told {
                return !is_steady;
            }
            let grace = (self.0.grace * (1 << seen.falls.min(16))).min(FORGET);
            if since(seen.left).is_none_or(|away| away >= grace) {
                due.push((device.clone(), Change::Offline));
                seen.is_told = false;
                seen.falls += 1;
                seen.fell = Some(now);
            }
            true
        });
        due
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if let Some(seen) = self.presence.seen().get_mut(&self.device) {
            seen.sessions = seen.sessions.saturating_sub(1);
            // Whoever was shown out does not come back in a moment.
            seen.left = (!self.revoked.is_cancelled()).then(Instant::now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn lamp() -> Credential {
        Credential::of("lamp")
    }

    fn enter(presence: &Presence, credential: &Credential) -> Option<Present> {
        presence.enter(credential, CancellationToken::new())
    }

    fn told(presence: &Presence, now: Instant) -> Vec<Change> {
        presence.due(now).into_iter().map(|(_, change)| change).collect()
    }

    #[test]
    fn a_device_is_online_at_once_and_offline_after_a_moment() {
        let presence = Presence::new(GRACE);
        let first = enter(&presence, &lamp());
        assert_eq!(
            presence.due(Instant::now()),
            [("lamp".to_owned(), Change::Online)]
        );
        assert!(told(&presence, Instant::now()).is_empty(), "told once");
        let second = enter(&presence, &lamp());
        drop(first);
        assert!(
            told(&presence, Instant::now() + FORGET).is_empty(),
            "it has a session"
        );
        drop(second);
        assert!(
            told(&presence, Instant::now()).is_empty(),
            "it may be back in a moment"
        );
        assert_eq!(told(&presence, Instant::now() + GRACE), [Change::Offline]);
        assert!(told(&presence, Instant::now() + 2 * FORGET).is_empty());
        assert!(presence.seen().is_empty(), "it is forgotten");
    }

    #[test]
    fn a_device_whose_credential_was_taken_away_is_offline_at_once() {
        let (presence, revoked) = (Presence::new(GRACE), CancellationToken::new());
        let session = presence.enter(&lamp(), revoked.clone());
        assert_eq!(told(&presence, Instant::now()), [Change::Online]);
        revoked.cancel();
        drop(session);
        assert_eq!(told(&presence, Instant::now()), [Change::Offline]);
    }

    #[test]
    fn a_device_that_falls_again_and_again_is_told_ever_more_rarely() {
        let presence = Presence::new(GRACE);
        let (mut at, mut changes) = (Instant::now(), 0);
        // An hour, in which it has a session for half of each second.
        for _ in 0..3600 {
            let session = enter(&presence, &lamp());
            changes += told(&presence, at).len();
            drop(session);
            at += Duration::from_millis(500);
            // It left at that time, not at the clock's.
            if let Some(seen) = presence.seen().get_mut("lamp") {
                seen.left = Some(at);
            }
            // The longest absence that a tick may see.
            changes += told(&presence, at + GRACE).len();
            at += Duration::from_millis(500);
        }
        assert!(changes <= 4, "{changes} changes");
    }

    #[test]
    fn a_session_tells_of_no_thing_but_the_device_s_own() {
        let presence = Presence::new(GRACE);
        let hub = Credential {
            gateway: true,
            ..lamp()
        };
        let other = Credential {
            things: vec!["pillar".into()],
            ..lamp()
        };
        assert!(enter(&presence, &hub).is_none() && enter(&presence, &other).is_none());
        assert!(told(&presence, Instant::now()).is_empty());
    }
}
