//! `POST /query` against a running stack and a real PostgreSQL: what it answers, and B51 to B55: nothing changes,
//! nothing leaks, limits hold, and the next one is served.
mod answers;
mod doors;
mod limits;

use serde_json::{Value, json};
use std::time::Duration;
use telltale_cli::{
    servers::postgres::QUERY,
    stack::{Stack, StackOptions},
};
use telltale_tests::http::{Client, Reply};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio_postgres::NoTls;

/// What a query may take here.
const TIME: Duration = Duration::from_secs(3);
/// How many may be asked at once here.
const AT_ONCE: usize = 3;
/// The rows of an answer, if nobody says otherwise.
const ROWS: u64 = 100_000;
/// A limit is held so much after it at the latest, on a machine that does other things too.
const GRACE: Duration = Duration::from_secs(8);

/// One stack for this module, ended by its watchdog; its tests come one after another, as each looks at all places.
static STACK: OnceCell<Stack> = OnceCell::const_new();
static TURN: Mutex<()> = Mutex::const_new(());

struct Door {
    stack: &'static Stack,
    http: Client,
    _turn: MutexGuard<'static, ()>,
}

impl Door {
    async fn open() -> Self {
        let turn = TURN.lock().await;
        let start = || async {
            let env = [
                ("TELLTALE_QUERY_TIME", format!("{}s", TIME.as_secs())),
                ("TELLTALE_QUERY_CONNECTIONS", AT_ONCE.to_string()),
            ];
            Stack::start(StackOptions {
                env: env.map(|(name, value)| (name.to_owned(), value)).into(),
                ..StackOptions::default()
            })
            .await
            .unwrap()
        };
        let stack = STACK.get_or_init(start).await;
        let token = stack.env("GATEWAY_TOKEN").to_owned();
        Self {
            stack,
            http: Client::new(stack.env("GATEWAY_URL"), Some(token)),
            _turn: turn,
        }
    }

    /// A query in that format.
    async fn ask(&self, format: &str, request: Value) -> Reply {
        let (http, path) = (self.http.clone(), format!("/query?format={format}"));
        let ask = move || {
            let headers = [("Content-Type", "application/json")];
            http.ask("POST", &path, &headers, request.to_string().as_bytes())
        };
        tokio::task::spawn_blocking(ask).await.unwrap().unwrap()
    }

    async fn sql(&self, sql: &str) -> Reply {
        self.ask("json", json!({ "sql": sql })).await
    }

    /// As the owner.
    async fn admin(&self) -> tokio_postgres::Client {
        connect(self.stack.env("DATABASE_ADMIN_URL")).await
    }

    /// As the role of queries, past the gateway.
    async fn role(&self) -> tokio_postgres::Client {
        connect(self.stack.env("QUERY_DATABASE_URL")).await
    }

    /// Sessions of queries that the server has.
    async fn sessions(&self) -> i64 {
        let sql = "select count(*) from pg_stat_activity where usename = $1";
        self.admin().await.query_one(sql, &[&QUERY]).await.unwrap().get(0)
    }

    async fn has_no_session(&self) {
        telltale_tests::eventually_async("no session is left", GRACE, || async {
            (self.sessions().await == 0).then_some(())
        })
        .await;
    }

    /// All places are free, and no session is left of those who went.
    async fn is_recovered(&self) {
        self.has_no_session().await;
        let all = (0..AT_ONCE).map(|n| async move {
            let reply = self.sql(&format!("select {n}")).await;
            assert_eq!(reply.json()["rows"], json!([[n]]));
        });
        futures::future::join_all(all).await;
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    // It ends with its client.
    tokio::spawn(async move { drop(connection.await) });
    client
}
