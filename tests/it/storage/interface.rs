//! The interface in SQL: comments, rights, names, and migrators that meet.
use super::{database::Database, number, observation};
use telltale_cli::migrate::migrate;
use telltale_runtime::BatchWorker as _;

const VIEWS: &str = "'readings', 'latest', 'events', 'outcomes', 'commands', 'things', 'registrations', 'properties', 'quarantine', 'ledger', 'epochs', 'hops', 'audit'";

#[tokio::test]
async fn two_migrators_at_once_leave_one_result_and_a_third_finds_nothing_to_do() {
    let url = Database::empty().await;
    let (one, other) = tokio::join!(migrate(&url), migrate(&url));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.applied.len() + other.applied.len(), one.known);
    assert!(one.applied.is_empty() || other.applied.is_empty());
    assert_eq!(migrate(&url).await.unwrap().applied, Vec::<String>::new());
}

#[tokio::test]
async fn two_databases_of_one_cluster_are_migrated_at_once() {
    let (a, b) = (Database::empty().await, Database::empty().await);
    let (a, b) = tokio::join!(migrate(&a), migrate(&b));
    assert_eq!(a.unwrap(), b.unwrap());
}

#[tokio::test]
async fn every_view_and_column_has_a_comment() {
    let db = Database::fresh().await;
    let bare = db
        .text(
            "select coalesce(string_agg(c.relname || '.' || coalesce(a.attname, ''), ', '), 'none')
             from pg_class c
             left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             where c.relnamespace = 'public'::regnamespace
               and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)",
        )
        .await;
    assert_eq!(bare, "none");
    let views = db
        .text(&format!(
            "select count(*)::text from pg_views where schemaname = 'public' and viewname in ({VIEWS})"
        ))
        .await;
    assert_eq!(views, "13");
}

#[tokio::test]
async fn the_views_have_the_columns_that_are_promised() {
    let db = Database::fresh().await;
    for (view, columns) in [
        (
            "readings",
            "time,received,site,thing,name,value,value_text,value_bool,value_data,sum,unit,quality,failed,protocol,\
             publisher,message_id,ordinal,kind,annotation",
        ),
        ("events", "time,site,thing,name,data,message_id,causation_id"),
        (
            "audit",
            "time,site,thing,who,what,scope,status,address,message_id",
        ),
    ] {
        let found = db
            .text(&format!(
                "select string_agg(column_name, ',' order by ordinal_position) from information_schema.columns
                 where table_schema = 'public' and table_name = '{view}'"
            ))
            .await;
        assert_eq!(found, columns);
    }
}

#[tokio::test]
async fn the_reader_reads_the_views_and_can_do_nothing_else() {
    let db = Database::fresh().await;
    db.store
        .handle_batch(&[observation("t:1", 1, vec![number("a", 1.0)])])
        .await
        .unwrap();
    let reader = db.reader().await;
    for view in [
        "readings",
        "latest",
        "events",
        "outcomes",
        "commands",
        "things",
        "registrations",
        "properties",
        "quarantine",
        "ledger",
        "epochs",
        "hops",
    ] {
        reader.query(&format!("select * from {view}"), &[]).await.unwrap();
    }
    reader
        .query("select telltale.missing('site', 1, 5)", &[])
        .await
        .unwrap();
    for refused in [
        "select * from store.readings",
        "select * from store.first_seen",
        "delete from readings",
        "begin read write; insert into events values (now(), 's', 't', 'n', '{}', 'i', null); commit",
        "begin read write; create table public.x (a int)",
        "begin read write; create temp table x (a int)",
        "begin read write; select telltale.ensure_partition('2004-01-01')",
        "select pg_read_file('postgresql.conf')",
        "begin read write; select telltale.write_off('site', 1, '{[1,9)}', 'me', null)",
    ] {
        let answer = reader.batch_execute(refused).await;
        assert!(answer.is_err(), "{refused}");
        // Also ends a transaction that was left open.
        reader.batch_execute("rollback").await.unwrap();
    }
    for (setting, value) in [
        ("default_transaction_read_only", "on"),
        ("statement_timeout", "30s"),
    ] {
        let row = reader.query_one(&format!("show {setting}"), &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), value);
    }
}

#[tokio::test]
async fn a_view_with_other_columns_than_before_is_made_anew() {
    let db = Database::fresh().await;
    db.execute("drop view public.events; create view public.events as select 1 as old")
        .await;
    migrate(&db.url).await.unwrap();
    assert_eq!(db.count("events").await, 0);
}
