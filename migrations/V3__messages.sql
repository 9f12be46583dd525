-- Everything that is no reading. Low rate, so not partitioned: the id alone is the key.
create table store.events (
    id text primary key,
    time timestamptz not null,
    received timestamptz,
    site text not null,
    thing text not null,
    name text not null,
    data jsonb not null,
    source text not null,
    causation_id text,
    correlation_id text,
    epoch bigint,
    seq bigint,
    hops text
);
create index events_thing on store.events (thing, time);
create index events_time on store.events (time);

create table store.outcomes (
    id text primary key,
    time timestamptz not null,
    site text not null,
    thing text not null,
    name text not null,
    command_id text not null,
    state text not null,
    output jsonb,
    problem text,
    request jsonb,
    expires timestamptz,
    source text not null,
    causation_id text,
    correlation_id text,
    hops text
);
create index outcomes_command on store.outcomes (command_id);
create index outcomes_thing on store.outcomes (thing, time);

-- The newest entry of each thing; revisions count within a site, so across sites time decides.
create table store.things (
    thing text primary key,
    site text not null,
    revision bigint not null,
    changed timestamptz not null,
    change text not null,
    entry jsonb,
    message_id text not null
);

-- What a stage refused, whole. `message_id` is the id that its device was told, where it was told one.
create table store.quarantine (
    id text primary key,
    time timestamptz not null,
    received timestamptz,
    site text not null,
    thing text not null,
    stage text not null,
    reason text not null,
    errors jsonb not null,
    attempts integer not null,
    subject text not null,
    headers jsonb not null,
    payload bytea not null,
    sha256 text not null,
    message_id text not null,
    protocol text,
    publisher text,
    epoch bigint,
    seq bigint,
    hops text
);
create index quarantine_time on store.quarantine (time);
create index quarantine_thing on store.quarantine (thing, time);
create index quarantine_message on store.quarantine (message_id);

-- What each message went through, for the tables that keep it in a column.
create view store.hops as
    select id as message_id, time, site, thing, kind, epoch, seq, hops from store.readings where hops is not null
    union all
    select id, time, site, thing, 'event', epoch, seq, hops from store.events where hops is not null
    union all
    select id, time, site, thing, 'outcome', null, null, hops from store.outcomes where hops is not null
    union all
    select id, time, site, thing, 'quarantine', epoch, seq, hops from store.quarantine where hops is not null;
