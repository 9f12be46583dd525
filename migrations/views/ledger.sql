create or replace view public.ledger as
select l.site, l.epoch, l.block, l.fate, l.seqs
from store.ledger as l;

comment on view public.ledger is 'Which messages of RAW ended how. See telltale.balance(site, epoch) and telltale.missing(site, epoch, upto).';
comment on column public.ledger.site is 'The site of the RAW stream.';
comment on column public.ledger.epoch is 'Creation time of the RAW stream, epoch seconds.';
comment on column public.ledger.block is 'Sequence divided by 65536: one row holds the sequences of one block.';
comment on column public.ledger.fate is 'stored, duplicate, quarantined, unkept (refused, and the quarantine was full), or removed (an operator wrote it off).';
comment on column public.ledger.seqs is 'The sequences, as a set of ranges.';

grant select on public.ledger to telltale_reader, telltale_query;
