//! `telltale probe`: the health check of an image that has no other.
use super::exit::{self, Refused};
use crate::supervise;
use std::{io::Write as _, process::ExitCode};

const EXAMPLES: &str = "Examples:
  telltale probe http://127.0.0.1:9090/readyz
  telltale probe 'http://127.0.0.1:8222/healthz?js-enabled-only=true'    # a nats-server";

/// Ask a page of a server, and say by the exit code whether it answers 200
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Probe {
    /// The page; without TLS
    #[arg(value_name = "URL")]
    url: String,
}

impl Probe {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (address, path) = page(&self.url)
            .ok_or_else(|| Refused::usage(format!("`{}` is not http://HOST[:PORT]/PATH", self.url)))?;
        match (supervise::Probe::Page { address, path }).check().await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(seen) => {
                writeln!(std::io::stderr().lock(), "{seen}")?;
                Ok(ExitCode::from(exit::UNHEALTHY))
            }
        }
    }
}

/// Its host and port, and what is asked there.
fn page(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("http://")?;
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let named = |host: &str| !host.is_empty() && !host.contains(['@', '?', '#']);
    let port = |address: &str| {
        address
            .rsplit_once(':')
            .is_some_and(|(host, port)| named(host) && port.parse::<u16>().is_ok())
    };
    if port(host) {
        return Some((host.to_owned(), format!("/{path}")));
    }
    (named(host) && !host.contains(':')).then(|| (format!("{host}:80"), format!("/{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    #[test]
    fn a_page_is_a_host_a_port_and_a_path() {
        for (url, address, path) in [
            ("http://127.0.0.1:9090/readyz", "127.0.0.1:9090", "/readyz"),
            ("http://[::1]:1", "[::1]:1", "/"),
            ("http://nats/healthz?js=1", "nats:80", "/healthz?js=1"),
        ] {
            assert_eq!(page(url), Some((address.to_owned(), path.to_owned())), "{url}");
        }
        for bad in [
            "https://a/",
            "a:1",
            "http://",
            "http://:1/",
            "http://a:x/",
            "http://u@h/",
            "http://a/ b",
        ] {
            assert_eq!(page(bad), None, "{bad}");
        }
    }

    /// The exit code for a server that answers so, once.
    async fn probed(answer: &'static str) -> ExitCode {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let read = stream.read(&mut [0; 1024]).await.unwrap();
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (code, ()) = tokio::join!(Probe { url }.run(), serve);
        code.unwrap()
    }

    #[tokio::test]
    async fn only_an_answer_of_200_is_health() {
        let code = |code: ExitCode| format!("{code:?}");
        let healthy = probed("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok").await;
        assert_eq!(code(healthy), code(ExitCode::SUCCESS));
        let unhealthy = probed("HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\nno").await;
        assert_eq!(code(unhealthy), code(ExitCode::from(exit::UNHEALTHY)));
    }

    #[tokio::test]
    async fn nobody_there_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let code = Probe { url }.run().await.unwrap();
        assert_eq!(
            format!("{code:?}"),
            format!("{:?}", ExitCode::from(exit::UNHEALTHY))
        );
    }
}
