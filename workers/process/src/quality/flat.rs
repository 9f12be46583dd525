//! For how long a value has been the same, but for a tolerance.
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, time::Duration};
use telltale_schemas::Timestamp;

/// Corners that an outline has at most. More are only needed by a value that creeps in one direction, within the
/// tolerance. Then corners closer than a [`STEPS`]th of it are taken together, and the line counts as a little younger
/// than it is, never as older.
const CORNERS_MAX: usize = 128;
const STEPS: f64 = 64.0;

/// The values since the last one that differs from the newest, as the outline of their maxima and minima: for each
/// moment the greatest and the least value since. Moments are in microseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Flat {
    first: Option<i64>,
    /// The newest value that is not of the line.
    broken: Option<i64>,
    high: VecDeque<(i64, f64)>,
    low: VecDeque<(i64, f64)>,
}

impl Flat {
    /// The next value. Those of a line have a range less than `tolerance`.
    pub(super) fn push(&mut self, now: Timestamp, value: f64, tolerance: f64) {
        let now = now.as_micros();
        self.first.get_or_insert(now);
        push(&mut self.high, (now, value), tolerance, |corner| corner <= value);
        push(&mut self.low, (now, value), tolerance, |corner| corner >= value);
        while let (Some((high_at, high)), Some((low_at, low))) = (self.high.front(), self.low.front())
            && high - low >= tolerance
        {
            let oldest = *high_at.min(low_at);
            if oldest == now {
                // Alone it is no line unless the tolerance is nothing.
                break;
            }
            self.broken = Some(oldest);
            for outline in [&mut self.high, &mut self.low] {
                while outline.front().is_some_and(|(at, _)| *at <= oldest) {
                    outline.pop_front();
                }
            }
        }
    }

    /// Whether all values of that span, whose end is the newest, are the same. It must have been watched for as long.
    pub(super) fn lasted(&self, now: Timestamp, span: Duration) -> bool {
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let since = |at: i64| now.as_micros() - at;
        match (self.broken, self.first) {
            (Some(broken), _) => since(broken) > span,
            (None, Some(first)) => since(first) >= span,
            (None, None) => false,
        }
    }
}

fn push(
    outline: &mut VecDeque<(i64, f64)>,
    corner: (i64, f64),
    tolerance: f64,
    is_hidden: impl Fn(f64) -> bool,
) {
    while outline.back().is_some_and(|(_, value)| is_hidden(*value)) {
        outline.pop_back();
    }
    if outline.len() >= CORNERS_MAX {
        let mut fewer: VecDeque<(i64, f64)> = VecDeque::with_capacity(CORNERS_MAX);
        for (at, value) in outline.drain(..) {
            match fewer.back_mut() {
                Some((until, extreme)) if (*extreme - value).abs() < tolerance / STEPS => *until = at,
                _ => fewer.push_back((at, value)),
            }
        }
        *outline = fewer;
    }
    outline.push_back(corner);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * SECOND).unwrap()
    }

    /// For how long the newest of these values, one each second, has been the same; by looking at all of them.
    fn looked_at(values: &[f64], tolerance: f64, span: usize) -> bool {
        let Some(since) = (values.len() - 1).checked_sub(span) else {
            return false;
        };
        let of = &values[since..];
        let high = of.iter().copied().fold(f64::MIN, f64::max);
        let low = of.iter().copied().fold(f64::MAX, f64::min);
        high - low < tolerance
    }

    #[test]
    fn the_outline_tells_what_looking_at_every_value_tells() {
        let mut state = 7_u32;
        let mut values = Vec::new();
        let mut flat = Flat::default();
        for second in 0..2_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Long lines, small steps, and jumps.
            let last = values.last().copied().unwrap_or(0.0);
            values.push(match state >> 28 {
                0 => f64::from(state >> 20 & 0xf),
                1..4 => last + f64::from(state >> 20 & 0x3) / 8.0,
                _ => last,
            });
            flat.push(at(second), values[values.len() - 1], 0.5);
            for span in [1, 3, 10, 40] {
                let lasted = flat.lasted(at(second), Duration::from_secs(span));
                let span = usize::try_from(span).unwrap();
                assert_eq!(lasted, looked_at(&values, 0.5, span), "{second}: {span} s");
            }
        }
    }

    #[test]
    fn a_creeping_value_takes_no_more_room_and_its_line_is_never_too_old() {
        let mut flat = Flat::default();
        for second in 0..5_000 {
            flat.push(at(second), second as f64 / 1024.0, 1.0);
            assert!(!flat.lasted(at(second), Duration::from_secs(1_024)), "{second}");
        }
        assert!(flat.low.len() <= CORNERS_MAX && flat.high.len() <= CORNERS_MAX);
        assert!(flat.lasted(at(4_999), Duration::from_secs(980)));
    }
}
