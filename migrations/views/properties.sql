-- What things are said to have beside what they were heard of. What is said of an object holds for all inside it:
-- `position` for `position.lat`.
create or replace view public.properties as
with things as (
    select
        t.thing,
        t.site,
        coalesce(t.entry #> '{policy,properties}', '{}'::jsonb) as properties,
        coalesce((t.entry #> '{policy,declared}')::boolean, false) as declares_all
    from store.things as t
    where t.change not in ('deleted', 'moved', 'expired', 'erased')
),
declared as (
    select t.thing, p.key as name, coalesce((p.value -> 'writeOnly')::boolean, false) as write_only
    from things as t, jsonb_each(t.properties) as p
)
select
    t.site,
    coalesce(d.thing, o.thing) as thing,
    coalesce(d.name, o.name) as name,
    case
        when t.thing is null then 'unregistered'
        when d.name is null and t.declares_all
            and not exists (select from jsonb_object_keys(t.properties) as k where starts_with(o.name, k || '.'))
        then 'undeclared'
        when o.name is null and not d.write_only
            and not exists (
                select from store.series as s where s.thing = d.thing and starts_with(s.name, d.name || '.')
            )
        then 'silent'
        else 'well'
    end as verdict,
    d.name is not null as declared,
    o.name is not null as observed,
    coalesce(d.write_only, false) as write_only,
    (
        select r.time
        from store.readings as r
        where r.thing = coalesce(d.thing, o.thing) and r.name = coalesce(d.name, o.name)
        order by r.time desc
        limit 1
    ) as last
from declared as d
full join store.series as o on o.thing = d.thing and o.name = d.name
left join things as t on t.thing = coalesce(d.thing, o.thing);

comment on view public.properties is
    'One row for each property that a thing is said to have, or was heard of. A report: where verdict <> ''well''.';
comment on column public.properties.site is 'The site of the thing; NULL for one that nobody registered.';
comment on column public.properties.thing is 'The thing.';
comment on column public.properties.name is 'The property.';
comment on column public.properties.verdict is
    'silent (declared, never observed), undeclared (observed, and its thing declares all that it has, but not this), unregistered (nobody registered its thing), or well.';
comment on column public.properties.declared is 'Whether the entry of the thing names it.';
comment on column public.properties.observed is 'Whether there was ever a reading of it.';
comment on column public.properties.write_only is 'Whether it can only be written, so that silence is well.';
comment on column public.properties.last is 'The time of its newest reading; UTC, to the microsecond. Asked for many things, this takes long.';

grant select on public.properties to telltale_reader, telltale_query;
