-- Every change in the life of a thing: who made it, and the entry as it was after it. A change keeps its id and its
-- time however often it is delivered; another site's, or that of a bucket made anew, may have the same id.
create table store.registrations (
    id text not null,
    time timestamptz not null,
    site text not null,
    thing text not null,
    change text not null,
    revision bigint not null,
    entry jsonb,
    by text,
    detail jsonb,
    source text not null,
    causation_id text,
    primary key (id, time)
);
create index registrations_thing on store.registrations (thing, time);
create index registrations_time on store.registrations (time);
create index registrations_presence on store.registrations (thing, time) where change in ('online', 'stale', 'offline');

-- What an entry says of its registration.
alter table store.things
    add column created timestamptz,
    add column modified timestamptz,
    add column expires timestamptz;

-- Until now only the newest change was kept.
insert into store.registrations (id, time, site, thing, change, revision, entry, source)
select message_id, changed, site, thing, change, revision, entry, '/' || site || '/telltale' from store.things;
