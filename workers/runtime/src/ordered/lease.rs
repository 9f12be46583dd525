//! Which copy reads: a key in the bucket `state` that its holder writes again and again.
//!
//! Nobody compares clocks: who stands by watches whether the key's revision changes. Each write is made against the
//! revision that was last seen, so that of two who try one succeeds.
use crate::backoff;
use async_nats::jetstream::kv;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The holder writes so often.
const RENEWS: Duration = Duration::from_secs(1);
/// A holder that has not written for so long asks for no more messages.
const TRUSTS: Duration = Duration::from_millis(2_500);
/// A key that has not changed for so long has no holder. What a holder asked for just before [`TRUSTS`] has expired
/// by then (`pull::EXPIRES`), so that two never read at once.
const ABANDONED: Duration = Duration::from_millis(4_000);
/// Who stands by looks so often.
const LOOKS: Duration = Duration::from_millis(500);
/// A broker that takes longer to answer counts as away.
const ANSWERS: Duration = Duration::from_secs(2);

/// What the key holds.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    /// The copy's name.
    instance: String,
    /// Whether it has stopped, and another may begin at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    released: bool,
}

/// Held by the one copy that reads.
#[derive(Debug)]
pub(crate) struct Lease {
    store: kv::Store,
    key: String,
    instance: String,
    revision: u64,
    /// When it was last written.
    renewed: Instant,
}

/// Another copy has it.
#[derive(Debug, thiserror::Error)]
#[error("another copy reads in this one's place; starting again as one that stands by")]
pub(crate) struct Lost;

impl Lease {
    /// Waits until nobody else holds it; `None` if told to stop before.
    pub(crate) async fn acquire(
        store: kv::Store,
        worker: &str,
        instance: &str,
        stop: &CancellationToken,
    ) -> Option<Self> {
        let key = format!("{worker}.lease");
        let mut seen: Option<(u64, Instant)> = None;
        let mut failed = 0;
        loop {
            match Self::attempt(&store, &key, instance, &mut seen).await {
                Ok(Some(revision)) => {
                    return Some(Self {
                        store,
                        key,
                        instance: instance.to_owned(),
                        revision,
                        renewed: Instant::now(),
                    });
                }
                Ok(None) => failed = 0,
                Err(error) => {
                    failed += 1;
                    if failed == 1 {
                        tracing::warn!("who reads cannot be asked: {error:#}");
                    }
                    // What was not seen may have changed.
                    seen = None;
                }
            }
            let pause = if failed == 0 {
                LOOKS
            } else {
                backoff::jittered(LOOKS, failed).min(Duration::from_secs(5))
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Takes it if it is free; its revision then.
    async fn attempt(
        store: &kv::Store,
        key: &str,
        instance: &str,
        seen: &mut Option<(u64, Instant)>,
    ) -> anyhow::Result<Option<u64>> {
        let asked = Instant::now();
        let entry = tokio::time::timeout(ANSWERS, store.entry(key)).await??;
        let Some(entry) = entry.filter(|entry| entry.operation == kv::Operation::Put) else {
            let written = tokio::time::timeout(ANSWERS, store.create(key, holder(instance, false))).await?;
            return Ok(written.ok());
        };
        let revision = entry.revision;
        let released = serde_json::from_slice::<Holder>(&entry.value).map_or(true, |holder| holder.released);
        let since = match *seen {
            Some((same, since)) if same == revision => since,
            _ => {
                tracing::info!("another copy reads; standing by");
                asked
            }
        };
        *seen = Some((revision, since));
        if !released && since.elapsed() < ABANDONED {
            return Ok(None);
        }
        let written =
            tokio::time::timeout(ANSWERS, store.update(key, holder(instance, false), revision)).await?;
        Ok(written.ok())
    }

    /// Whether messages may still be asked for.
    pub(crate) fn is_trusted(&self) -> bool {
        self.renewed.elapsed() < TRUSTS
    }

    /// Writes the key again, if it is time. That the broker is away is no loss: nobody else can take it then either.
    pub(crate) async fn renew(&mut self) -> Result<(), Lost> {
        if self.renewed.elapsed() < RENEWS {
            return Ok(());
        }
        self.write(false).await
    }

    /// Lets go of it: another copy may begin at once.
    pub(crate) async fn release(mut self) {
        if self.write(true).await.is_err() {
            tracing::debug!("another copy had taken over already");
        }
    }

    async fn write(&mut self, released: bool) -> Result<(), Lost> {
        let began = Instant::now();
        let value = holder(&self.instance, released);
        match tokio::time::timeout(ANSWERS, self.store.update(&self.key, value, self.revision)).await {
            Ok(Ok(revision)) => {
                self.revision = revision;
                self.renewed = began;
                Ok(())
            }
            Ok(Err(error)) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {
                // An answer of ours may have been lost, though what it answered was done.
                self.look(began).await
            }
            Ok(Err(error)) => {
                tracing::warn!("that this copy reads could not be written: {error}");
                Ok(())
            }
            Err(_) => {
                tracing::warn!("that this copy reads could not be written: the broker does not answer");
                Ok(())
            }
        }
    }

    async fn look(&mut self, began: Instant) -> Result<(), Lost> {
        let Ok(Ok(entry)) = tokio::time::timeout(ANSWERS, self.store.entry(&self.key)).await else {
            return Ok(());
        };
        let own = entry.and_then(|entry| {
            let holder: Holder = serde_json::from_slice(&entry.value).ok()?;
            (holder.instance == self.instance).then_some(entry.revision)
        });
        self.revision = own.ok_or(Lost)?;
        self.renewed = began;
        Ok(())
    }
}

fn holder(instance: &str, released: bool) -> Bytes {
    let holder = Holder {
        instance: instance.to_owned(),
        released,
    };
    Bytes::from(serde_json::to_vec(&holder).unwrap_or_default())
}
