-- The balance is computed over sets: which RAW sequences ended how. A redelivery changes no set.
create table store.ledger (
    site text not null,
    epoch bigint not null,
    block bigint not null,
    fate text not null check (fate in ('stored', 'duplicate', 'quarantined', 'unkept')),
    seqs int8multirange not null,
    primary key (site, epoch, block, fate)
) with (fillfactor = 50);

-- RAW made anew counts from 1 again; each of its lives is an epoch of its site.
create table store.epochs (
    site text not null,
    epoch bigint not null,
    since timestamptz not null default now(),
    primary key (site, epoch)
);

-- The sequences from `since` to `upto` of which nothing is known here: in flight, or missing.
create function telltale.missing(of_site text, of_epoch bigint, upto bigint, since bigint default 1)
returns int8multirange
language sql stable security definer
set search_path = pg_catalog
as $$
    select case when upto < since then '{}'::int8multirange
        else int8multirange(int8range(since, upto, '[]')) - coalesce(range_agg(part), '{}'::int8multirange)
    end
    from store.ledger, unnest(seqs) as part
    where site = of_site and epoch = of_epoch
      and block between since / 65536 and upto / 65536
$$;
comment on function telltale.missing(text, bigint, bigint, bigint) is
    'RAW sequences of a site and epoch, from `since` (1) to `upto` inclusive, that have no fate: in flight or missing.';

-- How many sequences are in a set.
create function telltale.cardinality(of_seqs int8multirange) returns bigint
language sql immutable
set search_path = pg_catalog
as $$
    select coalesce(sum(upper(part) - lower(part)), 0)::bigint from unnest(of_seqs) as part
$$;
comment on function telltale.cardinality(int8multirange) is 'How many numbers a set of sequences has.';

-- One line for each fate. Each sequence counts once, for the best that became of it: what was quarantined, then
-- replayed and stored, is stored.
create function telltale.balance(of_site text, of_epoch bigint) returns table (fate text, messages bigint, seqs int8multirange)
language sql stable security definer
set search_path = pg_catalog
as $$
    with kept as (
        select coalesce(range_agg(part) filter (where l.fate = 'stored'), '{}') as stored,
               coalesce(range_agg(part) filter (where l.fate = 'duplicate'), '{}') as duplicate,
               coalesce(range_agg(part) filter (where l.fate = 'quarantined'), '{}') as quarantined,
               coalesce(range_agg(part) filter (where l.fate = 'unkept'), '{}') as unkept
        from store.ledger as l, unnest(l.seqs) as part
        where l.site = of_site and l.epoch = of_epoch
    ),
    best as (
        select v.fate, v.seqs from kept,
        lateral (values
            ('stored', stored),
            ('duplicate', duplicate - stored),
            ('quarantined', quarantined - stored - duplicate),
            ('unkept', unkept - stored - duplicate - quarantined)
        ) as v (fate, seqs)
    )
    select best.fate, telltale.cardinality(best.seqs), best.seqs from best
$$;
comment on function telltale.balance(text, bigint) is
    'For a site and epoch of RAW: how many messages met each fate (stored, duplicate, quarantined, unkept), and which; each counts once.';

grant usage on schema telltale to telltale_reader;
grant execute on function telltale.missing(text, bigint, bigint, bigint) to telltale_reader;
grant execute on function telltale.cardinality(int8multirange) to telltale_reader;
grant execute on function telltale.balance(text, bigint) to telltale_reader;
