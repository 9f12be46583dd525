//! Which part of history is asked for: the parameters of a query string.
use super::cursor::Cursor;
use telltale_runtime::web::Problem;
use telltale_schemas::{Timestamp, duration};

/// Rows of a page, if not said.
const LIMIT: u32 = 1_000;
/// Most rows of a page, or intervals of one.
pub(super) const LIMIT_MAX: u32 = 10_000;
/// Most things or names in one question.
const LIST_MAX: usize = 100;
/// Where no beginning is said, so long before the end, or before now.
const DAY: i64 = 86_400_000_000;
/// Shortest and longest bucket, in microseconds: a second, a year.
const BUCKET: std::ops::RangeInclusive<i64> = 1_000_000..=366 * DAY;
/// The last moment that there is.
const END: i64 = 253_402_300_799_999_999;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// Any, where none is named.
    pub(super) things: Option<Vec<String>>,
    /// Any, where none is named.
    pub(super) names: Option<Vec<String>>,
    /// The first moment.
    pub(super) from: Timestamp,
    /// The first moment after it.
    pub(super) to: Timestamp,
    /// Rows of a page; with buckets, intervals.
    pub(super) limit: u32,
    /// Where the page begins.
    pub(super) cursor: Option<Cursor>,
    /// The length of an interval, in microseconds.
    pub(super) bucket: Option<i64>,
    pub(super) format: Option<String>,
}

/// A pair of the query string, and what it may be.
pub(super) struct Allowed {
    pub(super) things: bool,
    pub(super) bucket: bool,
}

impl Range {
    /// Of the pairs of a query string.
    pub(super) fn read(
        pairs: Vec<(String, String)>,
        allowed: &Allowed,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let mut said = Said::default();
        for (key, value) in pairs {
            said.take(&key, value, allowed)?;
        }
        let bucket = said.bucket.map(|text| bucket(&text)).transpose()?;
        let to = said.to.map(|text| moment("to", &text)).transpose()?;
        let from = said.from.map(|text| moment("from", &text)).transpose()?;
        let from = from.unwrap_or_else(|| to.unwrap_or(now).plus_micros(-DAY));
        // What was measured by a clock that is ahead is history too; an interval that is to come has nothing.
        let end = if bucket.is_some() {
            now
        } else {
            Timestamp::from_micros(END).unwrap_or(now)
        };
        let to = to.unwrap_or_else(|| end.max(from));
        if from > to {
            return Err(Problem::bad_request(format!("`from` {from} is after `to` {to}")));
        }
        Ok(Self {
            things: said.things,
            names: said.names,
            from,
            to,
            limit: said.limit.map_or(Ok(LIMIT), |text| limit(&text))?,
            cursor: said.cursor.map(|text| cursor(&text)).transpose()?,
            bucket,
            format: said.format,
        })
    }

    /// The first moment of the page.
    pub(super) fn begin(&self) -> Timestamp {
        self.cursor
            .as_ref()
            .map_or(self.from, |cursor| self.from.max(cursor.time))
    }

    /// With buckets: the first moment after the page, and where the next page begins, if there is one.
    pub(super) fn window(&self, bucket: i64) -> (Timestamp, Option<Cursor>) {
        let begin = self.begin().as_micros();
        let first = begin - begin.rem_euclid(bucket);
        let span = bucket.saturating_mul(self.limit.into());
        let end = Timestamp::from_micros(first.saturating_add(span)).unwrap_or(self.to);
        if end < self.to {
            (end, Some(Cursor::at(end)))
        } else {
            (self.to, None)
        }
    }
}

#[derive(Default)]
struct Said {
    things: Option<Vec<String>>,
    names: Option<Vec<String>>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
    bucket: Option<String>,
    format: Option<String>,
}

impl Said {
    fn take(&mut self, key: &str, value: String, allowed: &Allowed) -> Result<(), Problem> {
        if value.contains('\0') {
            return Err(Problem::bad_request(format!("`{key}` holds U+0000")));
        }
        let one = match key {
            "thing" if allowed.things => return list("thing", &mut self.things, value),
            "name" => return list("name", &mut self.names, value),
            "from" => &mut self.from,
            "to" => &mut self.to,
            "limit" => &mut self.limit,
            "cursor" => &mut self.cursor,
            "format" => &mut self.format,
            "bucket" if allowed.bucket => &mut self.bucket,
            other => {
                return Err(Problem::bad_request(format!(
                    "there is no parameter `{}` here; there are {}name, from, to, {}limit, cursor, format",
                    short(other),
                    if allowed.things { "thing, " } else { "" },
                    if allowed.bucket { "bucket, " } else { "" },
                )));
            }
        };
        match one.replace(value) {
            None => Ok(()),
            Some(_) => Err(Problem::bad_request(format!("`{key}` is said twice"))),
        }
    }
}

fn list(key: &str, list: &mut Option<Vec<String>>, value: String) -> Result<(), Problem> {
    let list = list.get_or_insert_default();
    list.push(value);
    if list.len() > LIST_MAX {
        return Err(Problem::bad_request(format!(
            "more than {LIST_MAX} times `{key}`"
        )));
    }
    Ok(())
}

fn moment(key: &str, text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(text).map_err(|_| {
        Problem::bad_request(format!(
            "`{key}` is `{}`, which is no RFC 3339 time; a `+` in it is written %2B",
            short(text)
        ))
    })
}

fn bucket(text: &str) -> Result<i64, Problem> {
    let micros = duration::parse(text).and_then(|length| i64::try_from(length.as_micros()).ok());
    micros.filter(|micros| BUCKET.contains(micros)).ok_or_else(|| {
        Problem::bad_request(format!(
            "`bucket` is `{}`; say from 1s to 366d, as in 5m or 1h",
            short(text)
        ))
    })
}

fn limit(text: &str) -> Result<u32, Problem> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=LIMIT_MAX).contains(number));
    number.ok_or_else(|| {
        Problem::bad_request(format!("`limit` is `{}`; say from 1 to {LIMIT_MAX}", short(text)))
    })
}

fn cursor(text: &str) -> Result<Cursor, Problem> {
    Cursor::read(text)
        .ok_or_else(|| Problem::bad_request("`cursor` is none of ours; begin without it, and follow `next`"))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Allowed = Allowed {
        things: true,
        bucket: true,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn read(query: &[(&str, &str)]) -> Result<Range, String> {
        let pairs = query
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Range::read(pairs.collect(), &ALL, at("2026-01-02T00:00:00Z")).map_err(|p| p.detail().to_owned())
    }

    #[test]
    fn without_a_word_it_is_the_last_day() {
        let range = read(&[]).unwrap();
        assert_eq!(range.from, at("2026-01-01T00:00:00Z"));
        assert_eq!((range.limit, range.to.as_micros()), (LIMIT, END));
        let range = read(&[("bucket", "1h")]).unwrap();
        assert_eq!(
            (range.bucket, range.to),
            (Some(3_600_000_000), at("2026-01-02T00:00:00Z"))
        );
        let range = read(&[("to", "2020-01-02T00:00:00Z")]).unwrap();
        assert_eq!(range.from, at("2020-01-01T00:00:00Z"));
        let range = read(&[("thing", "a"), ("thing", "b"), ("name", "n")]).unwrap();
        assert_eq!(range.things.unwrap().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, word) in [
            (&[("frm", "x")][..], "`frm`"),
            (&[("from", "yesterday")][..], "`yesterday`"),
            (
                &[("from", "2026-01-02T00:00:00Z"), ("to", "2026-01-01T00:00:00Z")][..],
                "after",
            ),
            (&[("bucket", "0s")][..], "`0s`"),
            (&[("bucket", "5")][..], "`5`"),
            (&[("limit", "0")][..], "`0`"),
            (&[("limit", "10001")][..], "10000"),
            (&[("cursor", "??")][..], "cursor"),
            (
                &[("to", "2026-01-01T00:00:00Z"), ("to", "2026-01-01T00:00:00Z")][..],
                "twice",
            ),
            (&[("name", "\0")][..], "U+0000"),
        ] {
            let refused = read(query).unwrap_err();
            assert!(refused.contains(word), "{query:?}: {refused}");
        }
        assert!(read(&[("thing", "t"); LIST_MAX + 1]).is_err());
    }

    #[test]
    fn pages_of_buckets_meet_without_a_gap() {
        let mut range = read(&[
            ("from", "2026-01-01T00:30:00Z"),
            ("to", "2026-01-01T05:00:00Z"),
            ("bucket", "1h"),
            ("limit", "2"),
        ])
        .unwrap();
        let mut pages = vec![];
        loop {
            let (end, next) = range.window(3_600_000_000);
            pages.push((range.begin().to_string(), end.to_string()));
            match next {
                Some(cursor) => range.cursor = Some(cursor),
                None => break,
            }
        }
        let hour = |h: u8, m: u8| format!("2026-01-01T{h:02}:{m:02}:00Z");
        assert_eq!(
            pages,
            [
                (hour(0, 30), hour(2, 0)),
                (hour(2, 0), hour(4, 0)),
                (hour(4, 0), hour(5, 0))
            ]
        );
    }
}
