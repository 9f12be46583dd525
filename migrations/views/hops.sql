create or replace view public.hops as
select r.id as message_id, r.time, r.received, r.site, r.thing, r.kind, null::text as name, r.protocol, r.publisher,
    r.epoch, r.seq, null::text as causation_id, r.hops
from store.readings as r
where r.ordinal = 0
union all
select e.id, e.time, e.received, e.site, e.thing, 'event', e.name, null, null, e.epoch, e.seq, e.causation_id, e.hops
from store.events as e
union all
select o.id, o.time, null, o.site, o.thing, 'outcome', o.name, null, null, null, null, o.causation_id, o.hops
from store.outcomes as o
union all
select q.id, q.time, q.received, q.site, q.thing, 'quarantine', q.reason, q.protocol, q.publisher, q.epoch, q.seq,
    q.message_id, q.hops
from store.quarantine as q;

comment on view public.hops is 'One row for each stored message: the stages that it passed. `telltale trace` shows them.';
comment on column public.hops.message_id is 'Id of the message.';
comment on column public.hops.time is 'Its time; UTC, to the microsecond. Always restrict it: days are partitions.';
comment on column public.hops.received is 'When the bridge took it; UTC, to the microsecond.';
comment on column public.hops.site is 'The site it came in at.';
comment on column public.hops.thing is 'The thing it is about.';
comment on column public.hops.kind is 'observation, derivation, event, outcome or quarantine.';
comment on column public.hops.name is 'Name of the event, of the command''s property or action, or the reason of the refusal.';
comment on column public.hops.protocol is 'How it came in: http, mqtt, nats, file.';
comment on column public.hops.publisher is 'Whose credential brought it.';
comment on column public.hops.epoch is 'Creation time of the RAW stream it was in, epoch seconds.';
comment on column public.hops.seq is 'Its sequence in RAW.';
comment on column public.hops.causation_id is 'Id of the message that it follows from; of an entry in quarantine, of what was refused.';
comment on column public.hops.hops is 'Stages in order, separated by commas, each <stage>;<attempt>;<start>;<end> in microseconds since 1970.';

grant select on public.hops to telltale_reader, telltale_query;
