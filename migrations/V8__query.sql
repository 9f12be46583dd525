-- `POST /query` runs the SQL of strangers under a role of its own. It may read the public views (each view grants
-- that itself) and nothing else: it owns nothing, belongs to nothing, and sees neither `store` nor `telltale`.
do $$
begin
    if not exists (select from pg_roles where rolname = 'telltale_query') then
        create role telltale_query login;
    end if;
exception
    when duplicate_object or unique_violation then null;
end
$$;

-- For this database alone. The gateway sets a shorter time for each statement; these hold if it does not.
do $$
declare
    setting text;
begin
    execute format('grant connect on database %I to telltale_query', current_database());
    foreach setting in array array[
        'default_transaction_read_only = on',
        'statement_timeout = ''60s''',
        'lock_timeout = ''2s''',
        'idle_in_transaction_session_timeout = ''60s''',
        'timezone = ''UTC''',
        'search_path = public',
        'work_mem = ''8MB''',
        'max_parallel_workers_per_gather = 0',
        'jit = off'
    ] loop
        execute format('alter role telltale_query in database %I set %s', current_database(), setting);
    end loop;
end
$$;

-- What is sorted or kept aside beyond that memory goes to disk, and there is an end to that too.
do $$
begin
    execute format('alter role telltale_query in database %I set temp_file_limit = ''256MB''', current_database());
exception
    when insufficient_privilege then
        raise warning 'only a superuser can limit the temporary files of telltale_query: set temp_file_limit for it';
end
$$;

grant usage on schema public to telltale_query;

-- Functions with which a query would reach beyond its rows: settings, locks, other sessions, sleep, large objects,
-- and those that run a text as a query. PostgreSQL grants them to PUBLIC; a right cannot be denied to one role, so it
-- is taken from PUBLIC here and given to those who are trusted with a connection of their own.
do $$
declare
    reaching regprocedure;
begin
    for reaching in
        select p.oid
        from pg_proc as p
        where p.pronamespace = 'pg_catalog'::regnamespace
          and p.prokind = 'f'
          and has_function_privilege('public', p.oid, 'execute')
          and (
              p.proname ~ '^(pg_(try_)?advisory_|pg_sleep|pg_stat_get_(activity|backend_)|pg_(read|ls)_|pg_export_|lo_)'
              or p.proname ~ '^((query|table|schema|database|cursor)_to_xml|pg_logical_emit_message|pg_replication_origin_)'
              or p.proname in (
                  'set_config', 'current_setting', 'pg_show_all_settings', 'pg_terminate_backend', 'pg_cancel_backend',
                  'pg_notify', 'loread', 'lowrite', 'txid_current', 'pg_current_xact_id', 'pg_lock_status',
                  'pg_prepared_statement', 'pg_prepared_xact', 'pg_cursor', 'pg_stat_file', 'ts_stat',
                  'inet_server_addr', 'inet_server_port', 'inet_client_addr', 'inet_client_port'
              )
              or (p.proname = 'ts_rewrite' and p.proargtypes::regtype[] @> array['text'::regtype])
          )
    loop
        execute format('revoke execute on function %s from public', reaching);
        execute format('grant execute on function %s to telltale_reader, pg_monitor, %I', reaching, current_user);
    end loop;
    if has_function_privilege('telltale_query', 'set_config(text, text, boolean)', 'execute') then
        raise warning 'only a superuser can take functions such as set_config from telltale_query: the gateway refuses them by name';
    end if;
end
$$;
