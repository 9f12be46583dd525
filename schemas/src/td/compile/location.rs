//! Where a thing is: GeoJSON, or latitude and longitude under the names that people give them.
use super::point;
use crate::{
    kinds::Fault,
    td::{place::Place, vocabulary::Prefixes},
};
use serde_json::Value;

/// Members that hold a place.
const MEMBERS: [&str; 6] = [
    "location",
    "geo",
    "geo:location",
    "schema:geo",
    "geometry",
    "geojson:geometry",
];
/// Geometries of GeoJSON that have coordinates (RFC 7946 §3.1).
const GEOMETRIES: [&str; 6] = [
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
];
const LATITUDES: [&str; 4] = ["geo:lat", "schema:latitude", "latitude", "lat"];
const LONGITUDES: [&str; 5] = ["geo:long", "schema:longitude", "longitude", "long", "lon"];
const ALTITUDES: [&str; 4] = ["geo:alt", "schema:elevation", "altitude", "alt"];

/// The place of a thing as GeoJSON, or what is wrong with it. `None` where it tells none, or in words that we do not
/// know.
pub(in crate::td) fn find(whole: &Place<'_>, prefixes: &Prefixes<'_>) -> Option<Result<Value, Fault>> {
    let members = MEMBERS.iter().filter_map(|term| prefixes.member(whole, term));
    let mut found = members.filter_map(|place| geometry(&place).or_else(|| pair(&place, prefixes, false)));
    // At the thing itself `latitude` could be anything; `geo:lat` could not.
    found.next().or_else(|| pair(whole, prefixes, true))
}

fn geometry(place: &Place<'_>) -> Option<Result<Value, Fault>> {
    let kind = place.text("type").or_else(|| place.text("@type"))?;
    let kind = GEOMETRIES.iter().find(|known| **known == kind)?;
    let coordinates = place
        .member("coordinates")
        .filter(|place| place.value.is_array())?;
    if *kind == "Point" && !is_position(coordinates.value) {
        return Some(Err(
            coordinates.fault("a point has longitude, latitude, and perhaps altitude")
        ));
    }
    if let Some(wrong) = positions(&coordinates) {
        return Some(Err(wrong));
    }
    let mut geometry = serde_json::Map::new();
    geometry.insert("type".to_owned(), (*kind).into());
    geometry.insert("coordinates".to_owned(), coordinates.value.clone());
    Some(Ok(geometry.into()))
}

fn is_position(value: &Value) -> bool {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    (2..=3).contains(&items.len()) && items.iter().all(Value::is_number)
}

/// What is wrong with the first position that is, however deep it is.
fn positions(place: &Place<'_>) -> Option<Fault> {
    let items = place.items();
    if !items.iter().any(|item| item.value.is_number()) {
        return items.iter().find_map(positions);
    }
    let [longitude, latitude, ..] = items.as_slice() else {
        return Some(place.fault("a position has longitude and latitude"));
    };
    bounded(longitude, 180.0, "longitude").or_else(|| bounded(latitude, 90.0, "latitude"))
}

fn bounded(place: &Place<'_>, most: f64, word: &str) -> Option<Fault> {
    match number(place.value) {
        Some(degrees) if degrees.abs() <= most => None,
        Some(degrees) => Some(place.fault(format!(
            "{degrees} is no {word}: that is within {most} degrees; GeoJSON has the longitude first"
        ))),
        None => Some(place.fault(format!("no number, where a {word} is expected"))),
    }
}

/// Latitude and longitude in two members. `is_thing`: only under names that can mean nothing else.
fn pair(place: &Place<'_>, prefixes: &Prefixes<'_>, is_thing: bool) -> Option<Result<Value, Fault>> {
    let member = |names: &[&str]| {
        let mut names = names.iter().filter(|name| !is_thing || name.contains(':'));
        names.find_map(|name| prefixes.member(place, name))
    };
    let (latitude, longitude) = (member(&LATITUDES)?, member(&LONGITUDES)?);
    if let Some(wrong) =
        bounded(&longitude, 180.0, "longitude").or_else(|| bounded(&latitude, 90.0, "latitude"))
    {
        return Some(Err(wrong));
    }
    let altitude = member(&ALTITUDES).and_then(|altitude| number(altitude.value));
    let (longitude, latitude) = (number(longitude.value)?, number(latitude.value)?);
    Some(Ok(point(longitude, latitude, altitude)))
}

/// A number, or one in a text, or in JSON-LD's `@value`.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Object(members) => members.get("@value").and_then(number),
        _ => None,
    }
}
