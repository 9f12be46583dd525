//! Where in RAW a message came from.
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// `<epoch of RAW>-<sequence>`: given once to each accepted message, carried by all that is made from it.
///
/// The epoch is the creation time of the stream RAW in epoch seconds: a stream that was made anew
/// counts from 1 again, and must not be taken for the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawSeq {
    /// RAW's creation time, epoch seconds.
    pub epoch: u64,
    /// Sequence in that stream, from 1.
    pub seq: u64,
}

/// The text is not `<epoch>-<sequence>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `<epoch>-<sequence>`")]
pub struct RawSeqError(pub String);

impl fmt::Display for RawSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for RawSeq {
    type Err = RawSeqError;
    fn from_str(text: &str) -> Result<Self, RawSeqError> {
        text.split_once('-')
            .and_then(|(epoch, seq)| {
                Some(Self {
                    epoch: epoch.parse().ok()?,
                    seq: seq.parse().ok()?,
                })
            })
            .filter(|raw| raw.to_string() == text)
            .ok_or_else(|| RawSeqError(text.into()))
    }
}

impl Serialize for RawSeq {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RawSeq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
