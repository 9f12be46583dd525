//! One record against what is expected of its property: type, missing value, unit, range, and whether it is one of
//! those that there are.
use serde_json::Value;
use telltale_schemas::{
    Flag, Record,
    quality::test::GROSS_RANGE,
    thing::{Policy, Property, ValueType},
    units,
};

/// The test whether a value is one that stands for none.
const MISSING: &str = "missing";
/// The test whether a value is one of those that it can have.
const ENUM: &str = "enum";
/// The test whether a property is one that its device reports.
const WRITE_ONLY: &str = "write_only";
/// The test whether a property is one of those that its thing has.
const UNDECLARED: &str = "undeclared";

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
pub(crate) fn judge(record: &mut Record, policy: &Policy) -> Result<(), Wrong> {
    if let Some(property) = policy.properties.get(&record.n) {
        return judge_by(record, property);
    }
    let around = around(policy, &record.n);
    to_primary(record, None)?;
    if around.is_some_and(|property| property.write_only) {
        record.found(WRITE_ONLY, Flag::Fail);
        return Ok(());
    }
    record.found(UNDECLARED, Flag::NotEvaluated);
    // Nothing is lost for want of a declaration.
    if policy.declared && around.is_none() {
        record.failed.push(UNDECLARED.to_owned());
    }
    Ok(())
}

/// The object that it is inside of: `a` or `a.b` for `a.b.c`.
fn around<'a>(policy: &'a Policy, name: &str) -> Option<&'a Property> {
    let mut inner = name;
    while let Some((outer, _)) = inner.rsplit_once('.') {
        if let Some(property) = policy.properties.get(outer) {
            return Some(property);
        }
        inner = outer;
    }
    None
}

fn judge_by(record: &mut Record, property: &Property) -> Result<(), Wrong> {
    let number = in_units_of(record, property)?;
    if let Some(sentinel) = sentinel(record, number, property) {
        record.missing(Some(sentinel));
    }
    if record.q == Some(Flag::Missing) {
        return to_primary(record, property.unit.as_deref());
    }
    check_type(record, property)?;
    to_primary(record, property.unit.as_deref())?;
    let is_one = is_one_of(record, number, &property.values);
    let looked_for_missing = !property.missing.is_empty();
    record.found(
        MISSING,
        if looked_for_missing {
            Flag::Pass
        } else {
            Flag::NotEvaluated
        },
    );
    if property.write_only {
        record.found(WRITE_ONLY, Flag::Fail);
    }
    if let Some(flag) = number.and_then(|number| gross_range(number, property)) {
        record.found(GROSS_RANGE, flag);
    }
    if let Some(is_one) = is_one {
        record.found(ENUM, passed(is_one));
    }
    Ok(())
}

fn passed(holds: bool) -> Flag {
    if holds { Flag::Pass } else { Flag::Fail }
}

/// `None` where there are no bounds.
fn gross_range(number: f64, property: &Property) -> Option<Flag> {
    let holds = [
        property.minimum.map(|bound| number >= bound),
        property.maximum.map(|bound| number <= bound),
        property.exclusive_minimum.map(|bound| number > bound),
        property.exclusive_maximum.map(|bound| number < bound),
    ];
    let bounds = holds.into_iter().flatten().map(passed);
    let spans = property
        .quality
        .as_ref()
        .and_then(|quality| quality.gross_range.as_ref());
    let spans = spans.map(|spans| spans.judge(number));
    bounds.chain(spans).reduce(Flag::worse)
}

/// `None` where it can have all values, or has none.
fn is_one_of(record: &Record, number: Option<f64>, values: &[Value]) -> Option<bool> {
    let is_known = !values.is_empty() && record.has_value();
    is_known.then(|| values.iter().any(|value| is_it(record, number, value)))
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
    let mut missing = property.missing.iter();
    if !missing.any(|missing| is_it(record, number, missing)) {
        return None;
    }
    let number = record.v.map(spelled);
    number
        .or_else(|| record.vs.clone())
        .or_else(|| record.vb.map(|flag| flag.to_string()))
}

/// Whether that is the record's value; `number` is its number in the unit of the policy.
fn is_it(record: &Record, number: Option<f64>, value: &Value) -> bool {
    match value {
        Value::Number(value) => number
            .zip(value.as_f64())
            .is_some_and(|(number, value)| is_close(number, value)),
        Value::String(value) => record.vs.as_ref() == Some(value),
        Value::Bool(value) => record.vb == Some(*value),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
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
