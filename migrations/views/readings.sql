create or replace view public.readings as
select
    r.time,
    r.received,
    r.site,
    r.thing,
    r.name,
    r.value,
    r.value_text,
    r.value_bool,
    r.value_data,
    r.sum,
    r.unit,
    r.quality,
    coalesce(r.failed, '{}'::text[]) as failed,
    r.protocol,
    r.publisher,
    r.id as message_id,
    r.ordinal,
    r.kind,
    a.data as annotation
from store.readings as r
left join store.annotations as a on a.id = r.annotation;

comment on view public.readings is 'One row for each measured or computed value of one property of one thing.';
comment on column public.readings.time is 'When it was measured; UTC, to the microsecond. Always restrict it: days are partitions.';
comment on column public.readings.received is 'When the bridge took it; UTC, to the microsecond.';
comment on column public.readings.site is 'The site it came in at.';
comment on column public.readings.thing is 'The thing it was measured on.';
comment on column public.readings.name is 'The property. The full SenML name is <thing>/<name>.';
comment on column public.readings.value is 'The number, in the unit of column `unit`; NULL for other types and where there was no value (quality 9).';
comment on column public.readings.value_text is 'The text, for a property that is one; where quality is 9, what the device sent in place of a value. No unit.';
comment on column public.readings.value_bool is 'The boolean, for a property that is one. No unit.';
comment on column public.readings.value_data is 'The bytes, for a property that is such. No unit.';
comment on column public.readings.sum is 'The integral of the value over time, in `unit` times seconds.';
comment on column public.readings.unit is 'Unit of `value`: a primary one of the SenML registry, such as Cel, %RH, m/s.';
comment on column public.readings.quality is 'QARTOD flag: 1 passed, 2 not evaluated, 3 suspect, 4 failed, 9 no value. Failed values are kept.';
comment on column public.readings.failed is 'Names of the quality tests that failed; empty if none did.';
comment on column public.readings.protocol is 'How it came in: http, mqtt, nats, file.';
comment on column public.readings.publisher is 'Whose credential brought it.';
comment on column public.readings.message_id is 'Id of the message, which its device was told; several rows may share it.';
comment on column public.readings.ordinal is 'Position of the record in its message, from 0.';
comment on column public.readings.kind is 'observation (measured) or derivation (computed from others).';
comment on column public.readings.annotation is 'What was known about the thing at that time: foi (feature of interest), location (GeoJSON, degrees), tdrev and more; {"registered": false} for a thing that nobody registered.';

grant select on public.readings to telltale_reader, telltale_query;
