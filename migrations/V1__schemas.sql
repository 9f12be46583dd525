-- Where things are: `store` holds the tables and is ours alone, `telltale` the functions, `public` the views
-- that anyone may build on (views/*.sql, made anew after each migration).
create schema if not exists store;
create schema if not exists telltale;

comment on schema store is 'Tables of Telltale: private, may change with any migration. Query the views in public.';
comment on schema telltale is 'Functions of Telltale.';

-- Nobody gets anything by belonging to PUBLIC.
revoke all on schema store from public;
revoke all on schema telltale from public;
revoke create on schema public from public;
alter default privileges in schema telltale revoke execute on functions from public;
alter default privileges revoke execute on functions from public;

do $$
begin
    execute format('revoke all on database %I from public', current_database());
end
$$;

-- Roles belong to the whole cluster, and other databases in it may have made this one, even at this moment.
-- It has no password until someone sets one.
do $$
begin
    if not exists (select from pg_roles where rolname = 'telltale_reader') then
        create role telltale_reader login;
    end if;
exception
    when duplicate_object or unique_violation then null;
end
$$;

-- For this database alone, so that two databases of a cluster never contend for one catalogue row.
do $$
declare
    setting text;
begin
    execute format('grant connect on database %I to telltale_reader', current_database());
    foreach setting in array array[
        'default_transaction_read_only = on',
        'statement_timeout = ''30s''',
        'lock_timeout = ''5s''',
        'idle_in_transaction_session_timeout = ''60s''',
        'timezone = ''UTC''',
        'search_path = public'
    ] loop
        execute format('alter role telltale_reader in database %I set %s', current_database(), setting);
    end loop;
end
$$;

grant usage on schema public to telltale_reader;
