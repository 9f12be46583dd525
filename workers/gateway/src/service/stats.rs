//! How the service is found, and what it counts (`$SRV.PING`, `INFO`, `STATS`).
use super::{OPERATIONS, QUEUE, SERVICE};
use futures::stream::SelectAll;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use telltale_nats::{
    Name,
    async_nats::{Client, SubscribeError, Subscriber},
    subject,
};
use telltale_runtime::web::Problem;
use telltale_schemas::Timestamp;

/// Who answers, and what was asked so far.
#[derive(Debug)]
pub(super) struct Stats {
    site: Name,
    id: String,
    started: Timestamp,
    counted: Mutex<BTreeMap<&'static str, Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    errors: u64,
    last_error: String,
    time: Duration,
}

/// What asks all services, those of our name, or us.
pub(super) async fn subscribe(
    client: &Client,
    stats: &Stats,
) -> Result<SelectAll<Subscriber>, SubscribeError> {
    let mut all = SelectAll::new();
    let own = format!(".{SERVICE}.{}", stats.id);
    for verb in ["PING", "INFO", "STATS"] {
        for suffix in ["", ".things", own.as_str()] {
            all.push(client.subscribe(format!("$SRV.{verb}{suffix}")).await?);
        }
    }
    Ok(all)
}

impl Stats {
    pub(super) fn new(site: &Name, id: &str) -> Self {
        Self {
            site: site.clone(),
            id: id.to_owned(),
            started: Timestamp::now(),
            counted: Mutex::default(),
        }
    }

    pub(super) fn count(&self, word: &'static str, took: Duration, error: Option<&Problem>) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counted.entry(word).or_default();
        counted.requests += 1;
        counted.time += took;
        if let Some(problem) = error {
            counted.errors += 1;
            counted.last_error = format!("{}:{}", problem.status().as_u16(), problem.detail());
        }
    }

    /// The answer to what was asked on that subject.
    pub(super) fn discovered(&self, asked: &str) -> Option<Value> {
        let (verb, more) = match asked.split('.').nth(1)? {
            "PING" => ("ping", json!({})),
            "INFO" => ("info", self.info()),
            "STATS" => ("stats", self.stats()),
            _ => return None,
        };
        let mut answer = json!({
            "type": format!("io.nats.micro.v1.{verb}_response"),
            "name": SERVICE,
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": { "site": self.site.plain() },
        });
        if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
            answer.extend(more);
        }
        Some(answer)
    }

    fn endpoint(&self, word: &str) -> Value {
        json!({
            "name": word,
            "subject": subject::api(&self.site, SERVICE, word),
            "queue_group": QUEUE,
        })
    }

    fn info(&self) -> Value {
        let endpoints = OPERATIONS.iter().map(|operation| {
            let mut endpoint = self.endpoint(operation.word);
            endpoint["metadata"] = json!({ "about": operation.about });
            endpoint
        });
        let endpoints: Vec<Value> = endpoints.collect();
        json!({ "description": "The directory of things of this site.", "endpoints": endpoints })
    }

    fn stats(&self) -> Value {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = Counted::default();
        let endpoints = OPERATIONS.iter().map(|operation| {
            let counted = counted.get(operation.word).unwrap_or(&nothing);
            let nanoseconds = u64::try_from(counted.time.as_nanos()).unwrap_or(u64::MAX);
            let mut endpoint = self.endpoint(operation.word);
            endpoint["num_requests"] = counted.requests.into();
            endpoint["num_errors"] = counted.errors.into();
            endpoint["last_error"] = counted.last_error.as_str().into();
            endpoint["processing_time"] = nanoseconds.into();
            endpoint["average_processing_time"] = (nanoseconds / counted.requests.max(1)).into();
            endpoint
        });
        let endpoints: Vec<Value> = endpoints.collect();
        json!({ "started": self.started, "endpoints": endpoints })
    }
}
