//! Slows guesses of secrets, for each name and address, so that whoever guesses from one place does not lock the
//! real owner of the name out in another. Callers ask it only where a secret was not known to be right.
use lru::LruCache;
use std::{
    hash::Hash,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many keys each table remembers; the ones seen last.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("ten thousand is not zero");
/// Guesses for one name from one address: a hundred at once, then one in two seconds.
const PAIR: Rate = Rate {
    burst: 100,
    interval: Duration::from_secs(2),
};
/// Guesses from one address for any device: a whole site may stand behind one address.
const ADDRESS: Rate = Rate {
    burst: 1000,
    interval: Duration::from_millis(100),
};

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    interval: Duration,
}

/// Remembers for each key when its budget will be whole again.
#[derive(Debug)]
struct Budget<K: Hash + Eq> {
    rate: Rate,
    whole_at: Mutex<LruCache<K, Instant>>,
}

impl<K: Hash + Eq> Budget<K> {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            whole_at: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut table = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let whole_at = table.get_or_insert_mut(key, || now);
        let debt = whole_at.saturating_duration_since(now) + self.rate.interval;
        let allowed = self.rate.interval * self.rate.burst;
        if debt > allowed {
            return Err(debt.saturating_sub(allowed));
        }
        *whole_at = now + debt;
        Ok(())
    }

    fn give_back(&self, key: &K) {
        let mut table = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole_at) = table.get_mut(key) {
            *whole_at = whole_at.checked_sub(self.rate.interval).unwrap_or(*whole_at);
        }
    }
}

/// The budgets of guesses.
#[derive(Debug)]
pub struct Guard {
    pairs: Budget<(String, IpAddr)>,
    addresses: Budget<IpAddr>,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

impl Guard {
    /// With all budgets whole.
    pub fn new() -> Self {
        Self {
            pairs: Budget::new(PAIR),
            addresses: Budget::new(ADDRESS),
        }
    }

    /// Takes one guess out of both budgets, or says how long to wait.
    pub fn take(&self, device: &str, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let from = network(from);
        self.pairs.take((device.to_owned(), from), now)?;
        self.addresses.take(from, now)
    }

    /// It was no guess: the secret was right, or nobody looked at it.
    pub fn give_back(&self, device: &str, from: IpAddr) {
        let from = network(from);
        self.pairs.give_back(&(device.to_owned(), from));
        self.addresses.give_back(&from);
    }
}

/// Whoever has one IPv6 address has its /64.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_limited_and_the_same_device_elsewhere_is_not() {
        let (guard, now) = (Guard::new(), Instant::now());
        let (thief, home): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let passed = (0..1000)
            .filter(|_| guard.take("lamp", thief, now).is_ok())
            .count();
        assert_eq!(passed, 100);
        assert_eq!(guard.take("lamp", thief, now), Err(Duration::from_secs(2)));
        assert_eq!(guard.take("lamp", home, now), Ok(()));
        assert_eq!(guard.take("other", thief, now), Ok(()));
        assert_eq!(guard.take("lamp", thief, now + Duration::from_secs(2)), Ok(()));
    }

    #[test]
    fn right_secrets_cost_nothing() {
        let (guard, now) = (Guard::new(), Instant::now());
        let home = "192.0.2.2".parse().unwrap();
        for _ in 0..5000 {
            assert_eq!(guard.take("lamp", home, now), Ok(()));
            guard.give_back("lamp", home);
        }
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (guard, now) = (Guard::new(), Instant::now());
        let passed = (0..1000_u32)
            .filter(|host| {
                let from = format!("2001:db8::{host:x}").parse().unwrap();
                guard.take("lamp", from, now).is_ok()
            })
            .count();
        assert_eq!(passed, 100);
    }
}
