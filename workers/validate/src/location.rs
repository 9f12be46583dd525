//! Positions against the box that their thing must be in: latitude and longitude are two records, judged together.
use telltale_schemas::{
    Record,
    quality::{self, test::LOCATION},
    thing::Policy,
};

/// Flags both records of each position that has a box.
pub(crate) fn judge(records: &mut [Record], policy: &Policy) {
    if !policy.places_something() {
        return;
    }
    for at in quality::positions(records) {
        let (latitude, longitude) = (&records[at.latitude], &records[at.longitude]);
        let place = policy.location_of(&latitude.n);
        if let (Some(place), Some(north), Some(east)) = (place, latitude.v, longitude.v) {
            let flag = place.judge(north, east);
            records[at.latitude].found(LOCATION, flag);
            records[at.longitude].found(LOCATION, flag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use telltale_schemas::Flag;

    #[test]
    fn a_position_outside_of_its_box_fails_in_both_its_records() {
        let location = json!({"quality": {"location": {"bbox": [7.0, 43.0, 8.0, 44.0]}}});
        for place in ["position", "position.lat"] {
            let properties: serde_json::Value = [(place.to_owned(), location.clone())].into_iter().collect();
            let policy: Policy = serde_json::from_value(json!({ "properties": properties })).unwrap();
            for (lat, lon, flag) in [
                (43.0, 8.0, Flag::Pass),
                (42.9, 7.5, Flag::Fail),
                (7.5, 43.5, Flag::Fail),
            ] {
                let record = |n: &str, v| Record {
                    v: Some(v),
                    ..Record::named(n)
                };
                let mut records = [
                    record("speed", 3.0),
                    record("position.lat", lat),
                    record("position.lon", lon),
                ];
                judge(&mut records, &policy);
                let flags = records.each_ref().map(|record| record.q);
                assert_eq!(flags, [None, Some(flag), Some(flag)], "{place} {lat} {lon}");
                let failed: &[&str] = if flag == Flag::Fail { &[LOCATION] } else { &[] };
                assert_eq!(records[2].failed, failed);
            }
        }
    }
}
