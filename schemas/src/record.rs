//! One resolved SenML record (RFC 8428), with a QARTOD flag.
use serde::{Deserialize, Serialize};

/// One measured value of one property of a thing.
///
/// Labels are SenML's. Exactly one of `v`, `vs`, `vb`, `vd` is there; none where `s` is, or where `q` is 9.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The property: SenML's alphabet, at most 128 bytes. The full SenML name is `<thing>/<n>`.
    pub n: String,
    /// Unit, a primary one of the SenML registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub u: Option<String>,
    /// A number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<f64>,
    /// A text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vs: Option<String>,
    /// A boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vb: Option<bool>,
    /// Bytes, base64url without padding (RFC 8428 §4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vd: Option<String>,
    /// The integral of the value over time, in `u` times seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s: Option<f64>,
    /// When it was measured, epoch seconds; only where that differs from the envelope's `time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t: Option<f64>,
    /// Seconds until the next one at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ut: Option<f64>,
    /// Quality; absent until a stage has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<Flag>,
    /// The quality tests that failed, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// What the device sent in place of a value (`-200`), where `failed` has `missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<String>,
}

impl Record {
    /// A record of that name without a value yet.
    pub fn named(n: impl Into<String>) -> Self {
        Self {
            n: n.into(),
            ..Self::default()
        }
    }

    /// Whether any of the four values is there.
    pub fn has_value(&self) -> bool {
        self.v.is_some() || self.vs.is_some() || self.vb.is_some() || self.vd.is_some()
    }

    /// Takes the value away and flags the record as missing; the sentinel stays readable.
    pub fn missing(&mut self, sentinel: Option<String>) {
        (self.v, self.vs, self.vb, self.vd) = (None, None, None, None);
        self.q = Some(Flag::Missing);
        self.failed = vec!["missing".into()];
        self.sentinel = sentinel;
    }

    /// Notes what a quality test has found. The worst stays, and what is missing stays missing.
    pub fn found(&mut self, test: &str, flag: Flag) {
        if self.q == Some(Flag::Missing) {
            return;
        }
        self.q = Some(self.q.map_or(flag, |q| q.worse(flag)));
        let has_failed = matches!(flag, Flag::Suspect | Flag::Fail);
        if has_failed && !self.failed.iter().any(|known| known == test) {
            self.failed.push(test.to_owned());
        }
    }
}

/// QARTOD's flags (IOOS, *Manual for Real-Time Quality Control*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[repr(u8)]
pub enum Flag {
    /// 1: tested, and passed.
    Pass = 1,
    /// 2: nothing was configured to test.
    NotEvaluated = 2,
    /// 3: suspect.
    Suspect = 3,
    /// 4: failed; stored all the same.
    Fail = 4,
    /// 9: no value.
    Missing = 9,
}

impl Flag {
    /// Of two findings the one that counts: missing before failed, failed before suspect, that before passed, and
    /// anything before not evaluated.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let rank = |flag| match flag {
            Self::NotEvaluated => 0,
            other => u8::from(other),
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// The number is none of QARTOD's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a QARTOD flag: 1, 2, 3, 4 or 9")]
pub struct FlagError(pub u8);

impl TryFrom<u8> for Flag {
    type Error = FlagError;
    fn try_from(number: u8) -> Result<Self, FlagError> {
        Ok(match number {
            1 => Self::Pass,
            2 => Self::NotEvaluated,
            3 => Self::Suspect,
            4 => Self::Fail,
            9 => Self::Missing,
            other => return Err(FlagError(other)),
        })
    }
}

impl From<Flag> for u8 {
    fn from(flag: Flag) -> Self {
        flag as Self
    }
}
