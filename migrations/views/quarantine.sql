create or replace view public.quarantine as
select
    q.id,
    q.time,
    q.received,
    q.site,
    q.thing,
    q.stage,
    q.reason,
    q.errors,
    q.attempts,
    q.subject,
    q.headers,
    q.payload,
    q.sha256,
    q.message_id,
    q.protocol,
    q.publisher,
    q.epoch,
    q.seq,
    q.state,
    q.generation,
    q.replay_begun,
    q.settled,
    q.settled_by,
    q.note,
    q.edited,
    q.edited_headers,
    q.edited_at,
    q.edited_by,
    q.sequence
from store.quarantine as q;

comment on view public.quarantine is 'Messages that a stage refused, whole, and why.';
comment on column public.quarantine.id is 'Id of this entry.';
comment on column public.quarantine.time is 'The time of the refused message; UTC, to the microsecond.';
comment on column public.quarantine.received is 'When the stage first saw it, which for a raw message is when it was received; UTC, to the microsecond.';
comment on column public.quarantine.site is 'The site it came in at.';
comment on column public.quarantine.thing is 'The thing it is about.';
comment on column public.quarantine.stage is 'The worker that refused it; a replay goes to it.';
comment on column public.quarantine.reason is 'Why, in one word.';
comment on column public.quarantine.errors is 'What exactly was wrong: an array of {"pointer": JSON Pointer into the payload, "message": text}.';
comment on column public.quarantine.attempts is 'How often it was tried.';
comment on column public.quarantine.subject is 'The subject it had.';
comment on column public.quarantine.headers is 'Its headers in order: an array of [name, value].';
comment on column public.quarantine.payload is 'Its bytes, as they were.';
comment on column public.quarantine.sha256 is 'SHA-256 of its bytes, hexadecimal.';
comment on column public.quarantine.message_id is 'The id that its device was told, else the id of the refused message.';
comment on column public.quarantine.protocol is 'How it came in: http, mqtt, nats, file.';
comment on column public.quarantine.publisher is 'Whose credential brought it.';
comment on column public.quarantine.epoch is 'Creation time of the RAW stream it was in, epoch seconds.';
comment on column public.quarantine.seq is 'Its sequence in RAW.';
comment on column public.quarantine.state is 'open, replayed (given back to its stage; refused again, it is another entry), or dropped.';
comment on column public.quarantine.generation is 'After which replay it was refused; 0: it had never been replayed.';
comment on column public.quarantine.replay_begun is 'When its replay began; with state open: it was cut off, and replaying again finishes it.';
comment on column public.quarantine.settled is 'When it was replayed or dropped; UTC, to the microsecond.';
comment on column public.quarantine.settled_by is 'Who replayed or dropped it.';
comment on column public.quarantine.note is 'What was said then.';
comment on column public.quarantine.edited is 'The bytes that a replay sends instead of the original ones, where an operator corrected them.';
comment on column public.quarantine.edited_headers is 'The headers that go with them: an array of [name, value].';
comment on column public.quarantine.edited_at is 'When they were corrected.';
comment on column public.quarantine.edited_by is 'Who corrected them.';
comment on column public.quarantine.sequence is 'Where it stands in the stream QUARANTINE, until it is replayed or dropped.';

grant select on public.quarantine to telltale_reader, telltale_query;
