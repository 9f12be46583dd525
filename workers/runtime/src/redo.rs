//! Handing a message to one worker alone.
use crate::{Cause, arrival, consume::Item, quarantine};
use async_nats::HeaderMap;
use telltale_nats::{Lane, Name, header, publish::Outgoing, subject};

/// Headers of an original that go along. None of JetStream's own: they would act again.
const KEPT: [&str; 9] = [
    header::CONTENT_TYPE,
    header::TRACEPARENT,
    header::ID,
    header::PUBLISHER,
    header::RECEIVED,
    header::PROTOCOL,
    header::BACKFILL,
    header::SEAL,
    header::HOPS,
];

/// The message that carries `item` to `worker` alone.
pub(crate) fn outgoing(worker: &Name, item: &Item, cause: &Cause, headers: Option<&HeaderMap>) -> Outgoing {
    let arrival = &item.arrival;
    let mut kept: Vec<(&'static str, String)> = KEPT
        .into_iter()
        .filter(|name| !arrival.pack || (*name != header::CONTENT_TYPE && *name != header::HOPS))
        .filter_map(|name| Some((name, arrival::header(headers, name)?.to_owned())))
        .collect();
    if arrival.pack {
        kept.push((header::CONTENT_TYPE, header::CLOUDEVENT.to_owned()));
        kept.push((header::HOPS, item.hops.clone()));
    }
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
    // Moved twice, it is there once: the place names the message as the stream stored it.
    kept.push((header::MSG_ID, format!("{}.{}.redo", cause.id, arrival.place)));
    Outgoing {
        subject: subject::redo(worker),
        headers: kept,
        payload: item.body.clone(),
        stream: subject::REDO_STREAM,
    }
}
