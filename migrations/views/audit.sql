create or replace view public.audit as
select
    e.time,
    e.site,
    case when e.thing <> e.site then e.thing end as thing,
    e.data ->> 'who' as who,
    e.data ->> 'what' as what,
    e.data ->> 'scope' as scope,
    (e.data ->> 'status')::integer as status,
    e.data ->> 'address' as address,
    e.id as message_id
from store.events as e
where e.name = 'audit' and e.source not like '/%/bridge';

comment on view public.audit is 'Who did what over the gateway or the command line. Who was refused at the bridge are the events named access_refused.';
comment on column public.audit.time is 'When it was done; UTC, to the microsecond.';
comment on column public.audit.site is 'The site at which it was done.';
comment on column public.audit.thing is 'The thing it was done to; null where it is none.';
comment on column public.audit.who is 'The name of the token, or operator for the command line.';
comment on column public.audit.what is 'Method and path, or the command.';
comment on column public.audit.scope is 'The scope that was used; null for the operator, who has all.';
comment on column public.audit.status is 'The HTTP status that it was answered with; null where nobody was there any more to be answered.';
comment on column public.audit.address is 'The address it came from.';
comment on column public.audit.message_id is 'Id of the event.';

grant select on public.audit to telltale_reader, telltale_query;
