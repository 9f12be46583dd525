//! `.telltale/env`: where a running stack is found, in a form that `sh` can source and we can read back.
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The folder of a stack, under the folder where `telltale up` was called.
pub const FOLDER: &str = ".telltale";

/// Why an env file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("line {line} of {path} is not NAME='value'")]
    Line { path: PathBuf, line: usize },
    #[error("{path} can be read by others; it holds secrets: chmod 600 it")]
    Open { path: PathBuf },
}

/// The text of an env file: one `NAME='value'` a line.
pub fn render<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in values {
        text.push_str(name);
        text.push('=');
        text.push_str(&quote(value));
        text.push('\n');
    }
    text
}

/// `value` as one word of `sh`, always in single quotes.
pub fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Reads what [`render`] writes, and what a person would write by hand: bare values, comments, `export`.
/// The error is the number of the first line that cannot be read.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut values = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, word) = line
            .strip_prefix("export ")
            .unwrap_or(line)
            .split_once('=')
            .ok_or(at + 1)?;
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let value = unquote(word).filter(|_| named).ok_or(at + 1)?;
        values.insert(name.to_owned(), value);
    }
    Ok(values)
}

/// One word of `sh` made of bare, escaped and single-quoted pieces. What `sh` would expand is refused.
fn unquote(word: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    inner => value.push(inner),
                }
            },
            '\\' => value.push(chars.next()?),
            '"' | '$' | '`' | ' ' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => return None,
            bare => value.push(bare),
        }
    }
    Some(value)
}

/// The nearest `.telltale/env`, from `from` upward.
pub fn find(from: &Path) -> Option<PathBuf> {
    from.ancestors()
        .map(|folder| folder.join(FOLDER).join("env"))
        .find(|path| path.is_file())
}

/// Reads the file, and refuses one that others could read.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, EnvFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |source| EnvFileError::Read {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(EnvFileError::Open {
            path: path.to_owned(),
        });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    parse(&text).map_err(|line| EnvFileError::Line {
        path: path.to_owned(),
        line,
    })
}

/// Writes `text` where only we can read it, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text.as_bytes())?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWKWARD: [&str; 7] = [
        "",
        "plain",
        "it's",
        "''",
        "a b $HOME `id` \"q\" \\n #x",
        "postgresql://u:p%40@127.0.0.1:1/t",
        "ünï;&|",
    ];

    #[test]
    fn what_is_written_is_read_back() {
        for value in AWKWARD {
            let text = render([("A", value), ("B_2", value)]);
            let read = parse(&text).unwrap();
            assert_eq!(
                (read["A"].as_str(), read["B_2"].as_str()),
                (value, value),
                "{text}"
            );
        }
    }

    #[test]
    fn a_shell_reads_the_same_values() {
        for value in AWKWARD {
            let script = format!("{}printf %s \"$A\"", render([("A", value)]));
            let said = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), value);
        }
    }

    #[test]
    fn lines_of_people_are_read_and_what_a_shell_would_expand_is_refused() {
        let read = parse("# mine\n\nexport A=b\nB='c'd\\ e\n").unwrap();
        assert_eq!((read["A"].as_str(), read["B"].as_str()), ("b", "cd e"));
        for (text, line) in [
            ("A", 1),
            ("A='x\n", 1),
            ("A=1\nB=$A", 2),
            ("=x", 1),
            ("A B=x", 1),
            ("A=\"x\"", 1),
        ] {
            assert_eq!(parse(text), Err(line), "{text}");
        }
    }

    #[test]
    fn a_private_file_replaces_another_and_only_we_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = crate::stack::scratch("envfile").unwrap();
        let path = folder.join("env");
        fs::write(&path, "old").unwrap();
        assert!(matches!(read(&path), Err(EnvFileError::Open { .. })));
        write_private(&path, "A='1'\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap()["A"], "1");
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
