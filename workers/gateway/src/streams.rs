//! Answers without an end (Server-Sent Events): each token may have so many open, and one more is refused. An idle one
//! costs little, but each holds one of the gateway's connections.
use crate::auth::Caller;
use axum::http::StatusCode;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use telltale_runtime::web::Problem;

/// When to try again: nobody knows when one ends.
const AGAIN: Duration = Duration::from_secs(30);

/// How many are open, by the name of the token. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<String, usize>>>,
    max: usize,
}

/// A place that is taken until this is dropped: keep it in the stream.
#[derive(Debug)]
pub(crate) struct Place {
    open: Arc<Mutex<HashMap<String, usize>>>,
    name: String,
}

impl Streams {
    /// So many at once for each token.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            open: Arc::default(),
            max,
        }
    }

    /// A place for one more stream of this caller; 429 where there is none.
    pub(crate) fn take(&self, caller: &Caller) -> Result<Place, Problem> {
        self.take_for(caller.name())
    }

    fn take_for(&self, name: &str) -> Result<Place, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(name).copied().unwrap_or_default();
        if count >= self.max {
            let why =
                format!("`{name}` has {count} event streams open, and may have no more: close one first");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, why).with_retry_after(AGAIN));
        }
        open.insert(name.to_owned(), count + 1);
        Ok(Place {
            open: self.open.clone(),
            name: name.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left = open.get(&self.name).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            open.remove(&self.name);
        } else {
            open.insert(self.name.clone(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_has_its_own_places_and_gets_one_back_when_a_stream_ends() {
        let streams = Streams::new(2);
        let held = [streams.take_for("ann").unwrap(), streams.take_for("ann").unwrap()];
        let refused = streams.take_for("ann").unwrap_err();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(streams.take_for("bob").is_ok(), "another's are his own");
        drop(held);
        assert!(streams.open.lock().unwrap().is_empty());
        assert!(streams.take_for("ann").is_ok());
    }
}
