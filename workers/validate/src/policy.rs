//! One record against what is expected of its property: type, missing value, unit, range.
use serde_json::Value;
use telltale_schemas::{
    Flag, Record,
    thing::{Property, ValueType},
    units,
};

/// The quality test of minimum and maximum, by QARTOD's name.
const GROSS_RANGE: &str = "gross_range";

/// Which part of a record is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Value,
    Unit,
    Time,
}

/// Why a record is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) reason: &'static str,
    pub(crate) part: Part,
    pub(crate) message: String,
}

/// Brings a record to its primary unit and sets its quality, or says what is wrong with it.
pub(crate) fn judge(record: &mut Record, property: Option<&Property>) -> Result<(), Wrong> {
    let Some(property) = property else {
        return to_primary(record, None).map(|()| note(record, Flag::NotEvaluated));
    };
    let number = in_units_of(record, property)?;
    if let Some(sentinel) = sentinel(record, number, property) {
        record.missing(Some(sentinel));
    }
    if record.q == Some(Flag::Missing) {
        return to_primary(record, property.unit.as_deref());
    }
    check_type(record, property)?;
    to_primary(record, property.unit.as_deref())?;
    let is_bounded = property.minimum.is_some() || property.maximum.is_some();
    let is_out = |number: f64| {
        property.minimum.is_some_and(|minimum| number < minimum)
            || property.maximum.is_some_and(|maximum| number > maximum)
    };
    match number {
        Some(number) if is_out(number) => {
            note(record, Flag::Fail);
            record.failed.push(GROSS_RANGE.to_owned());
        }
        Some(_) if is_bounded => note(record, Flag::Pass),
        _ if !property.missing.is_empty() => note(record, Flag::Pass),
        _ => note(record, Flag::NotEvaluated),
    }
    Ok(())
}

/// A record that is missing already stays so.
fn note(record: &mut Record, flag: Flag) {
    if record.q != Some(Flag::Missing) {
        record.q = Some(flag);
    }
}

/// The number in the unit that the policy speaks of. What names no unit, or where the policy names none, is
/// compared as it was sent, to the last digit.
fn in_units_of(record: &Record, property: &Property) -> Result<Option<f64>, Wrong> {
    let (Some(sent), Some(wanted)) = (record.u.as_deref(), property.unit.as_deref()) else {
        return Ok(record.v);
    };
    if sent == wanted {
        return Ok(record.v);
    }
    let converted = units::convert(sent, wanted, record.v.unwrap_or_default());
    let converted = converted.ok_or_else(|| Wrong {
        reason: "unit",
        part: Part::Unit,
        message: match units::to_primary(sent, 0.0) {
            Some(_) => format!(
                "unit `{}` of `{}` does not convert to `{wanted}`",
                short(sent),
                record.n
            ),
            None => unknown(sent, &record.n),
        },
    })?;
    Ok(record.v.map(|_| converted))
}

/// What the device sent in place of a value, if it did.
fn sentinel(record: &Record, number: Option<f64>, property: &Property) -> Option<String> {
    property.missing.iter().find_map(|missing| match missing {
        Value::Number(missing) => {
            let is_it = is_close(number?, missing.as_f64()?);
            is_it.then(|| record.v.map(spelled)).flatten()
        }
        Value::String(missing) => record.vs.clone().filter(|text| text == missing),
        Value::Bool(missing) => record
            .vb
            .filter(|flag| flag == missing)
            .map(|flag| flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    })
}

/// Equal, but for what a conversion of units costs in digits.
fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

/// A number as a device writes it: `-200`, not `-200.0`.
fn spelled(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        format!("{number:.0}")
    } else {
        serde_json::Number::from_f64(number).map_or_else(|| number.to_string(), |number| number.to_string())
    }
}

fn check_type(record: &Record, property: &Property) -> Result<(), Wrong> {
    // A sum without a value is a number too (RFC 8428 §4.2).
    let is_number = record.v.is_some() || (record.s.is_some() && !record.has_value());
    let (is_right, wanted) = match property.kind {
        None => return Ok(()),
        Some(ValueType::Number) => (is_number, "a number"),
        Some(ValueType::Integer) => (
            is_number && record.v.is_none_or(|number| number.fract() == 0.0),
            "an integer",
        ),
        Some(ValueType::String) => (record.vs.is_some(), "a string"),
        Some(ValueType::Boolean) => (record.vb.is_some(), "a boolean"),
    };
    if is_right {
        return Ok(());
    }
    let found = match record {
        Record { v: Some(number), .. } => format!("the number {}", spelled(*number)),
        Record { vs: Some(_), .. } => "a string".to_owned(),
        Record { vb: Some(flag), .. } => format!("the boolean {flag}"),
        Record { vd: Some(_), .. } => "bytes".to_owned(),
        _ => "a sum".to_owned(),
    };
    Err(Wrong {
        reason: "type",
        part: Part::Value,
        message: format!(
            "`{}` is {found}; the policy of its thing wants {wanted}",
            record.n
        ),
    })
}

/// Converts value and sum. A record without a unit has the one that the policy tells, which is what the device
/// sends; a text or boolean without a unit has none.
fn to_primary(record: &mut Record, told: Option<&str>) -> Result<(), Wrong> {
    let is_measure = !(record.vs.is_some() || record.vb.is_some() || record.vd.is_some());
    let unit = match (record.u.as_deref(), told) {
        (Some(sent), _) => sent,
        (None, Some(told)) if is_measure => told,
        (None, _) => return Ok(()),
    };
    let in_primary = |value: f64| units::to_primary(unit, value).map(|(_, value)| value);
    let wrong = |reason, message| Wrong {
        reason,
        part: Part::Unit,
        message,
    };
    let Some((primary, value)) = units::to_primary(unit, record.v.unwrap_or_default()) else {
        return Err(wrong("unit", unknown(unit, &record.n)));
    };
    if primary == unit {
        if record.u.is_none() {
            record.u = Some(primary.to_owned());
        }
        return Ok(());
    }
    // Only what is proportional can be converted in an integral, and only what is identical in a text.
    let has_offset = in_primary(0.0).is_some_and(|zero| zero != 0.0);
    let has_factor = in_primary(1.0).is_some_and(|one| one.to_bits() != 1.0_f64.to_bits());
    if (record.s.is_some() && has_offset) || (!is_measure && (has_offset || has_factor)) {
        let message = format!(
            "what `{}` has in `{}` does not convert to `{primary}`",
            record.n,
            short(unit)
        );
        return Err(wrong("unit", message));
    }
    let sum = record.s.and_then(in_primary);
    if !value.is_finite() || sum.is_some_and(|sum| !sum.is_finite()) {
        let message = format!("`{}` in `{primary}` is a number that no double holds", record.n);
        return Err(Wrong {
            part: Part::Value,
            ..wrong("number", message)
        });
    }
    record.v = record.v.map(|_| value);
    record.s = sum;
    record.u = Some(primary.to_owned());
    Ok(())
}

fn unknown(unit: &str, name: &str) -> String {
    format!("unit `{}` is not known for `{name}`", short(unit))
}

/// A unit may be as long as a payload; a message repeats a piece of it.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
