//! Did you mean: the nearest of the names that there are.
use crate::control::nearest;

/// A hint with the nearest name, where one is near enough to be meant.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, known).map(|nearest| format!("did you mean `{nearest}`?"))
}
