//! The statements of a session, prepared once.
use tokio_postgres::{Client, Error, Statement};

/// Lives as long as the session; emptied by each commit.
const STAGE: &str = "
create temp table stg (
    n integer not null,
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
    hops text
) on commit delete rows";

/// Columns of `stg`, in its order.
pub(crate) const STAGE_COLUMNS: i16 = 24;

const COPY: &str = "copy stg from stdin binary";

const INSERT: &str = "
insert into store.readings (
    time, received, epoch, seq, value, sum, ut, annotation, ordinal, quality, value_bool,
    id, site, thing, name, kind, unit, protocol, publisher, value_text, value_data, failed, hops
)
select
    time, received, epoch, seq, value, sum, ut, annotation, ordinal, quality, value_bool,
    id, site, thing, name, kind, unit, protocol, publisher, value_text, value_data, failed, hops
from stg
on conflict do nothing";

/// Messages whose first row stands there from another message of RAW. The limit keeps the planner from turning it
/// around: it knows nothing of the size of `stg`, and would read whole partitions. The bounds leave out all others.
const TAKEN: &str = "
select s.n
from stg as s
cross join lateral (
    select r.epoch, r.seq
    from store.readings as r
    where r.time = s.time and r.id = s.id and r.ordinal = s.ordinal and r.time between $1 and $2
    limit 1
) as r
where s.ordinal = 0 and (r.epoch, r.seq) is distinct from (s.epoch, s.seq)";

/// Rows that such messages added beyond it: a message is kept whole or not at all.
const ADDED: &str = "
select s.time, s.id, s.ordinal
from stg as s
cross join lateral (
    select r.epoch, r.seq
    from store.readings as r
    where r.time = s.time and r.id = s.id and r.ordinal = s.ordinal and r.time between $1 and $2
    limit 1
) as r
where s.n = any ($3) and r.epoch = s.epoch and r.seq = s.seq";

const REMOVE: &str = "delete from store.readings where time = $1 and id = $2 and ordinal = $3";

const DAYS: &str = "
select telltale.ensure_partition(date '1970-01-01' + day) from unnest($1::integer[]) as day order by day";

/// Sorted, as every statement that several copies of store may run on the same keys: else they deadlock.
const SEEN: &str = "
insert into store.first_seen (id, time)
select id, time from unnest($1::text[], $2::timestamptz[]) as m (id, time) order by id
on conflict do nothing";

const SEEN_BEFORE: &str = "
select m.n
from unnest($1::text[], $2::timestamptz[], $3::integer[]) as m (id, time, n)
join store.first_seen as f on f.id = m.id
where f.time <> m.time";

const ANNOTATIONS: &str = "
insert into store.annotations (id, data)
select encode(id, 'hex')::uuid, data from unnest($1::bytea[], $2::jsonb[]) as m (id, data) order by 1
on conflict do nothing";

const SERIES: &str = "
insert into store.series (thing, name)
select thing, name from unnest($1::text[], $2::text[]) as m (thing, name) order by 1, 2
on conflict do nothing";

const LEDGER: &str = "
insert into store.ledger as l (site, epoch, block, fate, seqs)
select site, epoch, block, fate, seqs::int8multirange
from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[]) as m (site, epoch, block, fate, seqs)
order by 1, 2, 3, 4
on conflict (site, epoch, block, fate) do update
set seqs = l.seqs + excluded.seqs
where not l.seqs @> excluded.seqs";

const EPOCHS: &str = "
insert into store.epochs (site, epoch)
select distinct site, epoch from unnest($1::text[], $2::bigint[]) as m (site, epoch) order by 1, 2
on conflict do nothing";

const EVENTS: &str = "
insert into store.events (
    id, time, received, site, thing, name, data, source, causation_id, correlation_id, epoch, seq, hops
)
select * from unnest(
    $1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::jsonb[],
    $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::text[]
)
order by 1
on conflict do nothing";

const OUTCOMES: &str = "
insert into store.outcomes (
    id, time, site, thing, name, command_id, state, output, problem, request, expires, source,
    causation_id, correlation_id, hops, issuer
)
select * from unnest(
    $1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
    $9::text[], $10::jsonb[], $11::timestamptz[], $12::text[], $13::text[], $14::text[], $15::text[],
    $16::text[]
)
order by 1
on conflict do nothing";

/// Of several changes of one thing the last alone: a row cannot be updated twice by one statement.
const THINGS: &str = "
insert into store.things as t (
    thing, site, revision, changed, change, entry, message_id, created, modified, expires
)
select distinct on (thing) *
from unnest(
    $1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::text[], $6::jsonb[], $7::text[],
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[]
) as m (thing, site, revision, changed, change, entry, message_id, created, modified, expires)
order by thing, changed desc, revision desc
on conflict (thing) do update
set site = excluded.site, revision = excluded.revision, changed = excluded.changed,
    change = excluded.change, entry = excluded.entry, message_id = excluded.message_id,
    created = excluded.created, modified = excluded.modified, expires = excluded.expires
where case when t.site = excluded.site then excluded.revision > t.revision else excluded.changed > t.changed end";

const REGISTRATIONS: &str = "
insert into store.registrations (
    id, time, site, thing, change, revision, entry, by, detail, source, causation_id
)
select * from unnest(
    $1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::jsonb[], $8::text[],
    $9::jsonb[], $10::text[], $11::text[]
)
order by 1
on conflict do nothing";

const QUARANTINE: &str = "
insert into store.quarantine (
    id, time, received, site, thing, stage, reason, errors, attempts, subject, headers, payload, sha256,
    message_id, protocol, publisher, epoch, seq, hops, generation, sequence
)
select * from unnest(
    $1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
    $9::integer[], $10::text[], $11::jsonb[], $12::bytea[], $13::text[], $14::text[], $15::text[], $16::text[],
    $17::bigint[], $18::bigint[], $19::text[], $20::integer[], $21::bigint[]
)
order by 1
on conflict do nothing";

/// What was replayed, refused again, and could not be kept again is open as it was, one replay further on. Runs
/// before the events are written: one that is there already was heeded.
const REOPEN: &str = "
update store.quarantine as q
set state = 'open', generation = q.generation + 1, replay_begun = null, sequence = null,
    settled = null, settled_by = null, note = 'refused again while the quarantine was full'
from unnest($1::text[], $2::text[]) as m (event, entry)
where q.id = m.entry and q.state <> 'dropped' and not exists (select from store.events as e where e.id = m.event)";

/// Held to the end of the transaction. (ADR 0024)
const TURN_TOGETHER: &str = "select pg_advisory_xact_lock_shared(1413827660, 4)";
const TURN_ALONE: &str = "select pg_advisory_xact_lock(1413827660, 4)";

/// Amends the rows that are there; what is said of others waits. All of one day, so that the bounds leave out the other
/// partitions.
const AMEND: &str = "
with said as materialized (
    select time, id, ordinal, thing, quality, string_to_array(failed, ',') as failed
    from unnest($1::timestamptz[], $2::text[], $3::smallint[], $4::text[], $5::smallint[], $6::text[])
        as m (time, id, ordinal, thing, quality, failed)
),
amended as (
    update store.readings as r
    set quality = telltale.worse(r.quality, s.quality),
        failed = nullif(telltale.failed_too(r.failed, s.failed), '{}')
    from said as s
    where r.time = s.time and r.id = s.id and r.ordinal = s.ordinal and r.thing = s.thing and r.time between $7 and $8
    returning r.time, r.id, r.ordinal
)
insert into store.amendments as a (time, id, ordinal, thing, quality, failed)
select s.time, s.id, s.ordinal, s.thing, s.quality, s.failed
from said as s
where not exists (
    select from amended as d where d.time = s.time and d.id = s.id and d.ordinal = s.ordinal
)
order by s.time, s.id, s.ordinal
on conflict (time, id, ordinal) do update
set quality = telltale.worse(a.quality, excluded.quality), failed = telltale.failed_too(a.failed, excluded.failed)
where a.thing = excluded.thing";

const WAITING: &str = "select exists (select from store.amendments where time between $1 and $2)";

const TAKE_UP: &str = "
with said as (
    delete from store.amendments as a
    using stg as s
    where a.time = s.time and a.id = s.id and a.ordinal = s.ordinal and a.thing = s.thing and a.time between $1 and $2
    returning a.time, a.id, a.ordinal, a.thing, a.quality, a.failed
)
update store.readings as r
set quality = telltale.worse(r.quality, s.quality),
    failed = nullif(telltale.failed_too(r.failed, s.failed), '{}')
from said as s
where r.time = s.time and r.id = s.id and r.ordinal = s.ordinal and r.thing = s.thing and r.time between $1 and $2";

macro_rules! statements {
    ($($name:ident = $sql:ident),+ $(,)?) => {
        #[derive(Clone)]
        pub(crate) struct Statements { $(pub(crate) $name: Statement,)+ }
        impl Statements {
            /// Also shows whether the database is migrated, and ours to write to.
            pub(crate) async fn prepare(client: &Client) -> Result<Self, Error> {
                client.batch_execute(STAGE).await?;
                Ok(Self { $($name: client.prepare($sql).await?,)+ })
            }
        }
    };
}
statements! {
    copy = COPY,
    insert = INSERT,
    taken = TAKEN,
    added = ADDED,
    remove = REMOVE,
    days = DAYS,
    seen = SEEN,
    seen_before = SEEN_BEFORE,
    annotations = ANNOTATIONS,
    series = SERIES,
    ledger = LEDGER,
    epochs = EPOCHS,
    events = EVENTS,
    outcomes = OUTCOMES,
    things = THINGS,
    registrations = REGISTRATIONS,
    quarantine = QUARANTINE,
    reopen = REOPEN,
    turn_together = TURN_TOGETHER,
    turn_alone = TURN_ALONE,
    amend = AMEND,
    waiting = WAITING,
    take_up = TAKE_UP,
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statements").finish_non_exhaustive()
    }
}
