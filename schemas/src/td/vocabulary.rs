//! Words of descriptions: our own terms, compact IRIs, and units as other vocabularies spell them.
use crate::{td::place::Place, units};
use serde_json::Value;

/// Our terms of a thing.
pub(super) mod of_thing {
    /// How long before its receipt a reading may have been measured.
    pub(in crate::td) const LATE: &str = "telltale:late";
    /// How far ahead of its receipt a reading's time may be.
    pub(in crate::td) const AHEAD: &str = "telltale:ahead";
    /// Seconds within which the next reading is expected.
    pub(in crate::td) const INTERVAL: &str = "telltale:interval";
    /// Payloads carry a time or a number of their own.
    pub(in crate::td) const SEQUENCED: &str = "telltale:sequenced";
    pub(in crate::td) const ALL: [&str; 4] = [LATE, AHEAD, INTERVAL, SEQUENCED];
}

/// Our terms of a property.
pub(super) mod of_property {
    /// Values that mean «no value».
    pub(in crate::td) const MISSING: &str = "telltale:missing";
    /// What was seen of it, where a description was inferred.
    pub(in crate::td) const SEEN: &str = "telltale:seen";
    /// Tests of its values by QARTOD.
    pub(in crate::td) const QUALITY: &str = "telltale:quality";
    pub(in crate::td) const ALL: [&str; 3] = [MISSING, SEEN, QUALITY];
}

/// Our terms of a form.
pub(super) mod of_form {
    /// The security of a form of ours, where the description's own definitions have none that fits.
    pub(in crate::td) const SECURITY: &str = "telltale:security";
    /// Whose side a form is for, where it is not for everybody: `device`.
    pub(in crate::td) const SIDE: &str = "telltale:side";
}

/// Prefixes that people use without declaring them, and what they stand for.
const WELL_KNOWN: [(&str, &str); 7] = [
    ("sosa", "http://www.w3.org/ns/sosa/"),
    ("ssn", "http://www.w3.org/ns/ssn/"),
    ("geo", "http://www.w3.org/2003/01/geo/wgs84_pos#"),
    ("schema", "https://schema.org/"),
    ("qudt", "http://qudt.org/schema/qudt/"),
    ("saref", "https://saref.etsi.org/core/"),
    ("iot", "http://iotschema.org/"),
];

/// The prefixes that a description declares in its `@context`.
#[derive(Debug)]
pub(super) struct Prefixes<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Prefixes<'a> {
    pub(super) fn of(td: &'a Value) -> Self {
        let context = td.get("@context").and_then(Value::as_array);
        let maps = context.into_iter().flatten().filter_map(Value::as_object);
        let declared = maps
            .flatten()
            .filter_map(|(prefix, iri)| Some((prefix.as_str(), iri.as_str()?)));
        Self(declared.collect())
    }

    /// A compact IRI (`sosa:observes`) whole, or what is an IRI already; `None` for a bare word.
    pub(super) fn expand(&self, text: &str) -> Option<String> {
        let (prefix, rest) = text.split_once(':')?;
        let declared = self.0.iter().find(|(known, _)| *known == prefix);
        let known = declared.or_else(|| WELL_KNOWN.iter().find(|(known, _)| *known == prefix));
        match known {
            // JSON-LD 1.1 §5.2: what has `//` behind the colon is no compact IRI.
            Some((_, iri)) if !rest.starts_with("//") => Some(format!("{iri}{rest}")),
            _ => Some(text.to_owned()),
        }
    }

    /// The member that a term of a well-known vocabulary stands in, whatever prefix it has here.
    pub(super) fn member<'b>(&self, place: &Place<'b>, term: &str) -> Option<Place<'b>> {
        if let Some(found) = place.member(term) {
            return Some(found);
        }
        let (prefix, word) = term.split_once(':')?;
        let (_, wanted) = WELL_KNOWN.iter().find(|(known, _)| *known == prefix)?;
        let mut same = self.0.iter().filter(|(_, iri)| is_same(iri, wanted));
        same.find_map(|(prefix, _)| place.member(&format!("{prefix}:{word}")))
    }

    /// The IRI in that member: a text, an object with `@id`, or the first of several.
    pub(super) fn iri(&self, place: &Place<'_>, term: &str) -> Option<String> {
        let member = self.member(place, term)?;
        let mut values = member.one_or_several().into_iter();
        let text = values.find_map(|place| match place.value {
            Value::String(text) => Some(text.as_str()),
            other => other.get("@id").and_then(Value::as_str),
        })?;
        self.expand(text)
    }
}

/// `http` and `https` are one vocabulary: both spellings are in use.
fn is_same(a: &str, b: &str) -> bool {
    fn bare(iri: &str) -> &str {
        iri.trim_start_matches("https://").trim_start_matches("http://")
    }
    bare(a) == bare(b)
}

/// The unit that a description means, as our tables have it: SenML's, UCUM's, what devices write, or the last part
/// of an IRI of QUDT (`unit:DEG_C`) or of the Ontology of units of Measure (`om2:degreeCelsius`).
pub(super) fn unit(text: &str) -> Option<&str> {
    if text.len() <= UNIT_MAX && units::to_primary(text, 0.0).is_some() {
        return Some(text);
    }
    let word = text.rsplit(['/', '#', ':']).next().unwrap_or_default();
    // A bare `M` or `C` is no name of QUDT's: only behind a prefix does it mean one.
    let is_named = word.len() < text.len();
    let known = ONTOLOGIES.iter().find(|(name, _)| is_named && *name == word);
    known.map(|(_, unit)| *unit)
}

/// Longest unit that a policy can have (`json/thing.v1.schema.json`).
const UNIT_MAX: usize = 32;

/// Names of units in QUDT and in the Ontology of units of Measure.
const ONTOLOGIES: [(&str, &str); 46] = [
    ("DEG_C", "Cel"),
    ("degreeCelsius", "Cel"),
    ("DEG_F", "degF"),
    ("degreeFahrenheit", "degF"),
    ("K", "K"),
    ("kelvin", "K"),
    ("PERCENT", "%"),
    ("percent", "%"),
    ("PERCENT_RH", "%RH"),
    ("PA", "Pa"),
    ("pascal", "Pa"),
    ("HectoPA", "hPa"),
    ("hectopascal", "hPa"),
    ("KiloPA", "kPa"),
    ("kilopascal", "kPa"),
    ("BAR", "bar"),
    ("M", "m"),
    ("metre", "m"),
    ("MilliM", "mm"),
    ("millimetre", "mm"),
    ("CentiM", "cm"),
    ("centimetre", "cm"),
    ("KiloM", "km"),
    ("kilometre", "km"),
    ("M-PER-SEC", "m/s"),
    ("metrePerSecond-Time", "m/s"),
    ("KiloM-PER-HR", "km/h"),
    ("kilometrePerHour", "km/h"),
    ("SEC", "s"),
    ("second-Time", "s"),
    ("MIN", "min"),
    ("HR", "h"),
    ("V", "V"),
    ("volt", "V"),
    ("A", "A"),
    ("ampere", "A"),
    ("W", "W"),
    ("watt", "W"),
    ("KiloW-HR", "kWh"),
    ("LUX", "lx"),
    ("lux", "lx"),
    ("DEG", "deg"),
    ("degree", "deg"),
    ("HZ", "Hz"),
    ("PPM", "ppm"),
    ("MicroGM-PER-M3", "ug/m3"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_unit_is_found_under_the_names_that_descriptions_give_it() {
        for (text, wanted) in [
            ("Cel", Some("Cel")),
            ("\u{b0}C", Some("\u{b0}C")),
            ("celsius", Some("celsius")),
            ("om2:kilopascal", Some("kPa")),
            ("http://qudt.org/vocab/unit/DEG_C", Some("Cel")),
            ("unit:M-PER-SEC", Some("m/s")),
            ("M", None),
            ("widgets", None),
            ("unit:WIDGET", None),
        ] {
            assert_eq!(unit(text), wanted, "{text}");
        }
        for (name, unit) in ONTOLOGIES {
            assert!(units::to_primary(unit, 0.0).is_some(), "{name}");
        }
    }

    #[test]
    fn a_compact_iri_is_what_its_context_makes_of_it() {
        let td = json!({"@context": ["https://www.w3.org/2022/wot/td/v1.1", {
            "s": "http://www.w3.org/ns/sosa/", "ex": "https://ex.example/#", "@language": "en",
        }], "s:isHostedBy": [{"@id": "ex:pole"}], "sosa:observes": "urn:x"});
        let prefixes = Prefixes::of(&td);
        assert_eq!(
            prefixes.expand("ex:Heat").as_deref(),
            Some("https://ex.example/#Heat")
        );
        assert_eq!(
            prefixes.expand("sosa:x").as_deref(),
            Some("http://www.w3.org/ns/sosa/x")
        );
        assert_eq!(
            prefixes.expand("https://a.example/b").as_deref(),
            Some("https://a.example/b")
        );
        assert_eq!(prefixes.expand("Heat"), None);
        let whole = Place::root(&td);
        assert_eq!(
            prefixes.iri(&whole, "sosa:isHostedBy").as_deref(),
            Some("https://ex.example/#pole")
        );
        assert_eq!(prefixes.iri(&whole, "sosa:observes").as_deref(), Some("urn:x"));
        assert_eq!(prefixes.iri(&whole, "sosa:hasFeatureOfInterest"), None);
    }
}
