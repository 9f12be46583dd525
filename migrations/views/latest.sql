-- The newest row of each property: one descent of an index for each, from the newest day backwards.
create or replace view public.latest as
select
    l.time,
    l.received,
    l.site,
    l.thing,
    l.name,
    l.value,
    l.value_text,
    l.value_bool,
    l.value_data,
    l.sum,
    l.unit,
    l.quality,
    coalesce(l.failed, '{}'::text[]) as failed,
    l.protocol,
    l.publisher,
    l.id as message_id,
    l.ordinal,
    l.kind,
    a.data as annotation
from store.series as s
cross join lateral (
    select r.*
    from store.readings as r
    where r.thing = s.thing and r.name = s.name
    order by r.time desc, r.id desc, r.ordinal desc
    limit 1
) as l
left join store.annotations as a on a.id = l.annotation;

comment on view public.latest is 'For each thing and property the row of readings with the greatest (time, message_id).';
comment on column public.latest.time is 'When it was measured; UTC, to the microsecond.';
comment on column public.latest.received is 'When the bridge took it; UTC, to the microsecond.';
comment on column public.latest.site is 'The site it came in at.';
comment on column public.latest.thing is 'The thing it was measured on.';
comment on column public.latest.name is 'The property. The full SenML name is <thing>/<name>.';
comment on column public.latest.value is 'The number, in the unit of column `unit`; NULL for other types and where there was no value (quality 9).';
comment on column public.latest.value_text is 'The text, for a property that is one; where quality is 9, what the device sent in place of a value. No unit.';
comment on column public.latest.value_bool is 'The boolean, for a property that is one. No unit.';
comment on column public.latest.value_data is 'The bytes, for a property that is such. No unit.';
comment on column public.latest.sum is 'The integral of the value over time, in `unit` times seconds.';
comment on column public.latest.unit is 'Unit of `value`: a primary one of the SenML registry, such as Cel, %RH, m/s.';
comment on column public.latest.quality is 'QARTOD flag: 1 passed, 2 not evaluated, 3 suspect, 4 failed, 9 no value.';
comment on column public.latest.failed is 'Names of the quality tests that failed; empty if none did.';
comment on column public.latest.protocol is 'How it came in: http, mqtt, nats, file.';
comment on column public.latest.publisher is 'Whose credential brought it.';
comment on column public.latest.message_id is 'Id of the message, which its device was told.';
comment on column public.latest.ordinal is 'Position of the record in its message, from 0.';
comment on column public.latest.kind is 'observation (measured) or derivation (computed from others).';
comment on column public.latest.annotation is 'What was known about the thing at that time: foi (feature of interest), location (GeoJSON, degrees), tdrev and more.';

grant select on public.latest to telltale_reader, telltale_query;
