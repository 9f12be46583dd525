//! The side of commands.
use super::{Answer, Request, Status, shortened};
use crate::{commands::exit::Refused, stack::Layout};
use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
};

/// Nobody listens: no stack runs here.
#[derive(Debug, thiserror::Error)]
#[error("no stack runs in {dir}")]
pub struct Absent {
    dir: String,
}

/// A connection to the supervisor of a folder.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the supervisor of that stack.
    pub fn connect(layout: &Layout) -> Result<Self, Absent> {
        let stream = shortened(&layout.socket(), |path| UnixStream::connect(path));
        let stream = stream.map_err(|_| Absent {
            dir: layout.dir().display().to_string(),
        })?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks, and waits for the answer. A refusal is an error.
    pub fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match serde_json::from_str(&line)? {
            Answer::Refused(why) => Err(Refused::failed(why).into()),
            answer => Ok(answer),
        }
    }

    /// What runs.
    pub fn status(&mut self) -> anyhow::Result<Status> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(status),
            other => anyhow::bail!("the supervisor answered {other:?}"),
        }
    }

    /// Waits until the supervisor is gone.
    pub fn wait_for_end(mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink())?;
        Ok(())
    }
}
