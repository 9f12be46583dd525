//! Readiness: is the database there, and has tomorrow its partition? Also when nothing is to be stored.
use crate::storage::Storage;
use crate::trouble::Trouble;
use std::sync::Arc;
use std::time::Duration;
use telltale_runtime::{Check, Health};
use tokio::task::AbortHandle;
use tokio::time::Instant;

const PROBE_EVERY: Duration = Duration::from_secs(5);
const PARTITIONS_EVERY: Duration = Duration::from_hours(1);

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    database: Check,
    task: AbortHandle,
}

impl Watch {
    pub(crate) fn over(storage: &Arc<Storage>, health: &Health) -> Self {
        let (database, partitions) = (health.check("postgres"), health.check("partitions"));
        let watching = watch(Arc::clone(storage), database.clone(), partitions);
        Self {
            database,
            task: tokio::spawn(watching).abort_handle(),
        }
    }

    /// What a batch has shown.
    pub(crate) fn saw(&self, trouble: Option<&Trouble>) {
        show(&self.database, trouble);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn show(check: &Check, trouble: Option<&Trouble>) {
    match trouble {
        None => check.set_ready(),
        Some(trouble) => check.set_unready(trouble.to_text()),
    }
}

async fn watch(storage: Arc<Storage>, database: Check, partitions: Check) {
    let mut due = Instant::now();
    let mut was_away = false;
    loop {
        let answer = storage.probe().await;
        let is_away = answer.is_err();
        match &answer {
            Ok(true) => database.set_ready(),
            Ok(false) => database.set_unready("the database is read-only"),
            Err(trouble) => {
                if !was_away {
                    tracing::warn!(error = %trouble.to_text(), "the database is away; what comes is held");
                }
                show(&database, Some(trouble));
            }
        }
        if was_away && !is_away {
            tracing::info!("the database is back");
        }
        was_away = is_away;
        if !is_away && Instant::now() >= due {
            match storage.keep_partitions_ready().await {
                Ok(true) => {
                    partitions.set_ready();
                    due = Instant::now() + PARTITIONS_EVERY;
                }
                // Another copy is making it.
                Ok(false) => partitions.set_unready("tomorrow has no partition yet"),
                Err(trouble) => show(&partitions, Some(&trouble)),
            }
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}
