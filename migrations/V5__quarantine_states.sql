-- What became of an entry, and what an operator did to it. The original bytes are never changed.
alter table store.quarantine
    add column state text not null default 'open' check (state in ('open', 'replayed', 'dropped')),
    -- After which replay it was refused; 0: it had never been replayed.
    add column generation integer not null default 0,
    -- Where it stands in the stream QUARANTINE, as long as it does.
    add column sequence bigint,
    -- Written before a replay begins: one that was cut off is finished under the same name, not begun anew.
    add column replay_begun timestamptz,
    add column settled timestamptz,
    add column settled_by text,
    add column note text,
    -- To be replayed instead of the original, with these headers.
    add column edited bytea,
    add column edited_headers jsonb,
    add column edited_at timestamptz,
    add column edited_by text;

-- Until now the state was derived: what became rows after all had been replayed.
update store.quarantine as q
set state = 'replayed', settled = now()
where q.stage in ('validate', 'annotate', 'store') and exists (
    select from store.ledger as l
    where l.site = q.site and l.epoch = q.epoch and l.block = q.seq / 65536
      and l.fate = 'stored' and l.seqs @> q.seq
);

create index quarantine_open on store.quarantine (reason, coalesce(received, time), id) where state = 'open';
