//! How a process is known to serve.
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub enum Probe {
    /// It runs, and that is all we can know.
    Alive,
    /// nats-server greets.
    Greets(SocketAddr),
    /// `/readyz` answers 200.
    Http(SocketAddr),
    /// This page of a server answers 200.
    Page { address: String, path: String },
    /// PostgreSQL lets us in.
    Database(String),
}

impl Probe {
    /// `Err` says what was seen instead.
    pub async fn check(&self) -> Result<(), String> {
        let seen = match self {
            Self::Alive => return Ok(()),
            Self::Greets(at) => timeout(PATIENCE, greeting(*at)).await,
            Self::Http(at) => timeout(PATIENCE, fetch(&at.to_string(), "/readyz?verbose")).await,
            Self::Page { address, path } => timeout(PATIENCE, fetch(address, path)).await,
            Self::Database(url) => timeout(PATIENCE, enter(url)).await,
        };
        seen.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
    }
}

async fn greeting(at: SocketAddr) -> Result<(), String> {
    let stream = TcpStream::connect(at).await.map_err(|error| error.to_string())?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .await
        .map_err(|error| error.to_string())?;
    line.starts_with("INFO ")
        .then_some(())
        .ok_or_else(|| "it is no nats-server".to_owned())
}

async fn fetch(address: &str, path: &str) -> Result<(), String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    let mut stream = BufReader::new(stream);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    let limit = tokio::io::AsyncReadExt::take(&mut stream, 8 * 1024);
    tokio::io::AsyncReadExt::read_to_end(&mut { limit }, &mut text)
        .await
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    if text.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let body = text
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .trim()
        .replace('\n', "; ");
    Err(if body.is_empty() {
        "not ready".to_owned()
    } else {
        body
    })
}

async fn enter(url: &str) -> Result<(), String> {
    // The connection is never driven: that it was let in is all that we ask.
    match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
