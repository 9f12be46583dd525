//! A database of its own for each test, in one PostgreSQL for all of them.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use telltale_cli::stack::{Stack, StackOptions};
use telltale_store::Store;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// Ended by its watchdog, with this process.
static SERVERS: OnceCell<Stack> = OnceCell::const_new();

pub(crate) async fn servers() -> Stack {
    Stack::start(StackOptions {
        workers: false,
        ..StackOptions::default()
    })
    .await
    .unwrap()
}

pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) store: Store,
    client: Client,
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    // It ends with its client, or is cut by the test.
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// The same server and user.
fn with_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

impl Database {
    /// Its URL; nothing is in it.
    pub(crate) async fn empty() -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let admin = SERVERS.get_or_init(servers).await.env("DATABASE_ADMIN_URL");
        connect(admin)
            .await
            .batch_execute(&format!("create database {name}"))
            .await
            .unwrap();
        with_database(admin, &name)
    }

    /// Migrated.
    pub(crate) async fn fresh() -> Self {
        let url = Self::empty().await;
        telltale_cli::migrate::migrate(&url).await.unwrap();
        Self::at(url).await
    }

    pub(crate) async fn at(url: String) -> Self {
        Self {
            store: Store::at(&url).unwrap(),
            client: connect(&url).await,
            url,
        }
    }

    pub(crate) fn another_store(&self) -> Store {
        Store::at(&self.url).unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.url).await
    }

    /// As the role that may read the views.
    pub(crate) async fn reader(&self) -> Client {
        let (_, name) = self.url.rsplit_once('/').unwrap();
        let stack = SERVERS.get().unwrap();
        connect(&with_database(stack.env("DATABASE_URL"), name)).await
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let sql = format!("select count(*) from {table}");
        self.client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Fates with their sequences.
    pub(crate) async fn fates(&self) -> Vec<(String, String)> {
        let sql = "select fate, range_agg(part)::text from ledger, unnest(seqs) as part group by fate order by fate";
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Ends the store's connections to this database.
    pub(crate) async fn cut_store_after(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
        self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = 'telltale-store' and datname = current_database()",
        )
        .await;
    }
}
