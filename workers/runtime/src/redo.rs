//! Handing a message to one worker, the one that has it.
use crate::{Cause, arrival, consume::Item, quarantine};
use async_nats::jetstream;
use telltale_nats::{Lane, Name, header, publish::Outgoing, subject};
use telltale_schemas::Timestamp;

/// Why a worker hands a message to itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Why {
    /// It may have killed the process: alone.
    Suspect,
    /// So many attempts have failed: again, not before that time.
    Failed(u32, Timestamp),
}

/// The message that carries `item`, which came as `message`, to `worker` once more; `hops` has the failed try too.
pub(crate) fn outgoing(
    worker: &Name,
    item: &Item,
    cause: &Cause,
    message: &jetstream::Message,
    why: Why,
    hops: String,
) -> Outgoing {
    let arrival = &item.arrival;
    let headers = message.headers.as_ref();
    let mut kept: Vec<(&'static str, String)> = header::KEPT_ON_REDO
        .into_iter()
        .filter(|name| *name != header::HOPS && !(arrival.pack && *name == header::CONTENT_TYPE))
        .filter_map(|name| Some((name, arrival::header(headers, name)?.to_owned())))
        .collect();
    if arrival.pack {
        kept.push((header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()));
    }
    kept.push((header::HOPS, hops));
    kept.push((
        header::ORIGINAL_SUBJECT,
        quarantine::original(arrival, &cause.thing),
    ));
    let rawseq = match arrival.lane {
        Ok(Lane::Raw) => arrival.rawseq,
        _ => cause.rawseq,
    };
    if let Some(rawseq) = rawseq {
        kept.push((header::ORIGINAL_RAWSEQ, rawseq.to_string()));
    }
    kept.push((header::ORIGINAL_TIME, arrival.stored.to_string()));
    // A pack is taken apart: of each reading only its id is its own.
    let place = if arrival.pack { &cause.id } else { &arrival.place };
    kept.push((header::ORIGINAL_PLACE, place.clone()));
    if let Some(replayed) = &arrival.replayed {
        kept.push((header::REPLAY, arrival.generation.to_string()));
        kept.push((header::REPLAYED, replayed.clone()));
    }
    let subject = match why {
        Why::Suspect => {
            if arrival.before > 0 {
                kept.push((header::ATTEMPTS, arrival.before.to_string()));
            }
            subject::redo(worker)
        }
        Why::Failed(attempts, retry_at) => {
            kept.push((header::ATTEMPTS, attempts.to_string()));
            kept.push((header::RETRY_AT, retry_at.to_string()));
            subject::again(worker)
        }
    };
    // Moved twice from one place, it is there once: a message's place in its stream names it.
    let place = message.info().map_or_else(
        |_| arrival.place.clone(),
        |info| {
            format!(
                "{}-{}-{}",
                info.stream,
                info.stream_sequence,
                info.published.unix_timestamp_nanos()
            )
        },
    );
    kept.push((header::MSG_ID, format!("{}.{place}.redo", cause.id)));
    Outgoing {
        subject,
        headers: kept,
        payload: item.body.clone(),
        stream: subject::REDO_STREAM,
    }
}
