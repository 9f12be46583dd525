//! A page of history as a document, row by row.
use super::cursor::Cursor;
use crate::sql::{
    Lease, Pools, Trouble,
    media::Format,
    pour::{self, Ask, Ended, Param, Writer},
};
use axum::{
    http::{HeaderValue, Uri, header},
    response::Response,
};
use serde::Serialize;
use serde_json::Value;
use std::{marker::PhantomData, time::Duration};
use telltale_runtime::web::Problem;
use telltale_schemas::text::csv_cell;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Row, types::ToSql};

/// One element of a page.
pub(super) trait Item: Serialize + Sized + Send + 'static {
    /// What the list is called.
    const LIST: &'static str;
    /// Names of the columns in CSV.
    const COLUMNS: &'static [&'static str];
    /// From a row of its statement.
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error>;
    /// A cell for each column.
    fn cells(&self) -> Vec<String>;
    /// As resolved records of SenML, where it has such a form.
    fn senml(&self) -> Vec<Value> {
        Vec::new()
    }
}

/// Writes a page.
struct Page<I> {
    format: Format,
    next: Option<String>,
    written: u64,
    items: PhantomData<fn() -> I>,
}

impl<I: Item> Page<I> {
    fn write(&mut self, item: &I, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => self.element(item, out),
            Format::Senml => {
                for record in item.senml() {
                    self.element(&record, out);
                }
            }
            Format::Ndjson => {
                out.extend_from_slice(&json(item));
                out.push(b'\n');
            }
            Format::Csv => line(item.cells().iter().map(String::as_str), out),
        }
    }

    fn element(&mut self, element: &impl Serialize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.written > 0 { b",\n" } else { b"\n" });
        out.extend_from_slice(&json(element));
        self.written += 1;
    }
}

impl<I: Item> Writer for Page<I> {
    fn media(&self) -> &'static str {
        self.format.media()
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => out.extend_from_slice(format!("{{\"{}\":[", I::LIST).as_bytes()),
            Format::Senml => out.push(b'['),
            Format::Ndjson => {}
            Format::Csv => line(I::COLUMNS.iter().copied(), out),
        }
    }

    fn row(&mut self, row: &Row, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let item = I::of(row).map_err(|error| Trouble::Row(error.to_string()))?;
        self.write(&item, out);
        Ok(())
    }

    fn end(&mut self, ended: &Ended<'_>, out: &mut Vec<u8>) -> bool {
        match self.format {
            Format::Json => {
                out.extend_from_slice(b"\n]");
                if let Some(next) = &self.next {
                    out.extend_from_slice(format!(",\"next\":\"{next}\"").as_bytes());
                }
                out.extend_from_slice(b"}\n");
            }
            Format::Senml => out.extend_from_slice(b"\n]\n"),
            Format::Ndjson | Format::Csv => {}
        }
        matches!(ended, Ended::Whole)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own documents can be written as JSON")
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(csv_cell(cell).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// One visit to the history: a session, and the time that is left.
pub(super) struct Visit {
    lease: Lease,
    until: Instant,
    time: Duration,
}

impl Visit {
    /// Takes a place.
    pub(super) async fn begin(pools: &Pools) -> Result<Self, Problem> {
        let time = pools.limits.time;
        let until = Instant::now() + time;
        let lease = pools.history.lease().await.map_err(|trouble| trouble.to_ours())?;
        Ok(Self { lease, until, time })
    }

    /// The first row of a statement, if there is one.
    pub(super) async fn first(self, sql: &str, params: &[Param]) -> Result<(Self, Option<Row>), Problem> {
        let client = &self.lease.session.client;
        let asked = timeout_at(self.until, async {
            let statement = client.prepare(sql).await?;
            let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(as_param).collect();
            client.query_opt(&statement, &params).await
        });
        match asked.await {
            Ok(Ok(row)) => Ok((self, row)),
            Ok(Err(error)) => {
                let problem = self.lease.session.blame(error).to_ours();
                self.lease.give_back().await;
                Err(problem)
            }
            Err(_) => {
                self.lease.cut().await;
                Err(Trouble::Late(self.time).to_ours())
            }
        }
    }

    /// Ends it.
    pub(super) async fn end(self) {
        self.lease.give_back().await;
    }

    /// All rows of a statement as a page.
    pub(super) async fn page<I: Item>(
        self,
        sql: &str,
        params: Vec<Param>,
        format: Format,
        next: Option<&Cursor>,
        uri: &Uri,
    ) -> Result<Response, Problem> {
        let prepared = timeout_at(self.until, self.lease.session.client.prepare(sql)).await;
        let statement = match prepared {
            Ok(Ok(statement)) => statement,
            Ok(Err(error)) => {
                let problem = self.lease.session.blame(error).to_ours();
                self.lease.give_back().await;
                return Err(problem);
            }
            Err(_) => {
                self.lease.cut().await;
                return Err(Trouble::Late(self.time).to_ours());
            }
        };
        let next = next.map(Cursor::write);
        let page = Page::<I> {
            format,
            next: next.clone(),
            written: 0,
            items: PhantomData,
        };
        let ask = Ask {
            statement,
            params,
            rows_max: u64::MAX,
            bytes_max: u64::MAX,
            until: self.until,
            time: self.time,
        };
        let poured = pour::pour(self.lease, ask, page).await;
        let mut response = poured.map_err(|trouble| trouble.to_ours())?;
        if let Some(link) = next.and_then(|next| HeaderValue::from_str(&link(uri, &next)).ok()) {
            response.headers_mut().insert(header::LINK, link);
        }
        Ok(response)
    }
}

fn as_param(param: &Param) -> &(dyn ToSql + Sync) {
    &**param
}

/// The same question, from another place on.
fn link(uri: &Uri, next: &str) -> String {
    let pairs = uri.query().unwrap_or_default().split('&');
    let kept = pairs.filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let query = kept.fold(String::new(), |query, pair| query + pair + "&");
    format!("<{}?{query}cursor={next}>; rel=\"next\"", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_same_question_from_another_place_on() {
        for (uri, expected) in [
            ("/readings", "</readings?cursor=c>; rel=\"next\""),
            (
                "/things/a%2Fb/readings?name=x&cursor=old&limit=5",
                "</things/a%2Fb/readings?name=x&limit=5&cursor=c>; rel=\"next\"",
            ),
        ] {
            assert_eq!(link(&uri.parse().unwrap(), "c"), expected);
        }
    }
}
