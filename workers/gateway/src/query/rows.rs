//! Rows whose cells are JSON texts, as JSON, NDJSON or CSV.
use crate::sql::{
    Trouble,
    media::Format,
    pour::{Cut, Ended, Writer},
};
use serde_json::{Value, json};
use telltale_schemas::text::csv_cell;
use tokio_postgres::Row;

/// A column of an answer.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// PostgreSQL's name of its type.
    pub(super) kind: String,
}

/// Writes what a query found.
#[derive(Debug)]
pub(super) struct Rows {
    format: Format,
    columns: Vec<Column>,
    /// The name of each column as JSON, with a colon.
    keys: Vec<String>,
    written: u64,
    /// Whether so many rows were asked for: then there is nothing wrong with there being more.
    is_asked: bool,
    sql: String,
}

impl Rows {
    pub(super) fn new(format: Format, columns: Vec<Column>, is_asked: bool, sql: &str) -> Self {
        let keys = columns
            .iter()
            .map(|column| format!("{}:", Value::from(column.name.as_str())));
        Self {
            keys: keys.collect(),
            format,
            columns,
            written: 0,
            is_asked,
            sql: sql.to_owned(),
        }
    }

    fn cells<'a>(&self, row: &'a Row) -> Result<Vec<&'a str>, Trouble> {
        (0..self.columns.len())
            .map(|at| {
                row.try_get::<_, Option<&str>>(at)
                    .map(|cell| cell.unwrap_or("null"))
                    .map_err(|error| Trouble::Row(error.to_string()))
            })
            .collect()
    }

    fn write(&mut self, cells: &[&str], out: &mut Vec<u8>) {
        match self.format {
            Format::Ndjson => {
                out.push(b'{');
                for (at, (key, cell)) in self.keys.iter().zip(cells).enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key.as_bytes());
                    flat(cell, out);
                }
                out.extend_from_slice(b"}\n");
            }
            Format::Csv => line(cells.iter().map(|cell| plain(cell)), out),
            Format::Json | Format::Senml => {
                out.extend_from_slice(if self.written > 0 { b",\n[" } else { b"\n[" });
                for (at, cell) in cells.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    flat(cell, out);
                }
                out.push(b']');
            }
        }
        self.written += 1;
    }
}

impl Writer for Rows {
    fn media(&self) -> &'static str {
        self.format.media()
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        match self.format {
            Format::Ndjson => {}
            Format::Csv => line(self.columns.iter().map(|column| column.name.clone()), out),
            Format::Json | Format::Senml => {
                let columns = self.columns.iter();
                let columns: Vec<Value> = columns
                    .map(|column| json!({ "name": column.name, "type": column.kind }))
                    .collect();
                out.extend_from_slice(
                    format!("{{\"columns\":{},\"rows\":[", Value::from(columns)).as_bytes(),
                );
            }
        }
    }

    fn row(&mut self, row: &Row, out: &mut Vec<u8>) -> Result<(), Trouble> {
        let cells = self.cells(row)?;
        self.write(&cells, out);
        Ok(())
    }

    fn end(&mut self, ended: &Ended<'_>, out: &mut Vec<u8>) -> bool {
        if self.format != Format::Json {
            // These have no place for a word in the end: what is not whole breaks off.
            return match ended {
                Ended::Whole => true,
                Ended::Cut(Cut::Rows) => self.is_asked,
                Ended::Cut(Cut::Bytes) | Ended::Failed(_) => false,
            };
        }
        out.extend_from_slice(format!("\n],\"count\":{}", self.written).as_bytes());
        let truncated = match ended {
            Ended::Whole => Value::from(false),
            Ended::Cut(Cut::Rows) => Value::from("rows"),
            Ended::Cut(Cut::Bytes) => Value::from("bytes"),
            Ended::Failed(_) => Value::from("problem"),
        };
        out.extend_from_slice(format!(",\"truncated\":{truncated}").as_bytes());
        if let Ended::Failed(trouble) = ended {
            out.extend_from_slice(b",\"problem\":");
            out.extend_from_slice(&trouble.to_theirs(&self.sql, super::BEFORE.len()).to_json());
        }
        out.extend_from_slice(b"}\n");
        true
    }
}

/// JSON on one line: PostgreSQL breaks lines in some of its own.
fn flat(cell: &str, out: &mut Vec<u8>) {
    if cell.contains('\n') {
        // Line breaks inside strings are escaped, so what is left stands between tokens.
        out.extend(cell.bytes().filter(|byte| *byte != b'\n'));
    } else {
        out.extend_from_slice(cell.as_bytes());
    }
}

/// A cell for people: texts without quotes, nothing for null.
fn plain(cell: &str) -> String {
    match cell.as_bytes().first() {
        Some(b'"') => serde_json::from_str(cell).unwrap_or_else(|_| cell.to_owned()),
        _ if cell == "null" => String::new(),
        _ => cell.to_owned(),
    }
}

fn line(cells: impl Iterator<Item = String>, out: &mut Vec<u8>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(csv_cell(&cell).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, ended: &Ended<'_>) -> (String, bool) {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: "text".to_owned(),
        };
        let mut rows = Rows::new(format, vec![column("a"), column("b \"c\"")], false, "select");
        let mut out = Vec::new();
        rows.begin(&mut out);
        rows.write(&["1.5", "\"x,\\ny\""], &mut out);
        rows.write(&["null", "{\"k\":\n [1]}"], &mut out);
        let is_whole = rows.end(ended, &mut out);
        (String::from_utf8(out).unwrap(), is_whole)
    }

    #[test]
    fn each_format_has_the_same_rows() {
        let (text, is_whole) = written(Format::Json, &Ended::Whole);
        let document: Value = serde_json::from_str(&text).unwrap();
        assert!(is_whole);
        assert_eq!(document["rows"], json!([[1.5, "x,\ny"], [null, { "k": [1] }]]));
        assert_eq!(document["columns"][1]["name"], "b \"c\"");
        assert_eq!(
            (&document["count"], &document["truncated"]),
            (&json!(2), &json!(false))
        );
        assert_eq!(
            written(Format::Ndjson, &Ended::Whole),
            (
                "{\"a\":1.5,\"b \\\"c\\\"\":\"x,\\ny\"}\n{\"a\":null,\"b \\\"c\\\"\":{\"k\": [1]}}\n"
                    .to_owned(),
                true
            )
        );
        assert_eq!(
            written(Format::Csv, &Ended::Whole),
            (
                "a,\"b \"\"c\"\"\"\r\n1.5,\"x,\ny\"\r\n,\"{\"\"k\"\":\n [1]}\"\r\n".to_owned(),
                true
            )
        );
    }

    #[test]
    fn what_is_not_whole_says_so_or_breaks_off() {
        let late = Trouble::Gone;
        for (ended, word) in [
            (Ended::Cut(Cut::Rows), "rows"),
            (Ended::Cut(Cut::Bytes), "bytes"),
            (Ended::Failed(&late), "problem"),
        ] {
            let (text, is_whole) = written(Format::Json, &ended);
            let document: Value = serde_json::from_str(&text).unwrap();
            assert!(is_whole);
            assert_eq!(document["truncated"], word);
            assert!(!written(Format::Csv, &ended).1 && !written(Format::Ndjson, &ended).1);
        }
    }
}
