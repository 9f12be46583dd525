//! B53 and B55: time, rows, bytes, cells, columns, slow readers; and the next query is served.
use super::{AT_ONCE, Door, GRACE, ROWS, TIME};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use telltale_tests::eventually_async;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// The gateway's memory may grow by so much, whatever is asked.
const MEMORY: u64 = 192 << 20;

/// Bytes of memory that a process has had at most.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_ends_is_ended() {
    let door = Door::open().await;
    let endless = [
        "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b",
        "select count(*) from generate_series(1, 1000000000000)",
        "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r",
        "with recursive r(n) as (select 1 union all select n from r) select n from r where n = 2",
        "select count(*) from generate_series(1, 10000000) g where (repeat('a', 40) || g) ~ '^(a+)+$'",
        "select count(*) from generate_series(1, 10000000) g where (repeat('a', 60) || g) ~ '^(a*)*(a*)*\\1\\2\\1$'",
        "select count(*) from (select repeat(g::text, 500) as r from generate_series(1, 100000000) g order by 1) x",
    ];
    for some in endless.chunks(AT_ONCE) {
        futures::future::join_all(some.iter().map(|sql| ends(&door, sql))).await;
    }
    door.is_recovered().await;
}

async fn ends(door: &Door, sql: &str) {
    let began = Instant::now();
    let reply = door.sql(sql).await;
    let took = began.elapsed();
    assert!(took < TIME + GRACE, "{sql}: {took:?}");
    let document = reply.json();
    // Disk space for what is sorted has an end too, and rows that came in time are rows.
    let ended = match reply.status {
        504 => true,
        400 => document["detail"].as_str().unwrap().contains("temp_file_limit"),
        200 => document["problem"]["status"] == 504 || document["truncated"] == "rows",
        _ => false,
    };
    let shown: String = document.to_string().chars().take(300).collect();
    assert!(ended, "{sql}: {} {shown}", reply.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_so_many_rows_and_bytes_and_no_more() {
    let door = Door::open().await;
    let before = peak(door.stack.pid("gateway").unwrap());
    let many = "select generate_series(1, 10000000) as n";
    let reply = door.sql(many).await.json();
    assert_eq!(
        (&reply["count"], &reply["truncated"]),
        (&json!(ROWS), &json!("rows"))
    );
    assert_eq!(reply["rows"].as_array().unwrap().len() as u64, ROWS);
    for format in ["csv", "ndjson"] {
        let reply = door.ask(format, json!({ "sql": many })).await;
        assert_eq!(reply.status, 200);
        assert!(reply.text.is_err(), "a part is taken for the whole");
        let asked = door.ask(format, json!({ "sql": many, "rows": 10 })).await;
        let lines = asked.text.unwrap().lines().count();
        assert_eq!(lines, if format == "csv" { 11 } else { 10 });
    }
    let exact = door
        .ask(
            "csv",
            json!({ "sql": "select generate_series(1, 10) as n", "rows": 10 }),
        )
        .await;
    assert_eq!(exact.text.unwrap().lines().count(), 11);
    let wide = door
        .sql("select repeat('x', 100000) from generate_series(1, 2000)")
        .await;
    let document: Value = wide.json();
    assert_eq!(document["truncated"], "bytes");
    assert!(wide.text.unwrap().len() < 65 << 20);
    let grown = peak(door.stack.pid("gateway").unwrap()) - before;
    assert!(grown < MEMORY, "the gateway has grown by {grown} bytes");
    door.is_recovered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_is_never_larger_than_a_row_may_be_and_columns_are_counted() {
    let door = Door::open().await;
    let before = peak(door.stack.pid("gateway").unwrap());
    for (size, statuses) in [
        (1_000_000_u64, &[200][..]),
        (1_100_000, &[422]),
        (100_000_000, &[422]),
        // PostgreSQL itself cannot write more than a gigabyte as JSON.
        (1_000_000_000, &[400, 422, 504]),
        (10_000_000_000, &[400]),
    ] {
        let reply = door.sql(&format!("select repeat('x', {size})")).await;
        assert!(
            statuses.contains(&reply.status),
            "{size}: {} {:?}",
            reply.status,
            reply.text.map(|t| t.len())
        );
    }
    // In the middle of an answer, it says so in the end.
    let late = door
        .sql("select repeat('x', case when n = 5000 then 2000000 else 100 end) from generate_series(1, 10000) n")
        .await
        .json();
    assert_eq!(
        (&late["truncated"], &late["problem"]["status"]),
        (&json!("problem"), &json!(422))
    );
    let columns = |n: usize| {
        let all: Vec<String> = (0..n).map(|at| format!("{at} as c{at}")).collect();
        format!("select {}", all.join(","))
    };
    assert_eq!(door.sql(&columns(256)).await.status, 200);
    assert_eq!(door.sql(&columns(1_600)).await.status, 400);
    let grown = peak(door.stack.pid("gateway").unwrap()) - before;
    assert!(grown < MEMORY, "the gateway has grown by {grown} bytes");
    door.is_recovered().await;
}

/// A client that asks for much and reads next to nothing.
async fn slow(door: &Door) -> TcpStream {
    let body = json!({ "sql": "select repeat('x', 1000) from generate_series(1, 60000)" }).to_string();
    let address = door
        .stack
        .env("GATEWAY_URL")
        .trim_start_matches("http://")
        .to_owned();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let head = format!(
        "POST /query HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        door.stack.env("GATEWAY_TOKEN"),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_byte_a_second_is_cut_off_and_its_place_is_free_again() {
    let door = Door::open().await;
    let began = Instant::now();
    let mut slow_ones = vec![];
    for _ in 0..AT_ONCE {
        slow_ones.push(slow(&door).await);
    }
    let crowded = door.sql("select 1").await;
    assert_eq!(
        (crowded.status, crowded.header("retry-after")),
        (503, "1"),
        "{crowded:?}"
    );
    let mut byte = [0];
    let freed = async {
        eventually_async("no session is left", TIME + GRACE, || async {
            (door.sessions().await == 0).then_some(())
        })
        .await;
    };
    let reading = async {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            for stream in &mut slow_ones {
                stream.read_exact(&mut byte).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = freed => {}
        () = reading => {}
    }
    assert!(
        began.elapsed() >= TIME,
        "nobody is cut off early: {:?}",
        began.elapsed()
    );
    door.is_recovered().await;
    // What is left of the answers is no whole one.
    for mut stream in slow_ones {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest).await;
        assert!(
            ended.is_err() || !rest.ends_with(b"0\r\n\r\n"),
            "a part is taken for the whole"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_takes_the_query_along() {
    let door = Door::open().await;
    let body =
        json!({ "sql": "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b" })
            .to_string();
    let address = door
        .stack
        .env("GATEWAY_URL")
        .trim_start_matches("http://")
        .to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /query HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        door.stack.env("GATEWAY_TOKEN"),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let running =
        "select count(*) from pg_stat_activity where usename = 'telltale_query' and state = 'active'";
    let admin = door.admin().await;
    eventually_async("it runs", GRACE, || async {
        let row = admin.query_one(running, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 1).then_some(())
    })
    .await;
    let left = Instant::now();
    drop(stream);
    eventually_async("it runs no more", TIME, || async {
        (door.sessions().await == 0).then_some(())
    })
    .await;
    assert!(left.elapsed() < TIME, "it is not its time that ended it");
    door.is_recovered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_away_is_asked_again() {
    let door = Door::open().await;
    let pid = door.stack.kill("postgres").unwrap();
    let away = door.sql("select 1").await;
    assert!([200, 503].contains(&away.status), "{away:?}");
    eventually_async("another is in its place", Duration::from_secs(60), || async {
        door.stack.pid("postgres").filter(|other| *other != pid)
    })
    .await;
    door.stack
        .ready("postgres", Duration::from_secs(60))
        .await
        .unwrap();
    eventually_async("it answers again", Duration::from_secs(60), || async {
        (door.sql("select 1").await.status == 200).then_some(())
    })
    .await;
    door.is_recovered().await;
}
