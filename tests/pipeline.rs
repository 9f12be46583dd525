//! A whole pipeline of processes with servers of its own, and questions to ask it.
use crate::{eventually_async, http};
use std::{path::PathBuf, process::Output, time::Duration};
use telltale_cli::{
    stack::{Stack, StackOptions},
    supervise::Probe,
};

/// A running pipeline; everything it started ends with it.
#[derive(Debug)]
pub struct Pipeline {
    /// The processes.
    pub stack: Stack,
    /// The bridge, with the gateway's token.
    pub http: http::Client,
    sql: tokio_postgres::Client,
}

impl Pipeline {
    /// Bridge, validate, annotate and store, ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(options: StackOptions) -> Self {
        let stack = Stack::start(options).await.expect("the stack becomes ready");
        let http = http::Client::new(
            stack.env("BRIDGE_URL"),
            Some(stack.env("BRIDGE_TOKEN").to_owned()),
        );
        let sql = connect(stack.env("DATABASE_URL")).await;
        Self { stack, http, sql }
    }

    /// The number that a query gives; the connection is made anew where the database was restarted.
    pub async fn count(&mut self, query: &str) -> Option<i64> {
        if self.sql.is_closed() {
            self.sql = try_connect(self.stack.env("DATABASE_URL")).await.ok()?;
        }
        self.sql.query_one(query, &[]).await.ok()?.try_get(0).ok()
    }

    /// Waits until a query gives that number or a greater one.
    ///
    /// # Panics
    /// When it does not, with the number it gives.
    pub async fn at_least(&mut self, query: &str, wanted: i64, within: Duration) {
        self.until_that(query, |found| found >= wanted, within).await;
    }

    /// Waits until a query gives that number.
    ///
    /// # Panics
    /// When it does not, with the number it gives.
    pub async fn until(&mut self, query: &str, wanted: i64, within: Duration) {
        self.until_that(query, |found| found == wanted, within).await;
    }

    async fn until_that(&mut self, query: &str, is_it: impl Fn(i64) -> bool, within: Duration) {
        let end = std::time::Instant::now() + within;
        let mut next = tokio::time::interval(Duration::from_millis(100));
        loop {
            next.tick().await;
            let found = self.count(query).await;
            if found.is_some_and(&is_it) {
                return;
            }
            assert!(
                std::time::Instant::now() < end,
                "{query}\n gives {found:?} after {within:?}"
            );
        }
    }

    /// All rows of a query as text, columns joined by `|`.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn rows(&self, query: &str) -> Vec<String> {
        let wrapped = format!(
            "select array_to_string(array(select value from json_each_text(to_json(q))), '|') from ({query}) q"
        );
        self.sql
            .query(&wrapped, &[])
            .await
            .unwrap_or_else(|e| panic!("{query}: {e:?}"))
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// Kills a process and waits until another is in its place and serves.
    ///
    /// # Panics
    /// When none is.
    pub async fn kill(&self, name: &str, within: Duration) {
        let killed = self.stack.kill(name).expect("it runs");
        eventually_async(name, within, || async {
            self.stack.pid(name).filter(|pid| *pid != killed)
        })
        .await;
        self.stack.ready(name, within).await.expect("it serves again");
    }

    /// A client for the health server of a process.
    ///
    /// # Panics
    /// When it has none.
    pub fn health(&self, name: &str) -> http::Client {
        let unit = self
            .stack
            .supervisor()
            .unit(name)
            .expect("it is part of the stack");
        let Probe::Http(address) = unit.spec().probe else {
            panic!("{name} has no health server")
        };
        http::Client::new(format!("http://{address}"), None)
    }

    /// The sum over all label values of a process's metric.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn metric(&self, name: &str, metric: &str) -> f64 {
        let (_, text) = self.health(name).get("/metrics").expect("it serves its metrics");
        text.lines()
            .filter(|line| {
                let labels = line.strip_prefix(metric);
                labels.is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Runs `telltale` against this pipeline to its end.
    ///
    /// # Panics
    /// When there is no such program.
    pub async fn telltale(&self, arguments: &[&str]) -> Output {
        tokio::process::Command::new(binary("telltale"))
            .args(arguments)
            .current_dir(self.stack.dir())
            .output()
            .await
            .expect("telltale is built")
    }

    /// Puts a rule into force.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn apply(&self, name: &str, rule: &str) {
        let file = self.stack.dir().join(format!("{name}.rule.json"));
        tokio::fs::write(&file, rule)
            .await
            .expect("the stack's folder can be written");
        let file = file.to_string_lossy();
        let output = self.telltale(&["rule", "apply", &file]).await;
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Waits until `telltale status` says that nothing is missing and nothing under way.
    ///
    /// # Panics
    /// When it does not.
    pub async fn at_rest(&self, within: Duration) -> serde_json::Value {
        eventually_async("telltale status says that all is well", within, || async {
            let output = self.telltale(&["status", "-o", "json"]).await;
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            (output.status.code() == Some(0) && status["balance"]["in_flight"] == 0).then_some(status)
        })
        .await
    }
}

async fn try_connect(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn connect(url: &str) -> tokio_postgres::Client {
    try_connect(url).await.expect("the reader may connect")
}

/// A program of ours, as this test run built it.
///
/// # Panics
/// When the running program has no place.
pub fn binary(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("a test has a place");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    folder.join(name)
}
