create or replace view public.outcomes as
select
    o.time,
    o.site,
    o.thing,
    o.name,
    o.command_id,
    o.state,
    o.output,
    o.problem,
    o.request,
    o.expires,
    o.id as message_id
from store.outcomes as o;

comment on view public.outcomes is 'How far commands came: one row for each state that a command reached.';
comment on column public.outcomes.time is 'When the state was reached; UTC, to the microsecond.';
comment on column public.outcomes.site is 'The site of the thing.';
comment on column public.outcomes.thing is 'The thing that was told.';
comment on column public.outcomes.name is 'The property or action.';
comment on column public.outcomes.command_id is 'Id of the command.';
comment on column public.outcomes.state is 'queued, sent, acknowledged, or the end: succeeded, failed, expired, cancelled, unknown.';
comment on column public.outcomes.output is 'What the device answered; units as the action implies.';
comment on column public.outcomes.problem is 'Why it was refused or failed.';
comment on column public.outcomes.request is 'The command itself, with queued and with every refusal.';
comment on column public.outcomes.expires is 'After this it is never carried out; UTC, to the microsecond.';
comment on column public.outcomes.message_id is 'Id of the outcome.';

grant select on public.outcomes to telltale_reader, telltale_query;
