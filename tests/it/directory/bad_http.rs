//! Requests that are wrong or hostile in their form: refused, or cut off, and the next one is served.
use super::site::{PATCH, Site, TD, lamp};
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Longer than any answer takes here, and than the time-out of headers.
const WITHIN: Duration = Duration::from_secs(15);

/// Longer than answers may stay unread.
const UNREAD: Duration = Duration::from_secs(23);

/// What comes back for those bytes until the other end closes, or has answered once.
fn raw(site: &Site, bytes: &[u8]) -> String {
    let mut line = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    line.set_read_timeout(Some(WITHIN)).unwrap();
    // The other end may have heard enough before the end.
    line.write_all(bytes).ok();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = line.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&answer);
        if text.contains("\r\n\r\n") && !text.contains("100 Continue") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Heads with the token; what is `{}` goes on after it.
fn head(site: &Site, line: &str, more: &str) -> Vec<u8> {
    let token = &site.token;
    format!(
        "{line} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Bearer {token}\r\n{more}",
        site.port
    )
    .into_bytes()
}

fn refused(site: &Site, what: &str, bytes: &[u8]) {
    let answer = raw(site, bytes);
    let status = status(&answer);
    assert!(
        status.is_none_or(|status| (400..500).contains(&status)),
        "{what}: {answer}"
    );
    assert_eq!(site.get("/things").status, 200, "{what}: and the next is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_heads_and_addresses_that_cannot_be_are_refused() {
    let site = Site::start().await;
    let td = lamp("urn:lamp:1").to_string();
    let post = |more: &str| {
        head(
            &site,
            "POST /things",
            &format!("content-type: application/td+json\r\n{more}"),
        )
    };
    refused(&site, "no length", &post("\r\n"));
    refused(
        &site,
        "two lengths",
        &post("content-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
    );
    refused(
        &site,
        "a length that is none",
        &post("content-length: x\r\n\r\n{}"),
    );
    refused(&site, "a negative length", &post("content-length: -1\r\n\r\n{}"));
    let both = post("transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n");
    refused(&site, "chunked, and a length", &both);
    refused(
        &site,
        "a chunk of no size",
        &post("transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    );
    refused(
        &site,
        "a folded header",
        &post("x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}"),
    );
    let many = (0..10_000).fold(String::new(), |all, n| all + &format!("x{n}: y\r\n"));
    refused(
        &site,
        "ten thousand headers",
        &head(&site, "GET /things", &format!("{many}\r\n")),
    );
    let long = format!("GET /things/{}", "a".repeat(1 << 20));
    refused(&site, "an endless address", &head(&site, &long, "\r\n"));
    for path in [
        "/things/%2e%2e%2fthings",
        "/things/a%00b",
        "/things/%ff",
        "/things/../things",
        "/%2e%2e/etc/passwd",
    ] {
        refused(&site, path, &head(&site, &format!("GET {path}"), "\r\n"));
    }
    refused(&site, "no host", b"GET /things HTTP/1.1\r\n\r\n");
    let short = post(&format!("content-length: {}\r\n\r\n{td}", td.len() - 1));
    refused(&site, "less than the whole", &short);
    assert_eq!(site.get("/things").text, "[]", "none of them was taken");
}

/// Asks for a page so often that the answers fit nowhere, reads none of them, and comes back when it is given up.
fn deaf(site: &Site) {
    let mut line = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    let ask = head(site, "GET /openapi.json", "\r\n");
    line.write_all(&ask.repeat(500)).unwrap();
    // What is still on its way when the other end leaves comes all the same: only time shows that it has left.
    std::thread::park_timeout(UNREAD);
    line.set_read_timeout(Some(WITHIN / 3)).unwrap();
    let (mut piece, mut read) = (vec![0; 1 << 16], 0);
    let end = loop {
        match line.read(&mut piece) {
            Ok(0) => break None,
            Ok(count) => read += count,
            Err(error) => break Some(error.kind()),
        }
    };
    assert!(
        matches!(end, None | Some(ErrorKind::ConnectionReset)),
        "{end:?} after {read} bytes: it is still served"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_slow_to_ask_or_does_not_read_the_answer_is_let_go() {
    let site = Site::start().await;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            let answer = raw(&site, b"GET /things HTTP/1.1\r\nhost: x");
            assert!(began.elapsed() < WITHIN, "{answer}");
            assert!(status(&answer).is_none_or(|status| status == 408), "{answer}");
        });
        scope.spawn(|| {
            let began = Instant::now();
            let more = "content-type: application/td+json\r\ncontent-length: 100\r\n\r\n{";
            let answer = raw(&site, &head(&site, "POST /things", more));
            assert!(began.elapsed() < WITHIN, "{answer}");
            assert_eq!(status(&answer), Some(408), "{answer}");
        });
        scope.spawn(|| deaf(&site));
    });
    assert_eq!(site.get("/things").text, "[]", "and others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_packed_of_another_kind_or_too_large_are_refused() {
    let site = Site::start().await;
    let td = lamp("urn:lamp:1");
    let bomb = vec![0_u8; 64];
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, gzip", "identity"] {
        let headers = [TD, ("content-encoding", encoding)];
        let answer = site.http.post("/things", &headers, &bomb).unwrap();
        assert_eq!(answer.status, 415, "{encoding}");
        assert_eq!(answer.content_type, "application/problem+json");
    }
    for kind in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/td+json; charset=utf-7",
        "application/x-www-form-urlencoded",
        "",
    ] {
        let answer = site.send("POST", "/things", &[("content-type", kind)], &td);
        assert_eq!(answer.status, 415, "{kind}");
    }
    assert_eq!(site.send("POST", "/things", &[], &td).status, 415);
    let mut large = td.clone();
    large["description"] = "x".repeat(600 << 10).into();
    let answer = site.post(&large);
    assert_eq!(
        (answer.status, &*answer.content_type),
        (413, "application/problem+json")
    );
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let double = td
        .to_string()
        .replacen("\"title\"", "\"title\":\"x\",\"title\"", 1);
    let number = r#"{"title": 1e400}"#.to_owned();
    for (wrong, what) in [
        (deep, "deep"),
        (double, "double"),
        (number, "number"),
        ("\u{feff}{}".into(), "mark"),
        (String::new(), "nothing"),
        ("{} {}".into(), "two"),
    ] {
        let answer = site.http.post("/things", &[TD], wrong.as_bytes()).unwrap();
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert!(answer.body["errors"][0]["message"].is_string(), "{what}");
    }
    assert_eq!(site.http.post("/things", &[TD], b"\"\xff\"").unwrap().status, 400);
    assert_eq!(site.get("/things").text, "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_cannot_make_a_browser_ask() {
    let site = Site::start().await;
    let get = |more: &str| {
        let token = &site.token;
        let text = format!("GET /things HTTP/1.1\r\n{more}authorization: Bearer {token}\r\n\r\n");
        status(&raw(&site, text.as_bytes()))
    };
    let port = site.port;
    assert_eq!(get(&format!("host: localhost:{port}\r\n")), Some(200));
    assert_eq!(get(&format!("host: evil.example:{port}\r\n")), Some(421));
    assert_eq!(get("host: 127.0.0.1.evil.example\r\n"), Some(421));
    assert_eq!(get("host: localhost\r\nhost: localhost\r\n"), Some(400));
    let from = |origin: &str| get(&format!("host: localhost:{port}\r\norigin: {origin}\r\n"));
    assert_eq!(from(&format!("http://localhost:{port}")), Some(200));
    for origin in [
        "http://evil.example",
        "null",
        "http://localhost:1",
        "https://localhost",
    ] {
        assert_eq!(from(origin), Some(403), "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thing_of_another_site_is_not_there_whatever_names_it() {
    let site = Site::start().await;
    for id in [
        "elsewhere",
        "urn:lamp:elsewhere",
        "thing.other.x",
        "*",
        "a%2Eb",
        "%3E",
        "_pack",
    ] {
        for (method, headers, body) in [
            ("GET", &[][..], Value::Null),
            ("PATCH", &[PATCH][..], json!({})),
            ("DELETE", &[][..], Value::Null),
        ] {
            let answer = site.send(method, &format!("/things/{id}"), headers, &body);
            assert_eq!(answer.status, 404, "{method} {id}: {answer:?}");
        }
    }
}
