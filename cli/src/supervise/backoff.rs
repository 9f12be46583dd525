//! How long to wait before a process that ended is started again.
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// A process that lived this long is forgiven what came before.
const FORGIVEN: Duration = Duration::from_secs(30);

/// 0.2 s, doubling to 10 s; from the start again after a life of 30 s.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The wait after a life of `lived`.
    pub fn after(&mut self, lived: Duration) -> Duration {
        if lived >= FORGIVEN {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_ten_seconds_and_a_long_life_is_forgiven() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8)
            .map(|_| backoff.after(Duration::ZERO).as_millis())
            .collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after(Duration::from_secs(29)).as_millis(), 10_000);
        assert_eq!(backoff.after(Duration::from_secs(30)).as_millis(), 200);
        assert_eq!(backoff.after(Duration::ZERO).as_millis(), 400);
    }
}
