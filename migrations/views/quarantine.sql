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
    case when q.stage in ('validate', 'annotate', 'store') and exists (
        select from store.ledger as l
        where l.site = q.site and l.epoch = q.epoch and l.block = q.seq / 65536
          and l.fate = 'stored' and l.seqs @> q.seq
    ) then 'stored' else 'open' end as state
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
comment on column public.quarantine.state is 'open, or stored once the message became rows after all (by a replay).';

grant select on public.quarantine to telltale_reader;
