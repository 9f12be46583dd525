//! Many things in one request: a description a line (NDJSON), and a line of the answer for each as soon as it is
//! known what came of it.
use super::things::told;
use crate::{
    app::App,
    auth::Caller,
    registry::{DESCRIPTION_MAX, Error},
};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use serde_json::{Value, json};
use telltale_runtime::web::{Problem, body};
use telltale_schemas::{strict, td};
use utoipa::ToSchema;

/// What such a request and its answer are.
pub(super) const LINES: &str = "application/x-ndjson";
/// Things registered at once. Their order in the answer is that of the request.
const AT_ONCE: usize = 16;

/// What came of a line, or of them all: a line of the answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CameOfLine)]
pub(crate) struct Told {
    /// Which, counted from 1.
    line: usize,
    /// As of a request of its own: 201, or that of a problem, whose `detail` and `errors` stand here too.
    status: u16,
    /// Of the description.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// Lines of a body that is still on its way.
struct Lines {
    body: Body,
    left: BytesMut,
    /// The last one that was given, counted from 1.
    number: usize,
    /// Nothing more comes.
    is_over: bool,
}

/// A line, or why there is none, and no more after it.
type Read = (usize, Result<Bytes, Problem>);

impl Lines {
    /// The next line with something in it.
    async fn next(&mut self) -> Option<Read> {
        loop {
            if let Some(end) = self.left.iter().position(|byte| *byte == b'\n') {
                let line = self.left.split_to(end + 1).freeze();
                self.number += 1;
                if !line.trim_ascii().is_empty() {
                    return Some((self.number, Ok(line)));
                }
                continue;
            }
            if self.is_over {
                let line = self.left.split().freeze();
                self.number += 1;
                return (!line.trim_ascii().is_empty()).then_some((self.number, Ok(line)));
            }
            match body::piece(&mut self.body).await {
                Ok(Some(_)) if self.left.len() > DESCRIPTION_MAX => return Some(self.end(too_long())),
                Ok(Some(piece)) => self.left.extend_from_slice(&piece),
                Ok(None) => self.is_over = true,
                Err(unread) => return Some(self.end(unread.into())),
            }
        }
    }

    fn end(&mut self, problem: Problem) -> Read {
        self.is_over = true;
        self.left.clear();
        (self.number + 1, Err(problem))
    }
}

fn too_long() -> Problem {
    let why = format!("the line has more than {DESCRIPTION_MAX} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why)
}

/// Registers the thing of each line. The answer begins when the first line is there.
pub(super) async fn create(app: App, caller: &Caller, body: Body) -> Result<Response, Problem> {
    let mut lines = Lines {
        body,
        left: BytesMut::new(),
        number: 0,
        is_over: false,
    };
    let first = match lines.next().await {
        None => return Err(Problem::bad_request("no description: send one a line")),
        Some((_, Err(problem))) => return Err(problem),
        Some(first) => first,
    };
    let rest = futures::stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((line, lines))
    });
    let lines = futures::stream::once(async { first }).chain(rest);
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(LINES))];
    let told = answer(app, caller.name().to_owned(), lines);
    Ok((kind, Body::from_stream(told)).into_response())
}

/// A line for each, and one that says how many there were: without it, the answer is not whole.
fn answer(
    app: App,
    by: String,
    lines: impl Stream<Item = Read> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
    let done = lines.map(move |(number, line)| {
        let (app, by) = (app.clone(), by.clone());
        async move {
            let done = match line {
                Ok(line) => register(&app, &by, &line).await,
                Err(problem) => Err(problem),
            };
            (number, done)
        }
    });
    let (mut created, mut refused) = (0_usize, 0_usize);
    let told = done.buffered(AT_ONCE).map(Some);
    let ended = futures::stream::once(async { None });
    told.chain(ended).map(move |done| {
        let told = match done {
            Some((line, Ok(id))) => {
                created += 1;
                let (status, id) = (StatusCode::CREATED.as_u16(), Some(id));
                json!(Told { line, status, id })
            }
            Some((line, Err(problem))) => {
                refused += 1;
                let mut told: Value = serde_json::from_slice(&problem.to_json()).unwrap_or_default();
                told["line"] = line.into();
                told
            }
            None => json!({ "created": created, "refused": refused }),
        };
        Ok(Bytes::from(format!("{told}\n")))
    })
}

/// The `id` of what was registered.
async fn register(app: &App, by: &str, line: &[u8]) -> Result<String, Problem> {
    if line.len() > DESCRIPTION_MAX {
        return Err(too_long());
    }
    let td = strict::parse(line, &td::LIMITS).map_err(|refusal| told(Error::Invalid(refusal.faults)))?;
    let written = app.registry().create(td, Some(by)).await.map_err(told)?;
    let td = written.found.entry.td.unwrap_or_default();
    Ok(td["id"].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(pieces: &[&'static str]) -> Vec<(usize, String)> {
        let pieces: Vec<_> = pieces.iter().copied().map(Ok::<_, std::io::Error>).collect();
        let mut lines = Lines {
            body: Body::from_stream(futures::stream::iter(pieces)),
            left: BytesMut::new(),
            number: 0,
            is_over: false,
        };
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().await {
            let text = line.map(|line| String::from_utf8_lossy(&line).trim().to_owned());
            all.push((number, text.unwrap_or_else(|problem| problem.detail().to_owned())));
        }
        all
    }

    #[tokio::test]
    async fn lines_are_found_however_they_come_and_numbered_as_an_editor_does() {
        let wanted = [
            (1, "{}".to_owned()),
            (3, "{\"a\":1}".to_owned()),
            (4, "x".to_owned()),
        ];
        for pieces in [
            &["{}\n\n{\"a\":1}\nx"][..],
            &["{", "}", "\n", "\r\n{\"a\"", ":1}\r", "\nx\n"],
            &["{}\n \n{\"a\":1}\nx\n", "\n", ""],
        ] {
            assert_eq!(lines(pieces).await, wanted, "{pieces:?}");
        }
        assert_eq!(lines(&[]).await, []);
    }

    #[tokio::test]
    async fn a_line_without_end_ends_it() {
        let long: &'static str = "x".repeat(DESCRIPTION_MAX + 1).leak();
        let all = lines(&["{}\n", long, "x", "\n{}\n"]).await;
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[1].0 == 2 && all[1].1.contains("more than"), "{all:?}");
    }
}
