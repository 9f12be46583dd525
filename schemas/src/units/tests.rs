//! Every row both ways.
use super::{
    tables::{ALIASES, FOUND, KIN, SECONDARY, UCUM},
    *,
};

fn assert_near(got: Option<f64>, wanted: f64, what: &str) {
    let got = got.unwrap_or_else(|| panic!("{what} is not known"));
    let error = (got - wanted).abs() / wanted.abs().max(1e-12);
    assert!(error < 1e-12, "{what}: {got} is not {wanted}");
}

/// RFC 8798, table 2: secondary unit, primary unit, scale, offset.
const RFC_8798: [(&str, &str, f64, f64); 32] = [
    ("ms", "s", 1.0 / 1000.0, 0.0),
    ("min", "s", 60.0, 0.0),
    ("h", "s", 3600.0, 0.0),
    ("MHz", "Hz", 1_000_000.0, 0.0),
    ("kW", "W", 1000.0, 0.0),
    ("kVA", "VA", 1000.0, 0.0),
    ("kvar", "var", 1000.0, 0.0),
    ("Ah", "C", 3600.0, 0.0),
    ("Wh", "J", 3600.0, 0.0),
    ("kWh", "J", 3_600_000.0, 0.0),
    ("varh", "vars", 3600.0, 0.0),
    ("kvarh", "vars", 3_600_000.0, 0.0),
    ("kVAh", "VAs", 3_600_000.0, 0.0),
    ("Wh/km", "J/m", 3.6, 0.0),
    ("KiB", "B", 1024.0, 0.0),
    ("GB", "B", 1e9, 0.0),
    ("Mbit/s", "bit/s", 1_000_000.0, 0.0),
    ("B/s", "bit/s", 8.0, 0.0),
    ("MB/s", "bit/s", 8_000_000.0, 0.0),
    ("mV", "V", 1.0 / 1000.0, 0.0),
    ("mA", "A", 1.0 / 1000.0, 0.0),
    ("dBm", "dBW", 1.0, -30.0),
    ("ug/m3", "kg/m3", 1e-9, 0.0),
    ("mm/h", "m/s", 1.0 / 3_600_000.0, 0.0),
    ("m/h", "m/s", 1.0 / 3600.0, 0.0),
    ("ppm", "/", 1e-6, 0.0),
    ("/100", "/", 1.0 / 100.0, 0.0),
    ("/1000", "/", 1.0 / 1000.0, 0.0),
    ("hPa", "Pa", 100.0, 0.0),
    ("mm", "m", 1.0 / 1000.0, 0.0),
    ("cm", "m", 1.0 / 100.0, 0.0),
    ("km", "m", 1000.0, 0.0),
];

#[test]
fn the_secondary_units_of_rfc_8798_convert_both_ways() {
    for (unit, primary, scale, offset) in RFC_8798 {
        for value in [0.0, 1.0, -40.0, 1013.25] {
            assert_near(convert(unit, primary, value), scale * value + offset, unit);
            assert_near(convert(primary, unit, scale * value + offset), value, unit);
            assert_eq!(to_primary(unit, value).map(|(primary, _)| primary), Some(primary));
        }
    }
    assert_near(convert("km/h", "m/s", 90.0), 25.0, "km/h");
}

#[test]
fn every_row_of_every_table_converts_there_and_back() {
    for row in SECONDARY.iter().chain(FOUND).chain(KIN) {
        assert!(
            is_primary(row.target) || matches!(row.target, "1/s"),
            "{}",
            row.target
        );
        for value in [-17.5, 0.1, 21.5, 100_000.0] {
            let there = convert(row.unit, row.target, value).unwrap();
            assert_near(convert(row.target, row.unit, there), value, row.unit);
        }
    }
}

#[test]
fn a_primary_unit_stays_as_it_is() {
    for unit in PRIMARY {
        assert!(is_primary(unit));
        assert_eq!(to_primary(unit, 21.5), Some((*unit, 21.5)));
        assert_eq!(convert(unit, unit, 21.5), Some(21.5));
    }
    assert!(!is_primary("degC"));
}

#[test]
fn every_alias_means_a_unit_and_only_one() {
    let mut seen = std::collections::BTreeSet::new();
    for (unit, spellings) in ALIASES {
        assert!(exact(unit).is_some(), "{unit} is in no table");
        for spelling in *spellings {
            assert!(exact(spelling).is_none(), "{spelling} is a unit itself");
            assert!(seen.insert(*spelling), "{spelling} comes twice");
            assert_eq!(plain(spelling), *spelling, "{spelling} can never be found");
            assert_eq!(to_primary(spelling, 3.0), to_primary(unit, 3.0));
        }
    }
}

#[test]
fn what_devices_really_send_is_understood() {
    for (unit, value, primary, wanted) in [
        ("°C", 21.5, "Cel", 21.5),
        ("degC", 21.5, "Cel", 21.5),
        ("Celsius", 21.5, "Cel", 21.5),
        ("℃", 21.5, "Cel", 21.5),
        (" °C ", 21.5, "Cel", 21.5),
        ("°F", 212.0, "Cel", 100.0),
        ("Fahrenheit", -40.0, "Cel", -40.0),
        ("m⋅s⁻¹", 3.0, "m/s", 3.0),
        ("m·s⁻²", 3.0, "m/s2", 3.0),
        ("µg⋅m⁻³", 5.0, "kg/m3", 5e-9),
        ("μg/m³", 5.0, "kg/m3", 5e-9),
        ("µS⋅cm⁻¹", 100.0, "S/m", 0.01),
        ("mS/cm", 1.0, "S/m", 0.1),
        ("W⋅m⁻²", 800.0, "W/m2", 800.0),
        ("mm⋅h⁻¹", 3.6, "m/s", 1e-6),
        ("°", 90.0, "deg", 90.0),
        ("%", 55.0, "%", 55.0),
        ("% RH", 55.0, "%RH", 55.0),
        ("kΩ", 2.0, "Ohm", 2000.0),
        ("mbar", 1013.25, "Pa", 101_325.0),
        ("bar", 1.0, "Pa", 1e5),
        ("L/min", 6.0, "m3/s", 1e-4),
        ("m³", 2.0, "m3", 2.0),
        ("mg⋅L⁻¹", 1.0, "kg/m3", 1e-3),
        ("‰", 5.0, "/", 0.005),
        ("lux", 7.0, "lx", 7.0),
    ] {
        let (got, number) = to_primary(unit, value).unwrap_or_else(|| panic!("{unit} is not known"));
        assert_eq!(got, primary, "{unit}");
        assert_near(Some(number), wanted, unit);
    }
}

#[test]
fn one_quantity_converts_and_two_do_not() {
    for (from, to, value, wanted) in [
        ("K", "Cel", 273.15, 0.0),
        ("degF", "K", 32.0, 273.15),
        ("g", "kg", 1500.0, 1.5),
        ("l", "m3", 1.0, 0.001),
        ("%", "/", 55.0, 0.55),
        ("%", "%RH", 55.3, 55.3),
        ("/", "%RH", 0.5, 50.0),
        ("deg", "rad", 180.0, std::f64::consts::PI),
        ("1/min", "Hz", 60.0, 1.0),
        ("kWh", "Wh", 1.0, 1000.0),
        ("kB", "bit", 1.0, 8000.0),
    ] {
        assert_near(convert(from, to, value), wanted, &format!("{from} to {to}"));
    }
    for (from, to) in [
        ("Cel", "m"),
        ("%RH", "%EL"),
        ("lat", "deg"),
        ("s", "Hz"),
        ("J", "W"),
        ("A", "V"),
    ] {
        assert_eq!(convert(from, to, 1.0), None, "{from} to {to}");
    }
}

#[test]
fn an_unknown_unit_is_not_guessed() {
    for unit in ["", "furlong", "CEL", "M", "mC", "ug", "/ m", "°X"] {
        assert_eq!(to_primary(unit, 1.0), None, "{unit}");
    }
    assert_eq!(to_primary(&"m".repeat(100_000), 1.0), None);
}

#[test]
fn each_primary_unit_has_a_code_of_ucum_and_no_other_has() {
    for unit in PRIMARY {
        let code = ucum(unit).unwrap();
        assert!(!code.is_empty() && code.is_ascii(), "{unit}");
    }
    assert_eq!(
        (ucum("Cel"), ucum("%RH"), ucum("/")),
        (Some("Cel"), Some("%"), Some("1"))
    );
    assert_eq!((ucum("degF"), ucum("")), (None, None));
    for (senml, code) in UCUM {
        assert!(is_primary(senml) && senml != code, "{senml}");
    }
}
