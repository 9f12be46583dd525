//! Pauses that double.
use std::time::Duration;

/// Longest pause.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

/// The pause before repetition `n` (from 1): `first`, doubled each time, at most [`LONGEST`].
pub(crate) fn pause(first: Duration, n: u32) -> Duration {
    first
        .saturating_mul(1_u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(LONGEST)
}

/// The same, between half and the whole of it, so that copies do not come back in step.
pub(crate) fn jittered(first: Duration, n: u32) -> Duration {
    pause(first, n).mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let first = Duration::from_millis(200);
        let pauses: Vec<_> = (1..=9).map(|n| pause(first, n).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(pause(first, 0).as_millis(), 200);
        assert_eq!(pause(first, u32::MAX), LONGEST);
    }

    #[test]
    fn jitter_stays_between_half_and_the_whole() {
        for n in 1..12 {
            let (whole, got) = (
                pause(Duration::from_millis(200), n),
                jittered(Duration::from_millis(200), n),
            );
            assert!(got <= whole && got >= whole / 2, "{got:?} of {whole:?}");
        }
    }
}
