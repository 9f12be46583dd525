//! A batch as transactions, and the guilty message found where one of them fails.
use crate::Storable;
use crate::admit::{self, BOUNDS, Message, admit};
use crate::amendments;
use crate::session::{Session, within};
use crate::trouble::Trouble;
use crate::write::{Written, write};
use std::time::Duration;
use telltale_runtime::{Delivery, Failure};
use telltale_schemas::{Timestamp, kinds::Fault};
use tokio::time::Instant;

/// So often the same transaction is tried where another one was in the way.
const TRIES: u32 = 3;
/// So many guilty rows are taken out one by one where PostgreSQL names them; more are found by halving.
const NAMED: u32 = 8;

/// No transaction is begun after so long: a batch that takes longer would be taken for a hanging one, and counted
/// against its messages. With [`crate::session::ANSWER`] it stays below the runtime's minute.
const BUDGET: Duration = Duration::from_secs(30);

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// The refused, by their place among the inputs.
    pub(crate) refused: Vec<(usize, Failure)>,
    /// Those that were not come to, by their place; all others are in the database.
    pub(crate) held: Vec<usize>,
    /// Why, if the database is the reason.
    pub(crate) trouble: Option<Trouble>,
    pub(crate) written: Written,
}

/// Writes all that can be written.
pub(crate) async fn settle(session: &mut Session, inputs: &[Delivery<Storable>]) -> Settled {
    let (started, until) = (Timestamp::now(), Instant::now() + BUDGET);
    let mut settled = Settled::default();
    let mut messages = Vec::with_capacity(inputs.len());
    for (index, delivery) in inputs.iter().enumerate() {
        match admit(index, delivery) {
            Ok(message) => messages.push(message),
            Err(failure) => settled.refused.push((index, failure)),
        }
    }
    // Readings of other copies wait for what amends, so that has a transaction of its own, after the rows.
    let (amending, others): (Vec<_>, Vec<_>) = messages
        .into_iter()
        .partition(|message| amendments::is_amending(message.delivery));
    let groups = [others, amending].map(|messages| admit::transactions(messages, BOUNDS));
    for group in groups.into_iter().flatten() {
        let mut named = NAMED;
        let mut groups = vec![group];
        while let Some(group) = groups.pop() {
            if settled.trouble.is_some() || Instant::now() >= until {
                settled.held.extend(group.iter().map(|message| message.index));
                continue;
            }
            match write_again(session, &group, started).await {
                Ok(written) => settled.written += written,
                Err(Trouble::Data { code, message, row }) => {
                    let (guilty, rest) = split(group, row.filter(|_| named > 0));
                    groups.extend(rest);
                    if let Some(guilty) = guilty {
                        named = named.saturating_sub(1);
                        settled.refused.push((guilty, refusal(&code, &message)));
                    }
                }
                Err(trouble) => {
                    settled.held.extend(group.iter().map(|message| message.index));
                    settled.trouble = Some(trouble);
                }
            }
        }
    }
    settled
}

/// Of a group that holds a guilty message: its place among the inputs, if it is known, and what to try next, the
/// first last.
fn split(mut group: Vec<Message<'_>>, named: Option<usize>) -> (Option<usize>, Vec<Vec<Message<'_>>>) {
    let known = if group.len() == 1 { Some(0) } else { named };
    if let Some(position) = known.filter(|position| *position < group.len()) {
        let guilty = group.remove(position).index;
        let rest = if group.is_empty() { Vec::new() } else { vec![group] };
        return (Some(guilty), rest);
    }
    let second = group.split_off(group.len() / 2);
    (None, vec![second, group])
}

fn refusal(code: &str, message: &str) -> Failure {
    Failure::reject_for("database", vec![Fault::at("", format!("{code}: {message}"))])
}

async fn write_again(
    session: &mut Session,
    group: &[Message<'_>],
    started: Timestamp,
) -> Result<Written, Trouble> {
    within(async {
        let mut tried = 1;
        loop {
            match write(session, group, started).await {
                Err(Trouble::Again(error)) if tried < TRIES => {
                    tracing::debug!(%error, tried, "the transaction is tried again");
                    // A partition may have been dropped since.
                    session.known.days.clear();
                    tried += 1;
                }
                other => return other,
            }
        }
    })
    .await
}
