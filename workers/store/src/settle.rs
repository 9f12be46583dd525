//! A batch as transactions, and the guilty message found where one of them fails.
use crate::Storable;
use crate::admit::{self, BOUNDS, Message, admit};
use crate::session::{Session, within};
use crate::trouble::Trouble;
use crate::write::{Written, write};
use telltale_runtime::{Delivery, Failure};
use telltale_schemas::{Timestamp, kinds::Fault};

/// So often the same transaction is tried where another one was in the way.
const TRIES: u32 = 3;
/// So many guilty rows are taken out one by one where PostgreSQL names them; more are found by halving.
const NAMED: u32 = 8;

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// The refused, by their place among the inputs.
    pub(crate) refused: Vec<(usize, Failure)>,
    pub(crate) written: Written,
}

/// Writes all that can be written. An error means that nobody's message is to blame; what was committed before
/// it is found again when the batch comes back.
pub(crate) async fn settle(session: &mut Session, inputs: &[Delivery<Storable>]) -> Result<Settled, Trouble> {
    let started = Timestamp::now();
    let mut settled = Settled::default();
    let mut messages = Vec::with_capacity(inputs.len());
    for (index, delivery) in inputs.iter().enumerate() {
        match admit(index, delivery) {
            Ok(message) => messages.push(message),
            Err(failure) => settled.refused.push((index, failure)),
        }
    }
    for group in admit::transactions(messages, BOUNDS) {
        write_or_bisect(session, group, started, &mut settled).await?;
    }
    Ok(settled)
}

async fn write_or_bisect(
    session: &mut Session,
    group: Vec<Message<'_>>,
    started: Timestamp,
    settled: &mut Settled,
) -> Result<(), Trouble> {
    let mut named = NAMED;
    let mut groups = vec![group];
    while let Some(mut group) = groups.pop() {
        let (code, message, row) = match write_again(session, &group, started).await {
            Ok(written) => {
                settled.written += written;
                continue;
            }
            Err(Trouble::Data { code, message, row }) => (code, message, row),
            Err(trouble) => return Err(trouble),
        };
        let guilty = match row {
            _ if group.len() == 1 => Some(0),
            Some(row) if named > 0 && row < group.len() => {
                named -= 1;
                Some(row)
            }
            _ => None,
        };
        if let Some(position) = guilty {
            let guilty = group.remove(position);
            settled.refused.push((guilty.index, refusal(&code, &message)));
        } else {
            groups.push(group.split_off(group.len() / 2));
        }
        if !group.is_empty() {
            groups.push(group);
        }
    }
    Ok(())
}

fn refusal(code: &str, message: &str) -> Failure {
    Failure::reject_for("database", vec![Fault::at("", format!("{code}: {message}"))])
}

async fn write_again(
    session: &mut Session,
    group: &[Message<'_>],
    started: Timestamp,
) -> Result<Written, Trouble> {
    let mut tried = 1;
    loop {
        match within(write(session, group, started)).await {
            Err(Trouble::Again(error)) if tried < TRIES => {
                tracing::debug!(%error, tried, "the transaction is tried again");
                // A partition may have been dropped since.
                session.known.days.clear();
                tried += 1;
            }
            other => return other,
        }
    }
}
