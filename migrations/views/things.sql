-- What a device is, and since when a thing is there, is read from its registrations where its entry does not say
-- it; a column that is not asked for costs nothing. A barrier, so that no condition of a query is tried on what is
-- hidden here.
create or replace view public.things with (security_barrier) as
select
    t.thing,
    t.site,
    t.revision,
    t.changed,
    coalesce(t.entry -> 'policy', '{}'::jsonb) as policy,
    coalesce(t.entry -> 'annotation', '{}'::jsonb) as annotation,
    coalesce(
        (
            select r.change
            from store.registrations as r
            where r.thing = t.thing and r.change in ('online', 'stale', 'offline')
            order by r.time desc
            limit 1
        ),
        'created'
    ) as state,
    t.entry -> 'td' as td,
    coalesce(
        t.created,
        (
            select max(r.time)
            from store.registrations as r
            where r.thing = t.thing and r.change = 'created' and r.time <= t.changed
        ),
        t.changed
    ) as created,
    coalesce(t.modified, t.changed) as modified,
    t.expires
from store.things as t
where t.change not in ('deleted', 'moved', 'expired', 'erased');

comment on view public.things is 'The things that are registered, as they are now.';
comment on column public.things.thing is 'Its name, unique over all sites.';
comment on column public.things.site is 'The site it belongs to.';
comment on column public.things.revision is 'Revision of its entry; counts within a site.';
comment on column public.things.changed is 'When the entry changed last; UTC, to the microsecond.';
comment on column public.things.policy is 'What is expected of its readings; limits are in the unit that stands beside them.';
comment on column public.things.annotation is 'What is added to its readings: foi, location (GeoJSON, degrees) and more.';
comment on column public.things.state is 'created (nothing was heard of its device), online, stale (silent for three of its intervals), or offline.';
comment on column public.things.td is 'Its W3C Thing Description, as its author gave it; NULL for a thing without one.';
comment on column public.things.created is 'When it was registered first; UTC, to the microsecond.';
comment on column public.things.modified is 'When its registration was changed last; UTC, to the microsecond.';
comment on column public.things.expires is 'When it is taken away unless it is registered again; UTC, to the microsecond; NULL for never.';

grant select on public.things to telltale_reader, telltale_query;
