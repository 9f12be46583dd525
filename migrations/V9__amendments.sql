-- What is found out about the quality of a row after its message was stored (event `quality`), where the row is not here
-- yet. `store` takes it up with the row; what never finds one is removed after a month.
create table store.amendments (
    time timestamptz not null,
    id text not null,
    ordinal smallint not null,
    thing text not null,
    quality smallint not null,
    failed text[] not null,
    since timestamptz not null default now(),
    primary key (time, id, ordinal)
);
create index amendments_thing on store.amendments (thing);
create index amendments_since on store.amendments (since);

-- Of two flags of QARTOD the one that counts: 9 before 4 before 3 before 1 before 2 before none. Of any two amendments
-- and in any order the same comes out.
create function telltale.worse(a smallint, b smallint) returns smallint
language sql immutable
set search_path = pg_catalog
as $$
    select case when a is null then b when b is null then a
        when (case b when 2 then 0 else b end) > (case a when 2 then 0 else a end) then b else a end
$$;
comment on function telltale.worse(smallint, smallint) is 'Of two QARTOD flags the one that counts.';

-- Both lists of failed tests, each test once.
create function telltale.failed_too(a text[], b text[]) returns text[]
language sql immutable
set search_path = pg_catalog
as $$
    select coalesce(a, '{}') || array(
        select t.test from unnest(b) with ordinality as t (test, n) where t.test <> all (coalesce(a, '{}')) order by t.n
    )
$$;
comment on function telltale.failed_too(text[], text[]) is 'Failed tests of one list, and those that only the other has.';
