//! Units: the SenML registry, RFC 8798's secondary units, and what devices write instead.
//!
//! An unknown unit is never guessed at, and two units convert only where one is a linear function of the other.

mod tables;
#[cfg(test)]
mod tests;

pub use tables::PRIMARY;
use tables::{ALIASES, FOUND, KIN, Row, SECONDARY, UCUM, row};

/// Whether the SenML registry has it as a primary unit.
pub fn is_primary(unit: &str) -> bool {
    PRIMARY.contains(&unit)
}

/// What UCUM, the code system of observations on the web, calls a primary unit; `None` for a unit that is none.
pub fn ucum(primary: &str) -> Option<&'static str> {
    let unit = PRIMARY.iter().find(|unit| **unit == primary)?;
    let other = UCUM.iter().find(|(senml, _)| senml == unit);
    Some(other.map_or(*unit, |(_, ucum)| *ucum))
}

/// The value in the primary unit of the same quantity; a primary unit stays as it is, `None` is an unknown one.
pub fn to_primary(unit: &str, value: f64) -> Option<(&'static str, f64)> {
    let row = lookup(unit)?;
    Some((row.target, row.forth(value)))
}

/// The value in another unit; `None` where one is unknown, or they are of different quantities.
///
/// A percentage may become a relative humidity or a battery level, which are percentages; one of these never
/// the other.
pub fn convert(from: &str, to: &str, value: f64) -> Option<f64> {
    let (from, to) = (lookup(from)?, lookup(to)?);
    let primary = from.forth(value);
    if from.target == to.target {
        return Some(to.back(primary));
    }
    let is_special = |unit: &str| matches!(unit, "%RH" | "%EL");
    if is_special(from.target) && is_special(to.target) {
        return None;
    }
    let (from, kin) = (kin(from.target), kin(to.target));
    if from.target != kin.target {
        return None;
    }
    // Of two percentages each is the other: no detour over a hundredth, which would cost the last digit.
    let is_same = from.shift.to_bits() == kin.shift.to_bits()
        && from.num.to_bits() == kin.num.to_bits()
        && from.den.to_bits() == kin.den.to_bits();
    Some(to.back(if is_same {
        primary
    } else {
        kin.back(from.forth(primary))
    }))
}

impl Row {
    fn forth(&self, value: f64) -> f64 {
        (value + self.shift) * self.num / self.den
    }

    fn back(&self, value: f64) -> f64 {
        value * self.den / self.num - self.shift
    }
}

fn kin(primary: &'static str) -> Row {
    let kin = KIN.iter().find(|row| row.unit == primary);
    kin.copied()
        .unwrap_or_else(|| row(primary, primary, 0.0, 1.0, 1.0))
}

fn lookup(unit: &str) -> Option<Row> {
    // Nothing in the tables is longer, and a device may send anything.
    if unit.len() > 32 {
        return None;
    }
    exact(unit).or_else(|| {
        let plain = plain(unit);
        exact(&plain).or_else(|| {
            let alias = ALIASES
                .iter()
                .find(|(_, spellings)| spellings.contains(&plain.as_str()));
            alias.and_then(|(unit, _)| exact(unit))
        })
    })
}

fn exact(unit: &str) -> Option<Row> {
    let primary = PRIMARY.iter().find(|primary| **primary == unit);
    let primary = primary.map(|primary| row(primary, primary, 0.0, 1.0, 1.0));
    primary.or_else(|| {
        SECONDARY
            .iter()
            .chain(FOUND)
            .find(|row| row.unit == unit)
            .copied()
    })
}

/// Signs that keyboards lack, in ASCII: `µg⋅m⁻³` is `ug.m-3`, `°C` is `degC`.
fn plain(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len() + 2);
    for c in unit.trim().chars() {
        match c {
            '°' | 'º' => out.push_str("deg"),
            '℃' => out.push_str("degC"),
            '℉' => out.push_str("degF"),
            '\u{b5}' | '\u{3bc}' => out.push('u'),
            '\u{3a9}' | '\u{2126}' => out.push_str("Ohm"),
            '⋅' | '·' | '×' | '*' => out.push('.'),
            '⁻' | '−' => out.push('-'),
            '¹' => out.push('1'),
            '²' => out.push('2'),
            '³' => out.push('3'),
            '∕' | '⁄' => out.push('/'),
            '\u{a0}' | '\u{202f}' => out.push(' '),
            '‰' => out.push_str("/1000"),
            other => out.push(other),
        }
    }
    out
}
