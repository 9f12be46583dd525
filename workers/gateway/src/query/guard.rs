//! What a query may not be, told from its text alone, before PostgreSQL sees it.
//!
//! The rights of `telltale_query` are what protects the data; this is the second fence, for databases whose owner
//! could not take those rights away, and a clear word for whoever asks. It finds the tokens of the text as PostgreSQL
//! does, demands one statement that is a query with balanced parentheses (so that it can stand in parentheses, where
//! nothing but a query may stand), and refuses names that lead out of the public views.

/// Why a text is no query that is taken, with the place: characters from the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) at: usize,
    pub(super) message: String,
}

/// Beginnings of names that lead out of the views: catalogues, locks, sleep, other sessions, large objects.
const PREFIXES: [&str; 4] = ["pg_", "lo_", "dblink", "txid_"];
/// Such names as a whole; lower case.
const NAMES: [&str; 16] = [
    "information_schema",
    "set_config",
    "current_setting",
    "loread",
    "lowrite",
    "ts_stat",
    "ts_rewrite",
    "inet_server_addr",
    "inet_server_port",
    "inet_client_addr",
    "inet_client_port",
    "nextval",
    "setval",
    "currval",
    "lastval",
    "setseed",
];
/// Endings: functions that run a text as a query.
const ENDINGS: [&str; 3] = ["_to_xml", "_to_xmlschema", "_to_xml_and_xmlschema"];
/// What a query begins with.
const BEGINNINGS: [&str; 4] = ["select", "with", "values", "table"];

/// One token.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name without quotes, or a key word.
    Word(&'a str),
    /// A name in quotes, without them.
    Quoted(&'a str),
    Open,
    Close,
    Semicolon,
    /// Whatever cannot be a name: numbers, strings, parameters, operators.
    Other,
}

/// The query without what follows it: a semicolon, comments.
pub(super) fn check(sql: &str) -> Result<&str, Refusal> {
    let refuse = |at: usize, message: String| {
        let at = sql.get(..at).map_or(0, |before| before.chars().count());
        Err(Refusal { at, message })
    };
    if let Some(at) = sql.find('\0') {
        return refuse(at, "U+0000 cannot stand in a query".to_owned());
    }
    let mut scanner = Scanner { text: sql, at: 0 };
    let (mut depth, mut end, mut first) = (0_usize, None, true);
    loop {
        let (start, token) = match scanner.next() {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err((at, message)) => return refuse(at, message.to_owned()),
        };
        if end.is_some() && token != Token::Semicolon {
            return refuse(start, "one statement at a time".to_owned());
        }
        if first && token != Token::Open {
            let is_query = matches!(token, Token::Word(word) if is_one_of(word, &BEGINNINGS));
            if !is_query {
                return refuse(
                    start,
                    "a query begins with select, with, values or table; nothing else is run".to_owned(),
                );
            }
            first = false;
        }
        match token {
            Token::Word(name) | Token::Quoted(name) if leads_out(name) => {
                return refuse(
                    start,
                    format!(
                        "`{name}` leads out of the public views; see docs/OPERATING.md, Queries over HTTP"
                    ),
                );
            }
            Token::Open => depth += 1,
            Token::Close => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return refuse(start, "a `)` without its `(`".to_owned()),
            },
            Token::Semicolon if end.is_none() => end = Some(start),
            _ => {}
        }
    }
    if first {
        return refuse(0, "there is no query".to_owned());
    }
    if depth > 0 {
        return refuse(sql.len(), "a `(` without its `)`".to_owned());
    }
    Ok(end.and_then(|end| sql.get(..end)).unwrap_or(sql))
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|other| word.eq_ignore_ascii_case(other))
}

fn leads_out(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || NAMES.contains(&name.as_str())
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

type Found<'a> = Result<Option<(usize, Token<'a>)>, (usize, &'static str)>;

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Goes on while it holds; what it went over.
    fn take(&mut self, while_it_is: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !while_it_is(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// Goes behind the next `end`, if there is one; what stood before it.
    fn behind(&mut self, end: &str) -> Option<&'a str> {
        let rest = self.rest();
        let length = rest.find(end)?;
        self.at += length + end.len();
        rest.get(..length)
    }

    fn next(&mut self) -> Found<'a> {
        self.skip()?;
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(None);
        };
        let token = match first {
            '(' | ')' | ';' => {
                self.at += 1;
                match first {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Semicolon,
                }
            }
            '\'' => self.string(false).ok_or((start, "a string does not end"))?,
            '"' => self.quoted().ok_or((start, "a name in quotes does not end"))?,
            '$' => self.dollar().ok_or((start, "a string in dollars does not end"))?,
            c if is_name_start(c) => return self.word(start).map(|token| Some((start, token))),
            c if c.is_ascii_digit() => {
                self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
                Token::Other
            }
            other => {
                self.at += other.len_utf8();
                Token::Other
            }
        };
        Ok(Some((start, token)))
    }

    /// White space and comments.
    fn skip(&mut self) -> Result<(), (usize, &'static str)> {
        loop {
            // PostgreSQL's white space: no other character of Unicode is.
            self.take(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}'));
            if self.rest().starts_with("--") {
                self.take(|c| !matches!(c, '\n' | '\r'));
            } else if self.rest().starts_with("/*") {
                self.comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Comments can stand in comments.
    fn comment(&mut self) -> Result<(), (usize, &'static str)> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
            } else {
                let c = self
                    .rest()
                    .chars()
                    .next()
                    .ok_or((start, "a comment does not end"))?;
                self.at += c.len_utf8();
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// `'…'`, in which `''` is one quote, and with backslashes also `\'`.
    fn string(&mut self, has_backslashes: bool) -> Option<Token<'a>> {
        self.at += 1;
        loop {
            self.take(|c| c != '\'' && !(has_backslashes && c == '\\'));
            let mut rest = self.rest().chars();
            match (rest.next()?, rest.next()) {
                ('\\', Some(escaped)) => self.at += 1 + escaped.len_utf8(),
                ('\'', Some('\'')) => self.at += 2,
                ('\'', _) => {
                    self.at += 1;
                    return Some(Token::Other);
                }
                _ => return None,
            }
        }
    }

    /// `"…"`. A name with a quote in it is none of ours, whatever its first part is.
    fn quoted(&mut self) -> Option<Token<'a>> {
        self.at += 1;
        let name = self.behind("\"")?;
        while self.rest().starts_with('"') {
            self.at += 1;
            self.behind("\"")?;
        }
        Some(Token::Quoted(name))
    }

    /// A parameter, or a string between `$$` or `$tag$`.
    fn dollar(&mut self) -> Option<Token<'a>> {
        let start = self.at;
        self.at += 1;
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            self.take(|c| c.is_ascii_digit());
            return Some(Token::Other);
        }
        self.take(|c| is_name(c) && c != '$');
        if !self.rest().starts_with('$') {
            return Some(Token::Other); // An operator's place; PostgreSQL refuses it.
        }
        self.at += 1;
        let tag = self.text.get(start..self.at)?;
        self.behind(tag)?;
        Some(Token::Other)
    }

    fn word(&mut self, start: usize) -> Result<Token<'a>, (usize, &'static str)> {
        let word = self.take(is_name);
        let follows = |text: &str| self.rest().starts_with(text);
        if is_one_of(word, &["e"]) && follows("'") {
            let token = self.string(true).ok_or((start, "a string does not end"))?;
            // Its next part, on another line, would have backslashes too.
            self.skip()?;
            return if self.rest().starts_with('\'') {
                Err((start, "a string with backslashes in two parts is not taken"))
            } else {
                Ok(token)
            };
        }
        if is_one_of(word, &["u"]) && (follows("&'") || follows("&\"")) {
            return Err((start, "names and strings with U& are not taken"));
        }
        Ok(Token::Word(word))
    }
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_name(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit() || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_query_is_taken_without_what_follows_it() {
        for (sql, taken) in [
            ("select 1", "select 1"),
            ("SELECT 1 ; -- done", "SELECT 1 "),
            ("select 1;;", "select 1"),
            (
                "(select 1) union all (select 2)",
                "(select 1) union all (select 2)",
            ),
            (
                "with x as (select 1) select * from x",
                "with x as (select 1) select * from x",
            ),
            ("values (1), (2)", "values (1), (2)"),
            ("/* a /* b */ ; c */ select ';'", "/* a /* b */ ; c */ select ';'"),
            ("select 'a''; drop'", "select 'a''; drop'"),
            (r"select e'\'; x'", r"select e'\'; x'"),
            (
                "select $$ ; pg_sleep( $$, $x$ $$ ; $x$",
                "select $$ ; pg_sleep( $$, $x$ $$ ; $x$",
            ),
            (
                "select \"a;b\"\"c\", $1, 1e5, 0x1f",
                "select \"a;b\"\"c\", $1, 1e5, 0x1f",
            ),
            ("select 'pg_sleep' as t", "select 'pg_sleep' as t"),
            ("table latest", "table latest"),
        ] {
            assert_eq!(check(sql), Ok(taken), "{sql}");
        }
    }

    #[test]
    fn what_is_no_query_or_more_than_one_is_refused() {
        for sql in [
            "",
            " -- nothing",
            "drop table x",
            "explain analyze select 1",
            "show all",
            "set role x",
            "do $$ begin end $$",
            "copy (select 1) to program 'x'",
            "listen x",
            "call x()",
            "select 1; select 2",
            "select 1) q; drop table x; (select 2",
            "select 1)",
            "(select 1",
            "select 'x",
            "select \"x",
            "select $a$ x",
            "select /* x",
            "select 1\0",
            r"select e'\'; drop table x; --'; select 2; --'",
        ] {
            assert!(check(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn names_that_lead_out_are_refused_however_they_are_written() {
        for sql in [
            "select pg_sleep(1)",
            "select PG_Sleep(1)",
            "select \"pg_sleep\"(1)",
            "select pg_catalog . pg_sleep ( 1 )",
            "select 1 from/**/pg_stat_activity",
            "select * from information_schema.tables",
            "select set_config('a.b', 'c', false)",
            "select current_setting('port')",
            "select query_to_xml('select 1', true, true, '')",
            "select lo_from_bytea(0, 'x')",
            r#"select U&"pg\005fsleep"(1)"#,
            "select u&\"\\0070g_sleep\"(1)",
            "select 'a' 'b', pg_sleep(1)",
            r"select 'a\', pg_sleep(1), '",
            "select $1$2, pg_sleep(1)",
            "select x$$, pg_sleep(1), y$$",
            "select $1$a$ ' $a$, pg_sleep(1) --'",
            "select e'a'\n'\\' ', pg_sleep(1), '",
        ] {
            assert!(check(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn the_place_counts_characters() {
        assert_eq!(check("select 'äö', pg_sleep(1)").unwrap_err().at, 13);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(sql in ".{0,200}") {
            if let Ok(taken) = check(&sql) {
                prop_assert!(sql.starts_with(taken));
            }
        }

        #[test]
        fn no_text_of_its_own_signs_breaks_it(sql in "[-'\"$eEuU&/*;()\\\\ \nax1]{0,40}") {
            let _either = check(&format!("select {sql}"));
        }
    }
}
