create or replace view public.registrations as
select
    r.time,
    r.site,
    r.thing,
    r.change,
    r.revision,
    r.by,
    coalesce(r.detail, '{}'::jsonb) as detail,
    r.entry,
    r.source,
    r.id as message_id,
    r.causation_id
from store.registrations as r;

comment on view public.registrations is 'Each change in the life of each thing: the audit of registrations.';
comment on column public.registrations.time is 'When it was changed; UTC, to the microsecond.';
comment on column public.registrations.site is 'The site that it was changed at.';
comment on column public.registrations.thing is 'The thing.';
comment on column public.registrations.change is 'created, updated, deleted, moved, expired, erased; online, stale, offline: of its device alone.';
comment on column public.registrations.revision is 'Revision of its entry then; counts within a site.';
comment on column public.registrations.by is 'Who did it: a person, or a device''s credential; NULL where nobody did.';
comment on column public.registrations.detail is 'The particulars, such as the site that it moved to.';
comment on column public.registrations.entry is 'The entry after the change: policy, annotation, td; NULL where there is none, or it is as it was.';
comment on column public.registrations.source is 'Site and program that wrote it.';
comment on column public.registrations.message_id is 'Id of the message.';
comment on column public.registrations.causation_id is 'Id of the message that it follows from.';

grant select on public.registrations to telltale_reader, telltale_query;
