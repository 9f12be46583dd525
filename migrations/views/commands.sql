create or replace view public.commands as
select
    o.command_id as id,
    o.thing,
    min(o.site) as site,
    min(o.name) as name,
    -- The end, else the last step that was told; `queued` may be told after `sent`.
    (array_agg(o.state order by (o.state not in ('queued', 'sent', 'acknowledged')) desc, (o.state <> 'queued') desc, o.time desc))[1] as state,
    min(o.issuer) as issuer,
    (array_agg(o.request -> 'input' order by o.id) filter (where o.request is not null))[1] as input,
    (array_agg(o.output) filter (where o.output is not null))[1] as output,
    min(o.problem) as problem,
    coalesce((min(o.request ->> 'priority'))::smallint, 5::smallint) as priority,
    (min(o.request ->> 'start'))::timestamptz as start,
    min(o.expires) as expires,
    min(o.time) as asked,
    min(o.time) filter (where o.state = 'queued') as queued,
    max(o.time) filter (where o.state = 'sent') as sent,
    count(*) filter (where o.state = 'sent') as attempts,
    max(o.time) filter (where o.state = 'acknowledged') as acknowledged,
    min(o.time) filter (where o.state not in ('queued', 'sent', 'acknowledged')) as ended,
    min(o.correlation_id) as correlation_id
from store.outcomes as o
group by o.command_id, o.thing;

comment on view public.commands is 'Commands: one row each, made of their outcomes.';
comment on column public.commands.id is 'Id of the command.';
comment on column public.commands.thing is 'The thing that is told.';
comment on column public.commands.site is 'The site at which it was given.';
comment on column public.commands.name is 'The property or action.';
comment on column public.commands.state is 'How far it is: queued, sent, acknowledged, or its end: succeeded, failed, expired, cancelled, unknown.';
comment on column public.commands.issuer is 'Who gave it.';
comment on column public.commands.input is 'What the property is set to, or the action called with; units as the description says.';
comment on column public.commands.output is 'What the device answered; units as the description says.';
comment on column public.commands.problem is 'Why it did not succeed.';
comment on column public.commands.priority is '0 to 9, larger first.';
comment on column public.commands.start is 'Not delivered before; UTC, to the microsecond.';
comment on column public.commands.expires is 'Never delivered afterwards; UTC, to the microsecond.';
comment on column public.commands.asked is 'When it was first told of; UTC, to the microsecond.';
comment on column public.commands.queued is 'When it was queued; NULL if it was refused; UTC, to the microsecond.';
comment on column public.commands.sent is 'When it was last sent to its device; UTC, to the microsecond.';
comment on column public.commands.attempts is 'How often it was sent.';
comment on column public.commands.acknowledged is 'When the device had it; UTC, to the microsecond.';
comment on column public.commands.ended is 'When it ended; UTC, to the microsecond.';
comment on column public.commands.correlation_id is 'Id of the message with which the story began: the reading, for a command that a rule gave.';

grant select on public.commands to telltale_reader, telltale_query;
