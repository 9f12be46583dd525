//! How a virtual sensor's value is computed from its inputs: by a function that is built in, or by CEL.
use crate::rules::{
    expression::{self, Expression, Scope, Trouble},
    history::{Plain, Window},
};
use cel::Value as Cel;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use telltale_schemas::{Record, Timestamp};

/// Names that an expression may use beside its inputs.
const OURS: [&str; 2] = ["time", "math"];

/// Compiled; it is kept as its text.
#[derive(Debug, Clone)]
pub(super) struct Formula {
    text: String,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    BuiltIn(BuiltIn, [String; 2]),
    Cel(Box<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BuiltIn {
    DewPoint,
    IceRisk,
}

/// Its inputs at one moment.
pub(super) struct Inputs<'a> {
    pub(super) values: &'a BTreeMap<&'a str, &'a Plain>,
    pub(super) at: Timestamp,
}

impl Scope for Inputs<'_> {
    fn get(&self, name: &str) -> Option<Cel> {
        match name {
            "time" => Some(Cel::Float(self.at.as_seconds())),
            name => self.values.get(name).map(|value| value.cel()),
        }
    }

    fn window(&self, _: &Window) -> Option<f64> {
        None
    }
}

impl Formula {
    /// Reads it. What is wrong is told with its line and column.
    pub(super) fn compile(text: &str) -> Result<Self, expression::Wrong> {
        if let Some((function, names)) = built_in(text) {
            let how = How::BuiltIn(function, names);
            return Ok(Self {
                text: text.to_owned(),
                how,
            });
        }
        let expression = Expression::compile(text)?;
        if !expression.windows().is_empty() || !expression.previous().is_empty() {
            return Err(expression::Wrong {
                line: 1,
                column: 1,
                message: "a virtual sensor looks at its inputs as they are; compute windows with `window`"
                    .to_owned(),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            how: How::Cel(Box::new(expression)),
        })
    }

    /// A name that it uses and that is none of these.
    pub(super) fn unknown(&self, inputs: &BTreeMap<String, String>) -> Option<&str> {
        let is_known = |name: &&str| inputs.contains_key(*name);
        match &self.how {
            How::BuiltIn(_, names) => names.iter().map(String::as_str).find(|name| !is_known(name)),
            How::Cel(expression) => {
                let names = expression.names().iter().map(String::as_str);
                let mut names = names.filter(|name| !name.contains('.') && !OURS.contains(name));
                names.find(|name| !is_known(name))
            }
        }
    }

    /// Puts the value into a record.
    pub(super) fn fill(&self, inputs: &Inputs<'_>, record: &mut Record) -> Result<(), Trouble> {
        let value = match &self.how {
            How::BuiltIn(function, [one, other]) => {
                let number = |name: &String| match inputs.values.get(name.as_str()) {
                    Some(Plain::Number(number)) => Ok(*number),
                    Some(_) => Err(Trouble::Failed(format!("`{name}` is no number"))),
                    None => Err(Trouble::Absent(name.clone())),
                };
                function.value(number(one)?, number(other)?)
            }
            How::Cel(expression) => expression.json(inputs)?,
        };
        match value {
            Value::Number(number) => record.v = number.as_f64(),
            Value::String(text) => record.vs = Some(text),
            Value::Bool(truth) => record.vb = Some(truth),
            other => return Err(Trouble::Failed(format!("a record cannot be {other}"))),
        }
        Ok(())
    }
}

/// `name(input, input)`, of a function that is built in.
fn built_in(text: &str) -> Option<(BuiltIn, [String; 2])> {
    let (name, rest) = text.trim().split_once('(')?;
    let function = match name.trim_end() {
        "dew_point" => BuiltIn::DewPoint,
        "ice_risk" => BuiltIn::IceRisk,
        _ => return None,
    };
    let (one, other) = rest.strip_suffix(')')?.split_once(',')?;
    let (one, other) = (one.trim(), other.trim());
    let is_name = |name: &str| {
        name.bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    };
    (is_name(one) && is_name(other)).then(|| (function, [one.to_owned(), other.to_owned()]))
}

impl BuiltIn {
    fn value(self, one: f64, other: f64) -> Value {
        match self {
            // No air is without water; what says so is broken.
            Self::DewPoint if other > 0.0 => Value::from(dew_point(one, other)),
            Self::DewPoint => Value::Null,
            Self::IceRisk => Value::Bool(one <= 0.0 && one <= other),
        }
    }
}

/// Magnus' formula with the constants of the WMO (Guide to Instruments, 2018, annex 4.B, over water): temperature in
/// °C, relative humidity in %.
fn dew_point(temperature: f64, humidity: f64) -> f64 {
    const A: f64 = 17.62;
    const B: f64 = 243.12;
    let gamma = (humidity / 100.0).ln() + A * temperature / (B + temperature);
    B * gamma / (A - gamma)
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for Formula {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Formula {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::compile(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dew_point_is_the_temperature_where_the_air_is_full_and_below_it_elsewhere() {
        assert!((dew_point(12.5, 100.0) - 12.5).abs() < 1e-12);
        // Psychrometric tables: 20 °C and 50 % give 9.3 °C.
        assert!((dew_point(20.0, 50.0) - 9.3).abs() < 0.05);
        assert!((dew_point(0.0, 50.0) + 9.2).abs() < 0.1);
    }

    #[test]
    fn ice_needs_frost_and_a_surface_below_the_dew_point() {
        let risk = |surface, dew| BuiltIn::IceRisk.value(surface, dew);
        assert_eq!(risk(-1.0, -0.5), Value::Bool(true));
        assert_eq!(risk(-1.0, -1.5), Value::Bool(false));
        assert_eq!(risk(0.5, 1.0), Value::Bool(false));
    }

    #[test]
    fn what_is_not_built_in_is_cel() {
        for (text, is_built_in) in [
            ("dew_point(t, h)", true),
            (" ice_risk( t,dp ) ", true),
            ("ice_risk(t,dp)", true),
            ("t - h", false),
        ] {
            let compiled = Formula::compile(text);
            assert_eq!(
                compiled.is_ok_and(|formula| matches!(formula.how, How::BuiltIn(..))),
                is_built_in,
                "{text}"
            );
        }
    }
}
