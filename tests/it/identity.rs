//! Identity: who may come in, and as whom.
#![expect(clippy::unwrap_used, reason = "a test may panic; so may what it is made of")]
mod credentials;
mod life;
mod people;
mod refusals;

use crate::bridging::site::Site;
use serde_json::Value;
use std::{net::Ipv4Addr, time::Duration};
use telltale_nats::Name;
use telltale_runtime::identity::issue::{self, Issued, Wish};
use telltale_tests::eventually_async;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

const WITHIN: Duration = Duration::from_secs(10);
const JSON: (&str, &str) = ("content-type", "application/json");
const OWN: &str = "/things/lamp/readings";

/// A new secret, as the command line and the gateway give it.
async fn rotated(site: &Site, device: &str, wish: Wish) -> Issued {
    let store = issue::bucket(&site.broker.context().await).await.unwrap();
    let wish = Wish { rotate: true, ..wish };
    issue::change(&store, &Name::new(device).unwrap(), &wish)
        .await
        .unwrap()
}

async fn revoked(site: &Site, device: &str) -> bool {
    let store = issue::bucket(&site.broker.context().await).await.unwrap();
    issue::revoke(&store, &Name::new(device).unwrap()).await.unwrap()
}

/// Waits until posts with that token have that status.
async fn until(site: &Site, token: &str, status: u16) {
    let what = format!("{status} for {token}");
    eventually_async(&what, WITHIN, || async {
        let answer = site.post(OWN, Some(token), &[JSON], "{}").await;
        (answer.status == status).then_some(())
    })
    .await;
}

/// A connection for HTTP, kept open, from an address of this machine.
struct Line(TcpStream);

impl Line {
    async fn from(site: &Site, address: Ipv4Addr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        Self(socket.connect(site.http().into()).await.unwrap())
    }

    /// The status of a post with that token, over the same connection as the ones before.
    async fn post(&mut self, path: &str, token: &str) -> u16 {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bridge\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let (head, length) = loop {
            assert!(
                self.0.read_buf(&mut answer).await.unwrap() > 0,
                "the connection is open"
            );
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let length = head
                    .to_ascii_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok())
                    .unwrap();
                break (head.to_owned(), length);
            }
        };
        while answer.len() < head.len() + 4 + length {
            assert!(self.0.read_buf(&mut answer).await.unwrap() > 0, "the body comes");
        }
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// The bridge's refusals by protocol and reason.
async fn refusals(site: &Site, protocol: &str, reason: &str) -> u64 {
    let url = site.url("/metrics");
    let get = move || {
        ureq::get(&url)
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap()
    };
    let text = tokio::task::spawn_blocking(get).await.unwrap();
    let wanted = format!("telltale_bridge_refused_total{{protocol=\"{protocol}\",reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&wanted));
    line.map_or(0, |count| count.parse().unwrap())
}

/// The documents on a stream whose subjects end so, with their subjects.
async fn documents(site: &Site, stream: &str, end: &str) -> Vec<(String, Value)> {
    let messages = site.messages(stream).await;
    messages
        .iter()
        .filter(|message| message.subject.ends_with(end))
        .map(|message| {
            let document = serde_json::from_slice(&message.payload).unwrap();
            (message.subject.to_string(), document)
        })
        .collect()
}
