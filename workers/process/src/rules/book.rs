//! Which rules are in force: what the bucket has, but for what is refused.
use super::{
    document::{self, Wrong},
    engine::{Engine, State},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use telltale_schemas::rule::Rule;

/// One rule that was put into force, or taken out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// As it is now; `None`: it is gone.
    pub rule: Option<Rule>,
}

/// A document that is in the bucket and not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its key.
    pub name: String,
    /// What is wrong with it.
    pub wrong: Vec<Wrong>,
}

impl Engine {
    /// Puts these documents into force, by key, and takes all others out of it. What changed comes back, of every
    /// kind: conditions are in force then, the others are for the derived readings. A document that is wrong is not in
    /// force, and stops no other.
    pub fn refresh(&mut self, documents: &BTreeMap<String, Vec<u8>>) -> (Vec<Change>, Vec<Refused>) {
        let (mut changes, mut refused) = (Vec::new(), Vec::new());
        let mut standing: BTreeMap<String, String> = BTreeMap::new();
        for (name, document) in documents {
            let unchanged = self.state.documents.get(name);
            if let Some(text) = unchanged.filter(|text| text.as_bytes() == document.as_slice()) {
                standing.insert(name.clone(), text.clone());
                continue;
            }
            match read(name, document) {
                Ok((text, rule, condition)) => {
                    match condition {
                        Some(condition) => self.put(condition),
                        None => self.remove(name),
                    }
                    standing.insert(name.clone(), text);
                    changes.push(Change {
                        name: name.clone(),
                        rule: Some(rule),
                    });
                }
                Err(wrong) => refused.push(Refused {
                    name: name.clone(),
                    wrong,
                }),
            }
        }
        let before = std::mem::replace(&mut self.state.documents, standing);
        for name in before.into_keys() {
            if !self.state.documents.contains_key(&name) {
                self.remove(&name);
                changes.push(Change { name, rule: None });
            }
        }
        (changes, refused)
    }

    /// Every rule in force.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        let texts = self.state.documents.values();
        texts.filter_map(|text| serde_json::from_str(text).ok())
    }
}

type Read = (String, Rule, Option<document::Condition>);

fn read(name: &str, document: &[u8]) -> Result<Read, Vec<Wrong>> {
    let whole = |message: String| {
        vec![Wrong {
            pointer: String::new(),
            place: None,
            message,
        }]
    };
    let text = std::str::from_utf8(document).map_err(|error| whole(error.to_string()))?;
    let value: Value = serde_json::from_str(text).map_err(|error| whole(error.to_string()))?;
    let (rule, condition) = document::ready(&value)?;
    if rule.name != name {
        return Err(whole(format!(
            "it is kept under `{name}` and says that it is `{}`",
            rule.name
        )));
    }
    Ok((text.to_owned(), rule, condition))
}

impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Engine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let state = State::deserialize(deserializer)?;
        let mut engine = Self::default();
        for (name, text) in &state.documents {
            let (_, _, condition) = read(name, text.as_bytes())
                .map_err(|wrong| serde::de::Error::custom(format!("rule `{name}`: {wrong:?}")))?;
            if let Some(condition) = condition {
                engine.put(condition);
            }
        }
        engine.state = state;
        Ok(engine)
    }
}
