//! B51, B52 and B54, and of B53 what reaches beyond rows: nothing is changed, nothing is told.
use super::{Door, GRACE, TIME};
use std::time::Instant;
use telltale_cli::migrate::migrate;
use tokio_postgres::error::SqlState;

/// Statements that change something, and those that are no queries.
const CHANGES: [&str; 30] = [
    "create table public.x (a int)",
    "create temp table x (a int)",
    "drop view readings",
    "alter role telltale_query superuser",
    "grant telltale_reader to telltale_query",
    "insert into events values (now(), 's', 't', 'n', '{}', 'i', null)",
    "update store.things set site = 'other'",
    "delete from readings",
    "truncate store.events",
    "with x as (delete from store.events returning id) select * from x",
    "with x as (insert into store.epochs values ('x', 1) returning *) select * from x",
    "select 1; drop table store.events",
    "select 1) q; drop table store.events; select * from (select 1",
    "select * into x from latest",
    "copy (select 1) to program 'touch /tmp/telltale-was-here'",
    "copy store.events from program 'id'",
    "do $$ begin delete from store.events; end $$",
    "call x()",
    "listen x",
    "notify x",
    "set statement_timeout = 0",
    "set role telltale",
    "reset all",
    "begin read write",
    "commit",
    "lock table store.events",
    "explain analyze delete from store.events",
    "explain select 1",
    "select * from latest for update",
    "vacuum",
];

/// Calls that reach beyond rows.
const REACHES: [&str; 26] = [
    "select set_config('statement_timeout', '0', false)",
    "select set_config('telltale.site', 'other', true)",
    "select \"set_config\"('statement_timeout', '0', false)",
    "select current_setting('data_directory')",
    "select current_setting('listen_addresses')",
    "select pg_sleep(1e6)",
    "select pg_catalog.pg_sleep(1e6)",
    "select pg_advisory_lock(1413827660, 1)",
    "select pg_try_advisory_lock(1413827660, 1)",
    "select pg_advisory_xact_lock(1413827660, 2)",
    "select pg_terminate_backend(1)",
    "select pg_cancel_backend(1)",
    "select lo_from_bytea(0, 'x')",
    "select lo_import('/etc/passwd')",
    "select pg_read_file('/etc/passwd')",
    "select pg_ls_dir('.')",
    "select query from pg_stat_activity",
    "select rolpassword from pg_authid",
    "select query_to_xml('select 1', true, true, '')",
    "select ts_stat('select 1')",
    "select pg_notify('x', 'y')",
    "select * from store.readings",
    "select * from store.migrations",
    "select telltale.write_off('s', 1, '{[1,9)}', 'me', null)",
    "select telltale.ensure_partition('2004-01-01')",
    "select * from pg_show_all_settings()",
];

/// All that a statement could have left behind.
const ALL: &str = "
select concat_ws('/',
    (select count(*) from pg_class), (select count(*) from pg_proc), (select count(*) from pg_largeobject_metadata),
    (select string_agg(concat(rolname, rolsuper, rolcanlogin), ',' order by rolname) from pg_roles),
    (select count(*) from pg_auth_members), (select count(*) from store.events), (select count(*) from store.epochs),
    (select string_agg(setconfig::text, ',' order by setrole) from pg_db_role_setting))";

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_changes_anything() {
    let door = Door::open().await;
    let admin = door.admin().await;
    admin
        .batch_execute(
            "insert into store.events (id, time, site, thing, name, data, source)
             values ('planted', now(), 's', 't', 'n', '{}', '/s/x') on conflict do nothing",
        )
        .await
        .unwrap();
    let before: String = admin.query_one(ALL, &[]).await.unwrap().get(0);
    for sql in CHANGES.into_iter().chain(REACHES) {
        let reply = door.sql(sql).await;
        assert!([400, 403].contains(&reply.status), "{sql}: {reply:?}");
    }
    let after: String = admin.query_one(ALL, &[]).await.unwrap().get(0);
    assert_eq!(after, before);
    assert!(!std::path::Path::new("/tmp/telltale-was-here").exists());
    door.is_recovered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_alone_withstands_what_gets_past_the_gateway() {
    let door = Door::open().await;
    let role = door.role().await;
    // What is no statement of a transaction, or of a session that ends with its query, is the gateway's to refuse.
    let session = [
        "set ",
        "reset ",
        "begin",
        "commit",
        "explain select",
        "listen",
        "call",
        "notify",
        "select 1",
    ];
    let written = CHANGES
        .into_iter()
        .filter(|sql| !session.iter().any(|word| sql.starts_with(word)));
    for sql in written.chain(REACHES) {
        // In a transaction that may write, so that it is the rights that refuse.
        let outcome = role.batch_execute(&format!("begin read write; {sql}")).await;
        let error = outcome.expect_err(sql);
        let state = error.code().unwrap_or_else(|| panic!("{sql}: {error}"));
        let refused = [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::ACTIVE_SQL_TRANSACTION,
            SqlState::WRONG_OBJECT_TYPE,
            SqlState::UNDEFINED_FUNCTION,
            // A view of several tables cannot be written, whoever asks.
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        ];
        assert!(refused.contains(state), "{sql}: {error:?}");
        role.batch_execute("rollback").await.unwrap();
    }
    for (setting, value) in [
        ("default_transaction_read_only", "on"),
        ("temp_file_limit", "256MB"),
    ] {
        let row = role.query_one(&format!("show {setting}"), &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_are_trusted_keep_the_functions_that_are_taken_from_all() {
    let door = Door::open().await;
    let reader = super::connect(door.stack.env("DATABASE_URL")).await;
    for sql in [
        "select set_config('application_name', 'x', false)",
        "select current_setting('server_version')",
        "select count(*) from pg_stat_activity",
        "select count(*) from pg_settings",
    ] {
        reader.query(sql, &[]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_one_query_reaches_the_next() {
    let door = Door::open().await;
    // Past the fences there would be nothing to find: each query has a session of its own.
    for _ in 0..3 {
        assert_eq!(door.sql("select 1").await.status, 200);
        door.has_no_session().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_tells_of_a_row_that_a_view_hides() {
    let door = Door::open().await;
    door.admin()
        .await
        .batch_execute(
            "insert into store.things (thing, site, revision, changed, change, entry, message_id)
             values ('hidden-7', 's', 1, now(), 'deleted', '{\"annotation\":{\"key\":\"hidden-8\"}}', 'm'),
                    ('shown', 's', 1, now(), 'created', '{}', 'm2')
             on conflict do nothing",
        )
        .await
        .unwrap();
    for sql in [
        "select 1 / (case when thing = 'hidden-7' then 0 else 1 end) from things",
        "select 1 from things where 1 / (case when thing = 'hidden-7' then 0 else 1 end) = 1",
        "select 1 from things where case when thing like 'hidden%' then thing::int = 1 else true end",
        "select 1 from things where case when annotation ->> 'key' like 'hidden%' then (annotation ->> 'key')::int = 1 else true end",
        "select 1 from things where case when thing <> 'shown' then repeat(thing, 10)::date > now() else true end",
        "select count(*) from things where thing ~ '^hidden'",
    ] {
        let reply = door.sql(sql).await;
        let text = reply.text.as_ref().unwrap();
        assert!(
            reply.status == 200 && !text.contains("hidden"),
            "{sql}: {reply:?}"
        );
    }
    let views =
        "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relname = 'things'
                 and reloptions @> array['security_barrier=true']";
    let row = door.admin().await.query_one(views, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_tells_a_secret_of_the_database() {
    let door = Door::open().await;
    let secrets: Vec<String> = ["DATABASE_ADMIN_URL", "QUERY_DATABASE_URL", "DATABASE_URL"]
        .iter()
        .map(|name| door.stack.env(name).split([':', '@']).nth(2).unwrap().to_owned())
        .collect();
    for sql in REACHES
        .into_iter()
        .chain(["select version()::int", "select current_user::int", "select x"])
    {
        let text = door.sql(sql).await.text.unwrap();
        for secret in &secrets {
            assert!(!text.contains(secret), "{sql}: {text}");
        }
        assert!(
            !text.contains("scram-sha-256") && !text.contains("root:"),
            "{sql}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_stops_the_migrator() {
    let door = Door::open().await;
    let began = Instant::now();
    let lock =
        "select pg_advisory_lock(1413827660, 1), count(*) from readings a, generate_series(1, 1000000000)";
    let long = "select count(*) from (select count(*) from things, readings) x, generate_series(1, 100000) a, generate_series(1, 100000) b";
    let (migrated, locked, slow) = tokio::join!(
        migrate(door.stack.env("DATABASE_ADMIN_URL")),
        futures::future::join_all((0..4).map(|_| door.sql(lock))),
        door.sql(long),
    );
    assert_eq!(migrated.unwrap().applied, Vec::<String>::new());
    assert!(locked.iter().all(|reply| reply.status == 400), "{locked:?}");
    assert_eq!(slow.status, 504, "{slow:?}");
    assert!(began.elapsed() < TIME + GRACE, "{:?}", began.elapsed());
    door.is_recovered().await;
}
