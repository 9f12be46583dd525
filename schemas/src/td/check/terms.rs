//! Our own terms, and those of other vocabularies that we go by.
use crate::{
    kinds::Fault,
    refusal::shown,
    td::{
        compile::{is_duration, location},
        place::Place,
        vocabulary::{Prefixes, of_property, of_thing},
    },
};
use serde_json::Value;

/// Most values that can stand for «no value».
const MISSING_MAX: usize = 100;

pub(super) fn check(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    ours(whole, &of_thing::ALL, faults);
    for term in [of_thing::LATE, of_thing::AHEAD] {
        let wrong = whole
            .member(term)
            .filter(|place| !place.value.as_str().is_some_and(is_duration));
        faults.extend(
            wrong.map(|place| place.fault("a duration is a whole number and one of ms, s, m, h, d: `36h`")),
        );
    }
    if let Some(interval) = whole.member(of_thing::INTERVAL)
        && !interval.value.as_f64().is_some_and(|seconds| seconds > 0.0)
    {
        faults.push(interval.fault("an interval is more than 0 seconds"));
    }
    if let Some(sequenced) = whole
        .member(of_thing::SEQUENCED)
        .filter(|place| !place.value.is_boolean())
    {
        faults.push(sequenced.fault("neither true nor false"));
    }
    for (_, property) in whole.members_of("properties") {
        ours(&property, &of_property::ALL, faults);
        if let Some(missing) = property.member(of_property::MISSING) {
            missing_values(&missing, faults);
        }
        quality(&property, faults);
    }
    place(whole, faults);
}

/// A term of ours that nobody knows is a slip of the pen, and would be ignored in silence.
fn ours(place: &Place<'_>, known: &[&str], faults: &mut Vec<Fault>) {
    for (name, member) in place.members() {
        if name.starts_with("telltale:") && !known.contains(&name) {
            let message = format!(
                "`{}` is no term of ours here; there are {}",
                shown(name),
                known.join(", ")
            );
            faults.push(member.fault(message));
        }
    }
}

fn missing_values(missing: &Place<'_>, faults: &mut Vec<Fault>) {
    let values = missing.one_or_several();
    if values.len() > MISSING_MAX {
        faults.push(missing.fault(format!("more than {MISSING_MAX} values")));
    }
    let is_scalar = |value: &Value| value.is_number() || value.is_string() || value.is_boolean();
    let wrong = values.iter().filter(|value| !is_scalar(value.value));
    faults.extend(wrong.map(|value| value.fault("a device cannot report this in place of a value")));
}

/// Tests of a property, or of a member of the object that it is: as an entry may have them.
fn quality(property: &Place<'_>, faults: &mut Vec<Fault>) {
    if let Some(quality) = property.member(of_property::QUALITY) {
        let found = crate::check::quality(quality.value);
        faults.extend(
            found
                .into_iter()
                .map(|fault| Fault::at(format!("{}{}", quality.pointer, fault.pointer), fault.message)),
        );
    }
    for (_, member) in property.members_of("properties") {
        quality(&member, faults);
    }
}

/// Latitude and longitude where the thing is, if it says so: swapped ones are found where one is over 90.
fn place(whole: &Place<'_>, faults: &mut Vec<Fault>) {
    let prefixes = Prefixes::of(whole.value);
    if let Some(wrong) = location::find(whole, &prefixes).and_then(Result::err) {
        faults.push(wrong);
    }
}
