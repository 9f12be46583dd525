//! Bodies: read within a limit and a time, and refused in such a way that the client sees the answer.
use super::Problem;
use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tracing::debug;

/// A body must arrive within this time…
const TIMEOUT: Duration = Duration::from_secs(30);
/// …and each piece of it within this.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a refused body is read, so that the client sees the answer and not a broken connection.
const REFUSED_MAX: usize = 1024 * 1024;
/// And for how long.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// More bytes than the limit.
    TooLarge(usize),
    /// The connection broke off, or its framing is wrong.
    BrokeOff,
    /// It did not come in time.
    Late,
}

impl From<Unread> for Problem {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge(limit) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body has more than {limit} bytes"),
            ),
            Unread::BrokeOff => Self::bad_request("the body broke off"),
            Unread::Late => Self::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
        }
    }
}

/// What `Content-Length` announces, 0 without it; hyper has refused what is no number.
pub fn length(headers: &HeaderMap) -> usize {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Reads a body of at most `limit` bytes.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Unread> {
    let whole = async {
        let (mut body, mut whole) = (body, BytesMut::new());
        while let Some(piece) = piece(&mut body).await? {
            if whole.len() + piece.len() > limit {
                return Err(Unread::TooLarge(limit));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    };
    let read = tokio::time::timeout(TIMEOUT, whole).await;
    read.unwrap_or(Err(Unread::Late))
}

/// The next piece of a body that may be without end; `None` after the last.
pub async fn piece(body: &mut Body) -> Result<Option<Bytes>, Unread> {
    loop {
        let frame = tokio::time::timeout(PIECE_TIMEOUT, body.frame()).await;
        match frame.map_err(|_| Unread::Late)? {
            None => return Ok(None),
            Some(Err(_)) => return Err(Unread::BrokeOff),
            // What is no data are trailers.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Refuses, after the body that is still on its way: closing on a client that writes would cost it the answer.
pub async fn refuse(body: Body, problem: Problem) -> Response {
    run_off(body).await;
    problem.into_response()
}

/// Reads what is left of a body, within reason, and forgets it.
async fn run_off<B>(body: B)
where
    B: HttpBody,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let rest = Limited::new(body, REFUSED_MAX);
    let mut rest = std::pin::pin!(rest);
    let drained = async { while let Some(Ok(_)) = rest.frame().await {} };
    if tokio::time::timeout(REFUSED_TIMEOUT, drained).await.is_err() {
        debug!("a refused body did not end");
    }
}

/// The refusal of a body that is packed: none is unpacked here, so that none can be larger inside than outside.
pub fn encoded() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "a body is taken as it is, without Content-Encoding",
    )
}

/// A layer: whatever refuses a request inside, the rest of its body is read before the answer goes, as by
/// [`refuse`]. A body with a `Content-Encoding` is refused here: nothing inside unpacks one.
pub async fn drain(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return refuse(body, encoded()).await;
    }
    let shared = Shared(Arc::new(Mutex::new(body)));
    let request = Request::from_parts(head, Body::new(shared.clone()));
    let response = next.run(request).await;
    // Whoever was too slow has been waited for.
    let is_late = response.status() == StatusCode::REQUEST_TIMEOUT;
    if !response.status().is_success() && !is_late && !shared.is_end_stream() {
        run_off(shared).await;
    }
    response
}

/// An answer that is still being made breaks off when `over` is: it has no end then, so that nobody takes it for the
/// whole. One that is whole already goes as it is.
pub fn until(response: Response, over: impl Future<Output = ()> + Send + 'static) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let over = Box::pin(over);
    response.map(|body| Body::new(Until { body, over }))
}

struct Until<F> {
    body: Body,
    over: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> HttpBody for Until<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new("it may not go on"))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that can be read on by another, once its first reader has enough.
#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Body>>);

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_to_its_limit_and_no_further() {
        assert_eq!(read(Body::from("abc"), 3).await.unwrap(), "abc");
        assert_eq!(read(Body::from("abcd"), 3).await, Err(Unread::TooLarge(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_or_trickles_is_not_waited_for() {
        let pending = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let began = tokio::time::Instant::now();
        assert_eq!(read(pending(), 9).await, Err(Unread::Late));
        assert_eq!(began.elapsed(), PIECE_TIMEOUT);
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(PIECE_TIMEOUT / 2).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        let began = tokio::time::Instant::now();
        assert_eq!(read(Body::from_stream(drops), 99).await, Err(Unread::Late));
        assert_eq!(began.elapsed(), TIMEOUT);
    }

    #[tokio::test]
    async fn an_answer_under_way_breaks_off_and_a_whole_one_does_not() {
        let whole = until(Response::new(Body::from("abc")), async {});
        assert_eq!(read(whole.into_body(), 9).await.unwrap(), "abc");
        let endless = || Body::from_stream(futures::stream::repeat(Ok::<_, std::convert::Infallible>("abc")));
        let mut body = until(Response::new(endless()), std::future::pending()).into_body();
        assert_eq!(piece(&mut body).await.unwrap().unwrap(), "abc");
        let body = until(Response::new(endless()), async {}).into_body();
        assert_eq!(read(body, 9).await, Err(Unread::BrokeOff));
    }

    #[tokio::test]
    async fn what_one_reader_leaves_another_reads() {
        let mut first = Shared(Arc::new(Mutex::new(Body::from("abc"))));
        let second = first.clone();
        assert!(!second.is_end_stream());
        assert!(first.frame().await.is_some());
        assert!(second.is_end_stream());
    }
}
