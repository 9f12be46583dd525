//! Units: the SenML registry, RFC 8798's secondary units, and what devices write instead.
//!
//! An unknown unit is never guessed at, and two units convert only where one is a linear function of the other.

/// Primary units of the SenML registry (RFC 8428 §12.1, RFC 8798 §2), the discouraged ones too.
pub const PRIMARY: &[&str] = &[
    "m", "kg", "g", "s", "A", "K", "cd", "mol", "Hz", "rad", "sr", "N", "Pa", "J", "W", "C", "V", "F", "Ohm",
    "S", "Wb", "T", "H", "Cel", "lm", "lx", "Bq", "Gy", "Sv", "kat", "m2", "m3", "l", "m/s", "m/s2", "m3/s",
    "l/s", "W/m2", "cd/m2", "bit", "bit/s", "lat", "lon", "pH", "dB", "dBW", "Bspl", "count", "/", "%",
    "%RH", "%EL", "EL", "1/s", "1/min", "beat/min", "beats", "S/m", "B", "VA", "VAs", "var", "vars", "J/m",
    "kg/m3", "deg",
];

/// `target = (x + shift) · num / den`: a quotient, because 1/1000 and 1/3.6 are no doubles.
#[derive(Debug, Clone, Copy)]
struct Row {
    unit: &'static str,
    target: &'static str,
    shift: f64,
    num: f64,
    den: f64,
}

const fn row(unit: &'static str, target: &'static str, shift: f64, num: f64, den: f64) -> Row {
    Row {
        unit,
        target,
        shift,
        num,
        den,
    }
}

/// RFC 8798 §3, and its registry's later rows.
const SECONDARY: &[Row] = &[
    row("ms", "s", 0.0, 1.0, 1e3),
    row("min", "s", 0.0, 60.0, 1.0),
    row("h", "s", 0.0, 3600.0, 1.0),
    row("MHz", "Hz", 0.0, 1e6, 1.0),
    row("kW", "W", 0.0, 1e3, 1.0),
    row("kVA", "VA", 0.0, 1e3, 1.0),
    row("kvar", "var", 0.0, 1e3, 1.0),
    row("Ah", "C", 0.0, 3600.0, 1.0),
    row("Wh", "J", 0.0, 3600.0, 1.0),
    row("kWh", "J", 0.0, 3.6e6, 1.0),
    row("varh", "vars", 0.0, 3600.0, 1.0),
    row("kvarh", "vars", 0.0, 3.6e6, 1.0),
    row("VAh", "VAs", 0.0, 3600.0, 1.0),
    row("kVAh", "VAs", 0.0, 3.6e6, 1.0),
    row("Wh/km", "J/m", 0.0, 3.6, 1.0),
    row("KiB", "B", 0.0, 1024.0, 1.0),
    row("GB", "B", 0.0, 1e9, 1.0),
    row("Mbit/s", "bit/s", 0.0, 1e6, 1.0),
    row("B/s", "bit/s", 0.0, 8.0, 1.0),
    row("MB/s", "bit/s", 0.0, 8e6, 1.0),
    row("mV", "V", 0.0, 1.0, 1e3),
    row("mA", "A", 0.0, 1.0, 1e3),
    row("dBm", "dBW", -30.0, 1.0, 1.0),
    row("ug/m3", "kg/m3", 0.0, 1.0, 1e9),
    row("mm/h", "m/s", 0.0, 1.0, 3.6e6),
    row("m/h", "m/s", 0.0, 1.0, 3600.0),
    row("ppm", "/", 0.0, 1.0, 1e6),
    row("ppb", "/", 0.0, 1.0, 1e9),
    row("/100", "/", 0.0, 1.0, 100.0),
    row("/1000", "/", 0.0, 1.0, 1e3),
    row("hPa", "Pa", 0.0, 100.0, 1.0),
    row("mm", "m", 0.0, 1.0, 1e3),
    row("cm", "m", 0.0, 1.0, 100.0),
    row("km", "m", 0.0, 1e3, 1.0),
    row("km/h", "m/s", 0.0, 1.0, 3.6),
    row("mg/l", "kg/m3", 0.0, 1.0, 1e3),
    row("ug/l", "kg/m3", 0.0, 1.0, 1e6),
    row("g/l", "kg/m3", 0.0, 1.0, 1.0),
];

/// What is in no registry of SenML's, and comes from devices all the same.
const FOUND: &[Row] = &[
    row("degF", "Cel", -32.0, 5.0, 9.0),
    row("us", "s", 0.0, 1.0, 1e6),
    row("d", "s", 0.0, 86_400.0, 1.0),
    row("kHz", "Hz", 0.0, 1e3, 1.0),
    row("GHz", "Hz", 0.0, 1e9, 1.0),
    row("mW", "W", 0.0, 1.0, 1e3),
    row("MW", "W", 0.0, 1e6, 1.0),
    row("MWh", "J", 0.0, 3.6e9, 1.0),
    row("kJ", "J", 0.0, 1e3, 1.0),
    row("mAh", "C", 0.0, 3.6, 1.0),
    row("kV", "V", 0.0, 1e3, 1.0),
    row("uA", "A", 0.0, 1.0, 1e6),
    row("kOhm", "Ohm", 0.0, 1e3, 1.0),
    row("MOhm", "Ohm", 0.0, 1e6, 1.0),
    row("uS/cm", "S/m", 0.0, 1.0, 1e4),
    row("mS/cm", "S/m", 0.0, 1.0, 10.0),
    row("dS/m", "S/m", 0.0, 1.0, 10.0),
    row("mS/m", "S/m", 0.0, 1.0, 1e3),
    row("kPa", "Pa", 0.0, 1e3, 1.0),
    row("MPa", "Pa", 0.0, 1e6, 1.0),
    row("bar", "Pa", 0.0, 1e5, 1.0),
    row("mmHg", "Pa", 0.0, 133.322_387_415, 1.0),
    row("psi", "Pa", 0.0, 6_894.757_293_168_361, 1.0),
    row("um", "m", 0.0, 1.0, 1e6),
    row("in", "m", 0.0, 0.0254, 1.0),
    row("ft", "m", 0.0, 0.3048, 1.0),
    row("mi", "m", 0.0, 1_609.344, 1.0),
    row("mph", "m/s", 0.0, 0.44704, 1.0),
    row("kn", "m/s", 0.0, 1852.0, 3600.0),
    row("cm/s", "m/s", 0.0, 1.0, 100.0),
    row("mm/s", "m/s", 0.0, 1.0, 1e3),
    row("gn", "m/s2", 0.0, 9.80665, 1.0),
    row("cm2", "m2", 0.0, 1.0, 1e4),
    row("ml", "m3", 0.0, 1.0, 1e6),
    row("m3/h", "m3/s", 0.0, 1.0, 3600.0),
    row("l/min", "m3/s", 0.0, 1.0, 6e4),
    row("l/h", "m3/s", 0.0, 1.0, 3.6e6),
    row("mg", "kg", 0.0, 1.0, 1e6),
    row("t", "kg", 0.0, 1e3, 1.0),
    row("mg/m3", "kg/m3", 0.0, 1.0, 1e6),
    row("g/m3", "kg/m3", 0.0, 1.0, 1e3),
    row("MB", "B", 0.0, 1e6, 1.0),
    row("kB", "B", 0.0, 1e3, 1.0),
    row("MiB", "B", 0.0, 1_048_576.0, 1.0),
    row("GiB", "B", 0.0, 1_073_741_824.0, 1.0),
    row("kbit/s", "bit/s", 0.0, 1e3, 1.0),
    row("kW/m2", "W/m2", 0.0, 1e3, 1.0),
];

/// Primary units of one quantity: each in terms of the one that SenML prefers.
const KIN: &[Row] = &[
    row("g", "kg", 0.0, 1.0, 1e3),
    row("Cel", "K", 273.15, 1.0, 1.0),
    row("l", "m3", 0.0, 1.0, 1e3),
    row("l/s", "m3/s", 0.0, 1.0, 1e3),
    row("%", "/", 0.0, 1.0, 100.0),
    row("%RH", "/", 0.0, 1.0, 100.0),
    row("%EL", "/", 0.0, 1.0, 100.0),
    row("1/min", "1/s", 0.0, 1.0, 60.0),
    row("Hz", "1/s", 0.0, 1.0, 1.0),
    row("deg", "rad", 0.0, std::f64::consts::PI, 180.0),
    row("B", "bit", 0.0, 8.0, 1.0),
];

/// Spellings that mean a unit above, after [`plain`] has made them ASCII.
const ALIASES: &[(&str, &[&str])] = &[
    (
        "Cel",
        &[
            "degC",
            "deg C",
            "Celsius",
            "celsius",
            "cel",
            "deg_C",
            "degrees Celsius",
            "degree_Celsius",
            "oC",
        ],
    ),
    ("degF", &["deg F", "Fahrenheit", "fahrenheit", "[degF]", "deg_F"]),
    ("K", &["degK", "Kelvin", "kelvin"]),
    ("deg", &["degree", "degrees", "Degrees", "arcdeg"]),
    ("rad", &["radian"]),
    ("%", &["percent", "Percent", "pct"]),
    ("%RH", &["% RH", "RH%", "%rH", "%rh", "%r.H.", "rel%"]),
    ("/", &["1", "ratio"]),
    ("%EL", &["% EL"]),
    ("m/s", &["m.s-1", "mps", "m/sec", "meter/s", "metre/second"]),
    ("km/h", &["km.h-1", "kmh", "kph"]),
    ("mph", &["mi/h"]),
    ("kn", &["knot", "knots", "kt"]),
    ("cm/s", &["cm.s-1"]),
    ("mm/s", &["mm.s-1"]),
    ("mm/h", &["mm.h-1", "mm/hr"]),
    ("m/s2", &["m.s-2", "m/s/s", "m/s^2"]),
    ("gn", &["[g]", "G"]),
    ("ug/m3", &["ug.m-3", "ug/m^3"]),
    ("mg/m3", &["mg.m-3", "mg/m^3"]),
    ("g/m3", &["g.m-3"]),
    ("kg/m3", &["kg.m-3", "kg/m^3"]),
    ("mg/l", &["mg/L", "mg.l-1", "mg.L-1"]),
    ("g/l", &["g/L"]),
    ("ug/l", &["ug/L"]),
    ("uS/cm", &["uS.cm-1"]),
    ("mS/cm", &["mS.cm-1"]),
    ("dS/m", &["dS.m-1"]),
    ("mS/m", &["mS.m-1"]),
    ("S/m", &["S.m-1"]),
    ("W/m2", &["W.m-2", "W/m^2"]),
    ("kW/m2", &["kW.m-2"]),
    ("cd/m2", &["cd.m-2"]),
    ("m3/h", &["m3.h-1", "m^3/h"]),
    ("m3/s", &["m3.s-1", "m^3/s"]),
    ("l/s", &["l.s-1", "L/s", "L.s-1"]),
    ("l/min", &["L/min", "l.min-1", "L.min-1"]),
    ("l/h", &["L/h", "l.h-1"]),
    ("l", &["L", "litre", "liter"]),
    ("ml", &["mL"]),
    ("m2", &["m^2"]),
    ("m3", &["m^3"]),
    ("cm2", &["cm^2"]),
    ("s", &["sec", "second", "seconds"]),
    ("ms", &["msec"]),
    ("us", &["usec"]),
    ("min", &["minute", "minutes"]),
    ("h", &["hour", "hours", "hr"]),
    ("d", &["day", "days"]),
    ("1/s", &["s-1", "/s"]),
    ("1/min", &["min-1", "/min", "rpm"]),
    ("beat/min", &["bpm"]),
    ("Hz", &["hz"]),
    ("V", &["volt", "volts", "Volt", "Volts", "v"]),
    ("A", &["amp", "amps", "ampere", "Ampere"]),
    ("W", &["watt", "watts", "Watt"]),
    ("Ohm", &["ohm", "ohms"]),
    ("kOhm", &["kohm"]),
    ("var", &["VAr", "VAR"]),
    ("kvar", &["kVAr"]),
    ("kWh", &["kwh", "KWh", "kW.h"]),
    ("Wh", &["W.h"]),
    ("J", &["joule"]),
    ("N", &["newton"]),
    ("Pa", &["pascal"]),
    ("hPa", &["mbar", "millibar", "hpa"]),
    ("kPa", &["kpa"]),
    ("lx", &["lux", "Lux"]),
    ("lm", &["lumen"]),
    ("ppm", &["PPM"]),
    ("ppb", &["PPB"]),
    ("pH", &["ph", "PH"]),
    ("dB", &["db"]),
    ("dBm", &["dbm"]),
    ("m", &["meter", "metre", "meters"]),
    ("in", &["inch"]),
    ("ft", &["feet"]),
    ("mi", &["mile"]),
    ("g", &["gram"]),
    ("kg", &["kilogram", "Kg"]),
    ("B", &["byte", "bytes"]),
    ("bit/s", &["bps"]),
    ("kbit/s", &["kbps"]),
    ("Mbit/s", &["Mbps"]),
    ("count", &["counts", "{count}"]),
    ("lat", &["latitude"]),
    ("lon", &["longitude"]),
];

/// Whether the SenML registry has it as a primary unit.
pub fn is_primary(unit: &str) -> bool {
    PRIMARY.contains(&unit)
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
