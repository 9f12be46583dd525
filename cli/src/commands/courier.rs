//! Posts readings to the bridge over a connection that is kept, again and again until they are accepted.
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rand::Rng as _;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpStream, task::JoinSet, time};
use tokio_util::sync::CancellationToken;

/// Between two attempts at most.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The bridge answers once the broker has it on disk; longer means that it went astray.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// An answer is an id or a problem.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where readings are posted to, and with which token.
#[derive(Clone)]
pub struct Bridge(Arc<Inner>);

struct Inner {
    host: String,
    port: u16,
    base: String,
    token: String,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge")
            .field("host", &self.0.host)
            .field("port", &self.0.port)
            .finish_non_exhaustive()
    }
}

impl Bridge {
    /// From `http://host:port[/base]` and a device's token.
    pub fn new(url: &str, token: &str) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("`{url}` is no address of a bridge: it begins with `http://`");
        };
        let (authority, base) = rest
            .split_once('/')
            .map_or((rest, ""), |(authority, base)| (authority, base));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (
                host,
                port.parse()
                    .with_context(|| format!("read the port of `{url}`"))?,
            ),
            None => (authority, 80),
        };
        let base = base.trim_end_matches('/');
        Ok(Self(Arc::new(Inner {
            host: host.to_owned(),
            port,
            base: if base.is_empty() {
                String::new()
            } else {
                format!("/{base}")
            },
            token: token.to_owned(),
        })))
    }
}

/// One reading to post.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Whose reading.
    pub thing: String,
    /// Names it for ever, so that a second delivery is the same reading; none lets the bridge make an id.
    pub key: Option<String>,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: Bytes,
}

/// What became of a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It is kept, under this id.
    Accepted(String),
    /// It never will be.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the bridge says.
        problem: String,
    },
    /// We were told to stop while the bridge did not take it.
    Stopped,
}

/// One connection, made when it is needed.
#[derive(Debug)]
pub struct Courier {
    bridge: Bridge,
    line: Option<http1::SendRequest<Full<Bytes>>>,
    driver: JoinSet<()>,
    /// How often something had to be sent again.
    pub resent: u64,
}

enum Answer {
    Final(Receipt),
    Later(Option<Duration>),
}

impl Courier {
    /// A courier to that bridge; connects with its first parcel.
    pub fn new(bridge: Bridge) -> Self {
        Self {
            bridge,
            line: None,
            driver: JoinSet::new(),
            resent: 0,
        }
    }

    /// Posts until it is accepted or refused for good. Once `stop` is cancelled, no further attempt is begun.
    pub async fn deliver(&mut self, parcel: &Parcel, stop: &CancellationToken) -> Receipt {
        let mut pause = Duration::from_millis(50);
        loop {
            let wait = match self.attempt(parcel).await {
                Ok(Answer::Final(receipt)) => return receipt,
                Ok(Answer::Later(wait)) => wait,
                Err(error) => {
                    tracing::debug!("the bridge did not answer: {error:#}");
                    self.line = None;
                    None
                }
            };
            self.resent += 1;
            let jitter = rand::rng().random_range(0.5..1.0);
            let wait = wait.unwrap_or_else(|| pause.mul_f64(jitter)).min(PAUSE_MAX);
            pause = (pause * 2).min(PAUSE_MAX);
            tokio::select! {
                () = time::sleep(wait) => {}
                () = stop.cancelled() => return Receipt::Stopped,
            }
        }
    }

    /// Posts once.
    pub async fn once(&mut self, parcel: &Parcel) -> anyhow::Result<Receipt> {
        match self.attempt(parcel).await? {
            Answer::Final(receipt) => Ok(receipt),
            Answer::Later(_) => bail!("the bridge takes nothing at the moment"),
        }
    }

    async fn attempt(&mut self, parcel: &Parcel) -> anyhow::Result<Answer> {
        let request = self.request(parcel)?;
        let line = self.line().await?;
        let exchange = async {
            let response = line.send_request(request).await?;
            let status = response.status().as_u16();
            let wait = response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|wait| wait.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            Ok::<_, anyhow::Error>((status, wait.map(Duration::from_secs), body))
        };
        let (status, wait, body) = time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .context("no answer in 30 s")??;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(match status {
            200..300 => Answer::Final(Receipt::Accepted(
                answer["id"].as_str().unwrap_or_default().to_owned(),
            )),
            408 | 429 | 500.. => Answer::Later(wait),
            _ => {
                let problem = answer["detail"]
                    .as_str()
                    .or(answer["title"].as_str())
                    .unwrap_or("no reason given");
                Answer::Final(Receipt::Refused {
                    status,
                    problem: problem.to_owned(),
                })
            }
        })
    }

    fn request(&self, parcel: &Parcel) -> anyhow::Result<Request<Full<Bytes>>> {
        let Inner {
            host,
            port,
            base,
            token,
        } = &*self.bridge.0;
        let mut request = Request::post(format!("{base}/things/{}/readings", path_segment(&parcel.thing)))
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, parcel.content_type);
        if let Some(key) = &parcel.key {
            request = request.header("idempotency-key", key);
        }
        request
            .body(Full::new(parcel.body.clone()))
            .context("make the request")
    }

    async fn line(&mut self) -> anyhow::Result<&mut http1::SendRequest<Full<Bytes>>> {
        let usable = match &mut self.line {
            Some(line) => line.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.driver.abort_all();
            let Inner { host, port, .. } = &*self.bridge.0;
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .context("connect to the bridge")?;
            stream.set_nodelay(true).context("set up the connection")?;
            let (line, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .context("greet the bridge")?;
            self.driver.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the bridge ended");
                }
            });
            self.line = Some(line);
        }
        self.line.as_mut().context("the connection was just made")
    }
}

/// A name as one segment of a path (RFC 3986 §3.3).
pub fn path_segment(name: &str) -> String {
    use std::fmt::Write as _;
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(byte.into());
        } else {
            let _infallible = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(path_segment("urn:dev/1 ü"), "urn%3Adev%2F1%20%C3%BC");
    }

    #[test]
    fn an_address_is_read_and_the_token_is_not_shown() {
        let bridge = Bridge::new("http://127.0.0.1:8080/base/", "gateway.secret").unwrap();
        assert_eq!((bridge.0.port, bridge.0.base.as_str()), (8080, "/base"));
        assert!(!format!("{bridge:?}").contains("secret"));
        assert!(Bridge::new("localhost:8080", "").is_err());
    }

    #[tokio::test]
    async fn it_is_sent_again_until_it_is_accepted() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = async {
            let answers: [&[u8]; 3] = [
                b"",
                b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
                b"HTTP/1.1 202 Accepted\r\ncontent-length: 12\r\n\r\n{\"id\":\"t:1\"}",
            ];
            let (mut first, _) = listener.accept().await.unwrap();
            first.write_all(answers[0]).await.unwrap();
            drop(first);
            let (mut kept, _) = listener.accept().await.unwrap();
            for answer in &answers[1..] {
                let mut buffer = [0; 4096];
                let mut text = String::new();
                while !text.ends_with("{}") {
                    let n = kept.read(&mut buffer).await.unwrap();
                    text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
                }
                assert!(text.starts_with("POST /things/t/readings HTTP/1.1\r\n"), "{text}");
                assert!(text.contains("idempotency-key: 1\r\n"), "{text}");
                kept.write_all(answer).await.unwrap();
            }
        };
        let parcel = Parcel {
            thing: "t".into(),
            key: Some("1".into()),
            content_type: "application/json",
            body: Bytes::from_static(b"{}"),
        };
        let mut courier = Courier::new(Bridge::new(&url, "t.s").unwrap());
        let stop = CancellationToken::new();
        let deliver = courier.deliver(&parcel, &stop);
        let (receipt, ()) = time::timeout(Duration::from_secs(10), async { tokio::join!(deliver, server) })
            .await
            .unwrap();
        assert_eq!(receipt, Receipt::Accepted("t:1".into()));
        assert_eq!(courier.resent, 2);
    }
}
