//! `telltale quarantine edit`: a correction, kept beside the original and replayed in its place.
use super::{
    super::{
        exit::Refused,
        output::{Output, escaped},
        reach,
    },
    entry, splice,
};
use crate::{context::Context, envfile, stack};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::{
    fs,
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use telltale_nats::{
    Lane, Subject, header,
    seal::{self, Key},
};
use telltale_schemas::id;
use tokio_postgres::Client;

/// What `validate` takes.
const PAYLOAD_MAX: usize = 256 * 1024;
/// What names the effect, and must stay.
const IDENTITY: [&str; 4] = ["id", "subject", "rawseq", "type"];

const FIND: &str = "
    select id, subject, headers, payload, edited, edited_headers, replay_begun is not null as begun, state
    from store.quarantine where id = $1 or message_id = $1 order by state <> 'open', id";
const KEEP: &str = "
    update store.quarantine
    set edited = $2, edited_headers = $3, edited_by = $4, edited_at = case when $2::bytea is not null then clock_timestamp() end
    where id = $1 and state = 'open' and replay_begun is null";

/// What to edit, and how.
#[derive(Debug, clap::Args)]
// The subcommand of this name has a group of its own.
#[group(skip)]
pub struct Edit {
    /// Its id, or that of its quarantine entry
    id: String,
    /// Take the corrected bytes from there; `-` for stdin
    #[arg(long, conflicts_with = "set")]
    file: Option<PathBuf>,
    /// Set one value of a JSON payload; what is no JSON is a string
    #[arg(long, value_name = "/POINTER=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// Say what the payload is
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Take the correction back
    #[arg(long, conflicts_with_all = ["file", "set", "content_type"])]
    undo: bool,
    /// The deployment's seal key, where it is not beside the stack
    #[arg(long, env = "TELLTALE_SEAL_KEY_FILE", value_name = "FILE")]
    seal_key_file: Option<PathBuf>,
    /// Go on without the seal key: its id, time of receipt, publisher and protocol are then no longer believed
    #[arg(long)]
    unsealed: bool,
    /// Only say what would be kept
    #[arg(long)]
    dry_run: bool,
    /// Kept with the entry: who
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
    /// What to edit with, without --file and --set
    #[arg(long, env = "EDITOR", default_value = "vi")]
    editor: String,
}

/// An open entry.
struct Found {
    id: String,
    subject: String,
    headers: Vec<(String, String)>,
    payload: Vec<u8>,
    edited: Option<Vec<u8>>,
    edited_headers: Option<Vec<(String, String)>>,
}

impl Edit {
    pub(super) async fn run(&self, ctx: &Context, output: &Output) -> anyhow::Result<ExitCode> {
        let sql = reach::sql_admin(ctx).await?;
        let found = self.find(&sql).await?;
        let nothing: (Option<&[u8]>, Option<Value>) = (None, None);
        if self.undo {
            if !self.dry_run {
                keep(&sql, &found.id, nothing, &self.by).await?;
            }
            writeln!(std::io::stderr().lock(), "a replay sends the original")?;
            return Ok(ExitCode::SUCCESS);
        }
        let base = found.edited.as_deref().unwrap_or(&found.payload);
        let edited = self.edited(base)?;
        if edited == base && self.content_type.is_none() {
            writeln!(std::io::stderr().lock(), "nothing differs; nothing was done")?;
            return Ok(ExitCode::SUCCESS);
        }
        check(&found, &edited)?;
        let (headers, is_sealed) = self.headers(ctx, &found, &edited)?;
        if !self.dry_run {
            let headers = json!(headers);
            keep(&sql, &found.id, (Some(&edited), Some(headers)), &self.by).await?;
        }
        let mut rows = output.rows(["id", "bytes", "sha256", "sealed"]);
        rows.row(vec![
            found.id.as_str().into(),
            edited.len().into(),
            id::digest(&edited).into(),
            is_sealed.into(),
        ])?;
        rows.finish()?;
        let next = if self.dry_run {
            "nothing was done".to_owned()
        } else {
            format!(
                "next: telltale quarantine replay {}",
                envfile::quote(&escaped(&found.id))
            )
        };
        writeln!(std::io::stderr().lock(), "{next}")?;
        Ok(ExitCode::SUCCESS)
    }

    async fn find(&self, sql: &Client) -> anyhow::Result<Found> {
        let rows = sql
            .query(FIND, &[&self.id])
            .await
            .context("read the quarantine")?;
        let open: Vec<_> = rows
            .iter()
            .filter(|row| row.get::<_, &str>("state") == "open")
            .collect();
        let refuse = |what: String, hint: String| anyhow::Error::from(Refused::failed(what).hint(hint));
        let row = match (open.as_slice(), rows.first()) {
            ([row], _) => row,
            ([], None) => {
                let what = format!("`{}` is not in quarantine", self.id);
                return Err(refuse(what, "`telltale quarantine list` has the ids".into()));
            }
            ([], Some(row)) => {
                let what = format!("`{}` was {} before", self.id, row.get::<_, &str>("state"));
                return Err(refuse(what, "only what is open can be edited".into()));
            }
            (several, _) => {
                let ids: Vec<&str> = several.iter().map(|row| row.get("id")).collect();
                let what = format!("`{}` has {} entries", self.id, several.len());
                return Err(refuse(what, format!("name one: {}", escaped(&ids.join(" ")))));
            }
        };
        if row.get("begun") {
            let what = format!("the replay of `{}` was begun and cut off", self.id);
            return Err(refuse(what, "finish it with `telltale quarantine replay`".into()));
        }
        Ok(Found {
            id: row.get("id"),
            subject: row.get("subject"),
            headers: entry::pairs(&row.get("headers")),
            payload: row.get("payload"),
            edited: row.get("edited"),
            edited_headers: row
                .get::<_, Option<Value>>("edited_headers")
                .map(|headers| entry::pairs(&headers)),
        })
    }

    fn edited(&self, base: &[u8]) -> anyhow::Result<Vec<u8>> {
        let text = || {
            std::str::from_utf8(base).map_err(|_| {
                Refused::failed("its bytes are no text").hint("give the corrected bytes with --file")
            })
        };
        if let Some(file) = &self.file {
            return read(file);
        }
        if !self.set.is_empty() {
            let set = |text: String, change: &String| splice::set(&text, change);
            let edited = self.set.iter().try_fold(text()?.to_owned(), set);
            return edited
                .map(String::into_bytes)
                .map_err(|error| Refused::usage(error.to_string()).into());
        }
        if self.content_type.is_some() {
            return Ok(base.to_vec());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Refused::usage("an editor needs a terminal")
                .hint("--file FILE, or --set /pointer=value")
                .into());
        }
        by_hand(&self.editor, text()?)
    }

    /// The headers that go with the corrected bytes, and whether `validate` will believe them.
    fn headers(
        &self,
        ctx: &Context,
        found: &Found,
        edited: &[u8],
    ) -> anyhow::Result<(Vec<(String, String)>, bool)> {
        let mut headers = found
            .edited_headers
            .clone()
            .unwrap_or_else(|| found.headers.clone());
        if let Some(content_type) = &self.content_type {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case(header::CONTENT_TYPE));
            headers.push((header::CONTENT_TYPE.to_owned(), content_type.clone()));
        }
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case(header::SEAL));
        let is_raw = Subject::parse(&found.subject).is_ok_and(|subject| subject.lane == Lane::Raw);
        if !is_raw || entry::find(&found.headers, header::SEAL).is_none() {
            return Ok((headers, false));
        }
        let Some(key) = self.key(ctx)? else {
            return if self.unsealed {
                Ok((headers, false))
            } else {
                Err(Refused::precondition("the seal covers the payload, and there is no key to seal it anew")
                    .hint("--seal-key-file FILE; or --unsealed, and its row has the id of its place in RAW, the broker's time of receipt, and came over `nats`")
                    .into())
            };
        };
        let original = |name: &str| entry::find(&found.headers, name);
        if !seal::verify(&key, &found.subject, original, &found.payload) {
            // Its headers were never believed; a correction does not make them true.
            writeln!(
                std::io::stderr().lock(),
                "note: the original has no seal of ours, so neither has the correction"
            )?;
            return Ok((headers, false));
        }
        let sealed: Vec<(&str, &str)> = header::KEPT_ON_REDO
            .into_iter()
            .filter_map(|name| Some((name, entry::find(&headers, name)?)))
            .collect();
        let seal = seal::seal(&key, &found.subject, &sealed, edited);
        headers.push((header::SEAL.to_owned(), seal));
        Ok((headers, true))
    }

    fn key(&self, ctx: &Context) -> anyhow::Result<Option<Key>> {
        if let Some(file) = &self.seal_key_file {
            return Ok(Some(Key::read(file)?));
        }
        let beside = ctx.folder.as_deref().and_then(Path::parent);
        let beside = beside.map(|dir| stack::Layout::at(dir).seal_key());
        Ok(beside.filter(|file| file.is_file()).map(Key::read).transpose()?)
    }
}

async fn keep(
    sql: &Client,
    id: &str,
    (edited, headers): (Option<&[u8]>, Option<Value>),
    by: &str,
) -> anyhow::Result<()> {
    let by = edited.map(|_| by);
    let kept = sql
        .execute(KEEP, &[&id, &edited, &headers, &by])
        .await
        .context("keep the correction")?;
    if kept == 0 {
        return Err(Refused::failed("somebody else replayed or dropped it meanwhile").into());
    }
    Ok(())
}

/// An effect keeps its name, and a payload its limits.
fn check(found: &Found, edited: &[u8]) -> anyhow::Result<()> {
    let lane = Subject::parse(&found.subject).map(|subject| subject.lane);
    if lane == Ok(Lane::Raw) {
        if edited.len() > PAYLOAD_MAX {
            let what = format!("{} bytes are more than {PAYLOAD_MAX}", edited.len());
            return Err(Refused::failed(what).into());
        }
        return Ok(());
    }
    let Ok(before) = serde_json::from_slice::<Value>(&found.payload) else {
        return Ok(());
    };
    let after: Value = serde_json::from_slice(edited)
        .map_err(|error| Refused::failed(format!("the correction is no JSON: {error}")))?;
    match IDENTITY
        .into_iter()
        .find(|member| before[member] != after[member])
    {
        Some(member) => {
            Err(Refused::failed(format!("`/{member}` names the message, and stays as it is")).into())
        }
        None => Ok(()),
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .context("read stdin")?;
        return Ok(bytes);
    }
    fs::read(file).with_context(|| format!("read `{}`", file.display()))
}

/// Lets the operator's editor change a text, in a file that nobody else can read.
fn by_hand(editor: &str, text: &str) -> anyhow::Result<Vec<u8>> {
    let folder = stack::scratch("edit").context("make a folder for the editor")?;
    let file = folder.join("payload.json");
    let edit = || {
        let mut options = fs::OpenOptions::new();
        let mut made = options.write(true).create_new(true).mode(0o600).open(&file)?;
        made.write_all(text.as_bytes())?;
        let command = format!("{editor} \"$1\"");
        let ended = Command::new("sh")
            .args(["-c", &command, "sh"])
            .arg(&file)
            .status()?;
        if !ended.success() {
            return Err(std::io::Error::other(format!("`{editor}` ended with {ended}")));
        }
        fs::read(&file)
    };
    let edited = edit();
    fs::remove_dir_all(&folder).ok();
    let mut edited = edited.context("edit the payload")?;
    // Editors end the last line; what came had its own end.
    if !text.ends_with('\n') && edited.ends_with(b"\n") {
        edited.pop();
    }
    Ok(edited)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(subject: &str, payload: &[u8]) -> Found {
        Found {
            id: "x".into(),
            subject: subject.into(),
            headers: Vec::new(),
            payload: payload.to_vec(),
            edited: None,
            edited_headers: None,
        }
    }

    #[test]
    fn a_correction_keeps_the_name_of_the_message() {
        let observation = found(
            "annotated.local.t",
            br#"{"id":"t:1","subject":"t","rawseq":"7-1","data":{"a":1}}"#,
        );
        let good = br#"{"id":"t:1","subject":"t","rawseq":"7-1","data":{"a":2}}"#;
        check(&observation, good).unwrap();
        for bad in [
            br#"{"id":"t:2","subject":"t","rawseq":"7-1"}"#.as_slice(),
            br#"{"id":"t:1","subject":"u","rawseq":"7-1"}"#,
            br#"{"id":"t:1","subject":"t"}"#,
            b"{",
        ] {
            check(&observation, bad).unwrap_err();
        }
        check(&found("raw.local.t", b"{"), b"{}").unwrap();
        check(&found("raw.local.t", b"{"), &vec![b' '; PAYLOAD_MAX + 1]).unwrap_err();
    }

    #[test]
    fn an_editor_sees_the_text_and_its_last_line_end_is_not_ours() {
        let edited = by_hand("printf '%s\\n' '{\"a\":2}' >", "{\"a\":1}").unwrap();
        assert_eq!(edited, b"{\"a\":2}");
        assert!(by_hand("false", "{}").is_err());
    }
}
