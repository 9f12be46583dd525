create or replace view public.epochs as
select
    e.site,
    e.epoch,
    e.since,
    greatest(e.last, coalesce(l.last, 0)) as last,
    e.settled,
    e.checked
from store.epochs as e
left join lateral (
    select max(upper(l.seqs)) - 1 as last
    from store.ledger as l
    where l.site = e.site and l.epoch = e.epoch
) as l on true;

comment on view public.epochs is 'The lives of the RAW stream of each site, and how far each has come: see telltale.balance(site, epoch).';
comment on column public.epochs.site is 'The site of the RAW stream.';
comment on column public.epochs.epoch is 'Creation time of the RAW stream, epoch seconds.';
comment on column public.epochs.since is 'When its first message was stored; UTC, to the microsecond.';
comment on column public.epochs.last is 'The greatest sequence that is known to have been accepted.';
comment on column public.epochs.settled is 'Up to this sequence nothing is under way any more: what has no fate there is missing.';
comment on column public.epochs.checked is 'When that was found; UTC, to the microsecond.';

grant select on public.epochs to telltale_reader, telltale_query;
