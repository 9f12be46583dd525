create or replace view public.events as
select
    e.time,
    e.site,
    e.thing,
    e.name,
    e.data,
    e.id as message_id,
    e.causation_id
from store.events as e;

comment on view public.events is 'What happened to things.';
comment on column public.events.time is 'When it happened; UTC, to the microsecond.';
comment on column public.events.site is 'The site it happened at.';
comment on column public.events.thing is 'The thing it happened to.';
comment on column public.events.name is 'What happened.';
comment on column public.events.data is 'The particulars; units as the event''s name implies.';
comment on column public.events.message_id is 'Id of the event.';
comment on column public.events.causation_id is 'Id of the message that it follows from.';

grant select on public.events to telltale_reader, telltale_query;
