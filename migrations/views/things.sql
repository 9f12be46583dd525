create or replace view public.things as
select
    t.thing,
    t.site,
    t.revision,
    t.changed,
    coalesce(t.entry -> 'policy', '{}'::jsonb) as policy,
    coalesce(t.entry -> 'annotation', '{}'::jsonb) as annotation
from store.things as t
where t.change <> 'deleted';

comment on view public.things is 'The things that are registered, as they are now.';
comment on column public.things.thing is 'Its name, unique over all sites.';
comment on column public.things.site is 'The site it belongs to.';
comment on column public.things.revision is 'Revision of its entry; counts within a site.';
comment on column public.things.changed is 'When the entry changed last; UTC, to the microsecond.';
comment on column public.things.policy is 'What is expected of its readings; limits are in the unit that stands beside them.';
comment on column public.things.annotation is 'What is added to its readings: foi, location (GeoJSON, degrees) and more.';

grant select on public.things to telltale_reader;
