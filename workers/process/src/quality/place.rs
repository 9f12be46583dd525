//! Where a thing was, and how fast it came from there.
use serde::{Deserialize, Serialize};
use telltale_schemas::Timestamp;

/// The earth's mean radius, in metres (IUGG).
const RADIUS: f64 = 6_371_008.8;

/// A position in degrees, and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    time: Timestamp,
    latitude: f64,
    longitude: f64,
}

impl Place {
    pub(super) fn at(time: Timestamp, latitude: f64, longitude: f64) -> Self {
        Self {
            time,
            latitude,
            longitude,
        }
    }

    /// Metres per second along the great circle; `None` where it is no later than the other.
    pub(super) fn speed_from(&self, before: &Self) -> Option<f64> {
        let micros = self.time.as_micros() - before.time.as_micros();
        (micros > 0).then(|| self.metres_from(before) / (micros as f64 / 1e6))
    }

    /// By the haversine formula.
    fn metres_from(&self, other: &Self) -> f64 {
        let half = |a: f64, b: f64| ((a - b).to_radians() / 2.0).sin().powi(2);
        let parallel = self.latitude.to_radians().cos() * other.latitude.to_radians().cos();
        let part = half(self.latitude, other.latitude) + parallel * half(self.longitude, other.longitude);
        2.0 * RADIUS * part.clamp(0.0, 1.0).sqrt().asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degree_of_latitude_in_a_quarter_of_an_hour_is_124_metres_per_second() {
        let at = |minute: i64| Timestamp::from_micros(minute * 60_000_000).unwrap();
        let before = Place::at(at(0), 43.0, 179.9);
        let speed = Place::at(at(15), 44.0, 179.9).speed_from(&before).unwrap();
        assert!((speed - 111_195.08 / 900.0).abs() < 1e-3, "{speed}");
        let across = Place::at(at(15), 43.0, -179.9).speed_from(&before).unwrap();
        assert!(
            across < 20.0,
            "a step over the 180th meridian is a small one: {across}"
        );
        assert_eq!(before.speed_from(&before), None);
    }
}
