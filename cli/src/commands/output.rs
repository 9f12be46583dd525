//! Rows on stdout: a table for people, tab-separated without a terminal, JSON and CSV for programs.
use serde_json::{Map, Value};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
};
use telltale_schemas::text::{csv_cell, is_hostile};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns with a heading.
    Table,
    /// Tab-separated, no heading.
    Tsv,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// With a heading line.
    Csv,
}

/// The flag that every command with rows has.
#[derive(Debug, Clone, clap::Args)]
pub struct Output {
    /// How to write it; a table on a terminal, else tab-separated lines
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

impl Output {
    /// What was asked for, or what fits where stdout goes.
    pub fn format(&self) -> Format {
        self.format.unwrap_or_else(|| {
            if io::stdout().is_terminal() {
                Format::Table
            } else {
                Format::Tsv
            }
        })
    }

    /// What was asked for.
    pub fn asked(&self) -> Option<Format> {
        self.format
    }

    /// A writer to stdout.
    pub fn rows<S: Into<String>>(
        &self,
        columns: impl IntoIterator<Item = S>,
    ) -> Rows<io::BufWriter<io::Stdout>> {
        Rows::new(io::BufWriter::new(io::stdout()), self.format(), columns)
    }

    /// A writer to stdout of rows that come one by one, for as long as somebody looks: each is written when it comes,
    /// so a table has no widths, and JSON is one object a line.
    pub fn live<S: Into<String>>(
        &self,
        columns: impl IntoIterator<Item = S>,
    ) -> Rows<io::LineWriter<io::Stdout>> {
        let format = match self.format() {
            Format::Table => Format::Tsv,
            Format::Json => Format::Ndjson,
            other => other,
        };
        Rows::new(io::LineWriter::new(io::stdout()), format, columns)
    }
}

/// Writes rows one after the other; only a table and its widths have to wait for the last.
#[derive(Debug)]
pub struct Rows<W: Write> {
    out: W,
    format: Format,
    columns: Vec<String>,
    written: usize,
    table: Vec<Vec<Value>>,
}

impl<W: Write> Rows<W> {
    /// Rows with these columns.
    pub fn new<S: Into<String>>(out: W, format: Format, columns: impl IntoIterator<Item = S>) -> Self {
        Self {
            out,
            format,
            columns: columns.into_iter().map(Into::into).collect(),
            written: 0,
            table: Vec::new(),
        }
    }

    /// How many there were.
    pub fn written(&self) -> usize {
        self.written
    }

    /// One row, as many values as there are columns.
    pub fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        match self.format {
            Format::Table => self.table.push(values),
            Format::Tsv => {
                let cells: Vec<_> = values.iter().map(|value| escaped(&text(value))).collect();
                writeln!(self.out, "{}", cells.join("\t"))?;
            }
            Format::Csv => {
                if self.written == 0 {
                    self.csv_heading()?;
                }
                let cells: Vec<_> = values
                    .iter()
                    .map(|value| csv_cell(&text(value)).into_owned())
                    .collect();
                writeln!(self.out, "{}", cells.join(","))?;
            }
            Format::Json => {
                let object = Value::Object(self.object(values)).to_string();
                let before = if self.written == 0 { "[\n" } else { ",\n" };
                write!(self.out, "{before}{}", json_text(&object))?;
            }
            Format::Ndjson => {
                let object = Value::Object(self.object(values)).to_string();
                writeln!(self.out, "{}", json_text(&object))?;
            }
        }
        self.written += 1;
        Ok(())
    }

    /// Ends the document. Without rows it is still a document.
    pub fn finish(mut self) -> io::Result<()> {
        match self.format {
            Format::Table => self.write_table()?,
            Format::Csv if self.written == 0 => self.csv_heading()?,
            Format::Json => writeln!(self.out, "{}", if self.written == 0 { "[]" } else { "\n]" })?,
            Format::Tsv | Format::Csv | Format::Ndjson => {}
        }
        self.out.flush()
    }

    fn csv_heading(&mut self) -> io::Result<()> {
        let cells: Vec<_> = self.columns.iter().map(|column| csv_cell(column)).collect();
        writeln!(self.out, "{}", cells.join(","))
    }

    fn object(&self, values: Vec<Value>) -> Map<String, Value> {
        self.columns.iter().cloned().zip(values).collect()
    }

    fn write_table(&mut self) -> io::Result<()> {
        let cells: Vec<Vec<String>> = self
            .table
            .iter()
            .map(|row| row.iter().map(|value| escaped(&text(value))).collect())
            .collect();
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.chars().count()).collect();
        for row in &cells {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let last = self.columns.len().saturating_sub(1);
        let line = |cells: &[String], right: &dyn Fn(usize) -> bool| {
            let mut line = String::new();
            for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width - cell.chars().count());
                match (right(at), at == last) {
                    (true, _) => line.extend([&pad, cell.as_str()]),
                    (false, true) => line.push_str(cell),
                    (false, false) => line.extend([cell.as_str(), &pad]),
                }
                if at != last {
                    line.push_str("  ");
                }
            }
            line
        };
        let numeric: Vec<bool> = (0..self.columns.len())
            .map(|at| {
                self.table
                    .iter()
                    .any(|row| row.get(at).is_some_and(Value::is_number))
            })
            .collect();
        let right = |at: usize| numeric.get(at).copied().unwrap_or(false);
        writeln!(self.out, "{}", line(&self.columns, &right))?;
        for row in &cells {
            writeln!(self.out, "{}", line(row, &right))?;
        }
        Ok(())
    }
}

/// A value as a cell: text as it stands, nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Characters that command a terminal made visible, so that no data moves the cursor of whoever reads it, or deceives.
pub fn escaped(text: &str) -> String {
    if !text.chars().any(is_hostile) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => safe.extend(c.escape_default()),
            c if is_hostile(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// The same for a text that is JSON, in which such characters stand in strings alone: as JSON escapes them.
pub fn json_text(text: &str) -> String {
    let is_layout = |c: char| c == '\n';
    if !text.chars().any(|c| is_hostile(c) && !is_layout(c)) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hostile(c) && !is_layout(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(format: Format, rows: &[[Value; 2]]) -> String {
        let mut out = Vec::new();
        let mut writer = Rows::new(&mut out, format, ["thing", "value"]);
        for row in rows {
            writer.row(row.to_vec()).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_format_writes_the_same_rows() {
        let rows = [[json!("a"), json!(1.5)], [json!("long,\tname"), Value::Null]];
        assert_eq!(
            written(Format::Table, &rows),
            "thing        value\na              1.5\nlong,\\tname       \n"
        );
        assert_eq!(written(Format::Tsv, &rows), "a\t1.5\nlong,\\tname\t\n");
        assert_eq!(
            written(Format::Csv, &rows),
            "thing,value\na,1.5\n\"long,\tname\",\n"
        );
        assert_eq!(
            written(Format::Ndjson, &rows),
            "{\"thing\":\"a\",\"value\":1.5}\n{\"thing\":\"long,\\tname\",\"value\":null}\n"
        );
        let array: Value = serde_json::from_str(&written(Format::Json, &rows)).unwrap();
        assert_eq!(
            array,
            json!([{"thing":"a","value":1.5},{"thing":"long,\tname","value":null}])
        );
    }

    #[test]
    fn nothing_is_still_a_document() {
        assert_eq!(written(Format::Json, &[]), "[]\n");
        assert_eq!(written(Format::Csv, &[]), "thing,value\n");
        assert_eq!(written(Format::Ndjson, &[]), "");
        assert_eq!(written(Format::Table, &[]), "thing  value\n");
    }

    #[test]
    fn no_cell_can_drive_the_terminal() {
        assert_eq!(escaped("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(escaped("gnp\u{202e}exe\tü"), "gnp\\u{202e}exe\\tü");
        let told = json!({"a": "\u{9b}31m\u{202e}\u{e0041}", "b": "\n"});
        let text = json_text(&serde_json::to_string_pretty(&told).unwrap());
        assert!(!text.chars().any(|c| is_hostile(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), told);
    }
}
