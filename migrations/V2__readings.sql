-- What an annotation says is the same for most readings of a thing, and often longer than the reading:
-- each text is kept once, under the first half of its SHA-256.
create table store.annotations (
    id uuid primary key,
    data jsonb not null
);

-- One row for each record. The key must contain the partition's column, so the time is part of it: a reading's
-- time never changes between deliveries. `hops` stands on the row with ordinal 0: a table of its own would cost
-- a second row and a second index entry for each message, and this one is found by the same key.
create table store.readings (
    time timestamptz not null,
    received timestamptz,
    epoch bigint,
    seq bigint,
    value double precision,
    sum double precision,
    ut double precision,
    annotation uuid,
    ordinal smallint not null,
    quality smallint,
    value_bool boolean,
    id text not null,
    site text not null,
    thing text not null,
    name text not null,
    kind text not null,
    unit text,
    protocol text,
    publisher text,
    value_text text,
    value_data bytea,
    failed text[],
    hops text,
    primary key (time, id, ordinal)
) partition by range (time);

-- What people ask for: one property of one thing over a time. The key serves a time over all things.
create index readings_series on store.readings (thing, name, time);

-- Which properties exist, so that `latest` need not look at every reading to find out.
create table store.series (
    thing text not null,
    name text not null,
    primary key (thing, name)
);

-- A reading without a time of its own has that of its receipt, and a device's retry of it has another: for these
-- the key above does not tell that they are one. The first to come keeps its time here.
create table store.first_seen (
    id text primary key,
    time timestamptz not null
);

-- A day's partition, if it is not there yet. Attaching one that was made aside takes a lock that lets others
-- read and write meanwhile; `create table .. partition of` would not.
create function telltale.ensure_partition(day date) returns boolean
language plpgsql
set search_path = pg_catalog
set timezone = 'UTC'
as $$
declare
    part text := 'readings_' || to_char(day, 'YYYYMMDD');
begin
    if day < date '1990-01-01' or day >= date '2100-01-01' then
        raise exception 'day % is outside the years 1990 to 2099', day using errcode = 'datetime_field_overflow';
    end if;
    if exists (
        select from pg_inherits
        where inhparent = 'store.readings'::regclass and inhrelid = to_regclass('store.' || part)
    ) then
        return false;
    end if;
    -- Another copy of store may be at it; once it is done, look again.
    perform pg_advisory_xact_lock(1413827660, 2);
    if exists (
        select from pg_inherits
        where inhparent = 'store.readings'::regclass and inhrelid = to_regclass('store.' || part)
    ) then
        return false;
    end if;
    execute format('create table if not exists store.%I (like store.readings including all)', part);
    execute format(
        'alter table store.readings attach partition store.%I for values from (%L) to (%L)',
        part, day::timestamptz, (day + 1)::timestamptz
    );
    return true;
end
$$;

-- All days from the first to the last; says how many were made.
create function telltale.ensure_partitions(first date, last date) returns bigint
language sql
set search_path = pg_catalog
as $$
    select count(*) filter (where telltale.ensure_partition((first + n)::date)) from generate_series(0, last - first) as n
$$;
