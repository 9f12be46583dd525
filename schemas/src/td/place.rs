//! A value inside a document, together with the JSON Pointer to it.
use crate::{kinds::Fault, refusal::push_segment};
use serde_json::Value;

#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    pub(super) value: &'a Value,
    pub(super) pointer: String,
}

impl<'a> Place<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self {
            value,
            pointer: String::new(),
        }
    }

    fn under(&self, value: &'a Value, segment: &str) -> Self {
        let mut pointer = self.pointer.clone();
        push_segment(&mut pointer, segment);
        Self { value, pointer }
    }

    /// That member, where this is an object that has it.
    pub(super) fn member(&self, name: &str) -> Option<Self> {
        self.value.get(name).map(|value| self.under(value, name))
    }

    /// The members of the object that this is; none of anything else.
    pub(super) fn members(&self) -> Vec<(&'a str, Self)> {
        let members = self.value.as_object().into_iter().flatten();
        members
            .map(|(name, value)| (name.as_str(), self.under(value, name)))
            .collect()
    }

    /// The members of the object that is in that member.
    pub(super) fn members_of(&self, name: &str) -> Vec<(&'a str, Self)> {
        self.member(name).map(|place| place.members()).unwrap_or_default()
    }

    /// The items of the array that is in that member.
    pub(super) fn items_of(&self, name: &str) -> Vec<Self> {
        self.member(name).map(|place| place.items()).unwrap_or_default()
    }

    /// The items of the array that this is; none of anything else.
    pub(super) fn items(&self) -> Vec<Self> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items
            .map(|(index, value)| self.under(value, &index.to_string()))
            .collect()
    }

    /// The one or the several that this is.
    pub(super) fn one_or_several(&self) -> Vec<Self> {
        if self.value.is_array() {
            self.items()
        } else {
            vec![self.clone()]
        }
    }

    /// The text in that member.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.value.get(name).and_then(Value::as_str)
    }

    /// The number in that member.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.value.get(name).and_then(Value::as_f64)
    }

    /// Whether that member is `true`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.value.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// Something is wrong here.
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::at(self.pointer.clone(), message)
    }
}
