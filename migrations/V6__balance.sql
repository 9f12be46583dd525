-- How far each life of RAW has come. Up to `settled` nothing can be under way any more: what has no fate there is
-- missing. `store` writes it, and `telltale status` of any machine reads it.
alter table store.epochs
    add column last bigint not null default 0,
    add column settled bigint not null default 0,
    add column checked timestamptz;

-- What an operator has removed and answers for is a fate too.
alter table store.ledger drop constraint ledger_fate_check;
alter table store.ledger add constraint ledger_fate_check
    check (fate in ('stored', 'duplicate', 'quarantined', 'unkept', 'removed'));

create table store.write_offs (
    site text not null,
    epoch bigint not null,
    seqs int8multirange not null,
    at timestamptz not null default now(),
    by text not null,
    note text
);

-- Of those sequences, the ones without a fate, are written off. Says how many.
create function telltale.write_off(of_site text, of_epoch bigint, of_seqs int8multirange, by_whom text, why text)
returns bigint
language plpgsql
set search_path = pg_catalog
as $$
declare
    off int8multirange := of_seqs - coalesce(
        (select range_agg(part) from store.ledger, unnest(seqs) as part where site = of_site and epoch = of_epoch),
        '{}'
    );
begin
    if isempty(off) then
        return 0;
    end if;
    insert into store.ledger as l (site, epoch, block, fate, seqs)
    select of_site, of_epoch, block, 'removed', off * int8multirange(int8range(block * 65536, (block + 1) * 65536))
    from (
        select distinct generate_series(lower(part) / 65536, (upper(part) - 1) / 65536) as block
        from unnest(off) as part
    ) as blocks
    on conflict (site, epoch, block, fate) do update set seqs = l.seqs + excluded.seqs;
    insert into store.write_offs (site, epoch, seqs, by, note) values (of_site, of_epoch, off, by_whom, why);
    return telltale.cardinality(off);
end
$$;
revoke execute on function telltale.write_off(text, bigint, int8multirange, text, text) from public;

create or replace function telltale.balance(of_site text, of_epoch bigint)
returns table (fate text, messages bigint, seqs int8multirange)
language sql stable security definer
set search_path = pg_catalog
as $$
    with kept as (
        select coalesce(range_agg(part) filter (where l.fate = 'stored'), '{}') as stored,
               coalesce(range_agg(part) filter (where l.fate = 'duplicate'), '{}') as duplicate,
               coalesce(range_agg(part) filter (where l.fate = 'quarantined'), '{}') as quarantined,
               coalesce(range_agg(part) filter (where l.fate = 'unkept'), '{}') as unkept,
               coalesce(range_agg(part) filter (where l.fate = 'removed'), '{}') as removed
        from store.ledger as l, unnest(l.seqs) as part
        where l.site = of_site and l.epoch = of_epoch
    ),
    best as (
        select v.fate, v.seqs from kept,
        lateral (values
            ('stored', stored),
            ('duplicate', duplicate - stored),
            ('quarantined', quarantined - stored - duplicate),
            ('unkept', unkept - stored - duplicate - quarantined),
            ('removed', removed - stored - duplicate - quarantined - unkept)
        ) as v (fate, seqs)
    )
    select best.fate, telltale.cardinality(best.seqs), best.seqs from best
$$;
comment on function telltale.balance(text, bigint) is
    'For a site and epoch of RAW: how many messages met each fate (stored, duplicate, quarantined, unkept, removed), and which; each counts once.';

-- The time under which a reading without a time of its own is stored: with it, its row is found by key.
create function telltale.first_seen(of_id text) returns timestamptz
language sql stable security definer
set search_path = pg_catalog
as $$
    select time from store.first_seen where id = of_id
$$;
comment on function telltale.first_seen(text) is
    'The time of the row of a reading that came without a time of its own, by its message_id; NULL for any other.';
grant execute on function telltale.first_seen(text) to telltale_reader;

-- By its place in RAW a message is found too. Rows come roughly in that order, so a few bytes for each hundred
-- pages do, where a real index would cost an entry for each message.
create index readings_raw on store.readings using brin (seq);
create index events_cause on store.events (causation_id);
create index outcomes_cause on store.outcomes (causation_id);
