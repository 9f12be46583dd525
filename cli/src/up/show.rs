//! What is where, how to use it, and the first rows.
use crate::{
    context,
    control::Status,
    stack::{Layout, checkout},
};
use anyhow::Context as _;
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long the first rows may take before we go on without them.
const ROWS_WAIT: Duration = Duration::from_secs(20);
const ROWS: &str = "select to_char(time at time zone 'UTC', 'HH24:MI:SS.MS') || 'Z', thing, name, \
     coalesce(value::text, value_text, value_bool::text, ''), coalesce(unit, '') \
     from readings order by received desc limit 5";

/// The table and the lines to copy, after a start.
pub(super) fn ready(status: &Status, layout: &Layout, took: Duration) -> anyhow::Result<()> {
    let title = format!("telltale is ready after {:.1} s", took.as_secs_f64());
    out(&table(&title, status, layout, &prefix()))?;
    warn(layout)
}

/// The same for one that runs already.
pub(super) fn already(status: &Status, layout: &Layout) -> anyhow::Result<()> {
    out(&table(
        &format!("already running (process {})", status.pid),
        status,
        layout,
        &prefix(),
    ))?;
    warn(layout)
}

/// Says what a stack of `up` is not, before somebody takes it for more.
fn warn(layout: &Layout) -> anyhow::Result<()> {
    let is_synced = std::fs::read_to_string(layout.nats_configuration())
        .is_ok_and(|configuration| configuration.contains("sync_interval: always"));
    Ok(io::stderr()
        .lock()
        .write_all(boxed(&caveats(is_synced)).as_bytes())?)
}

fn caveats(is_synced: bool) -> Vec<&'static str> {
    let mut lines = vec!["for development: one machine, one copy of all data, no TLS, loopback only"];
    if !is_synced {
        lines.push("--sync default: a power cut loses what was accepted in the last two minutes");
    }
    lines.push("\"Towards production\" in docs/OPERATING.md says what more it takes");
    lines
}

fn boxed(lines: &[&str]) -> String {
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let rule = "─".repeat(width + 2);
    let mut text = format!("\n┌{rule}┐\n");
    for line in lines {
        let _infallible = writeln!(text, "│ {line:<width$} │");
    }
    text + &format!("└{rule}┘\n")
}

fn out(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// How our own commands begin for whoever reads this here.
fn prefix() -> String {
    let own = std::env::current_exe().ok();
    // What Linux says of a program that cargo has built anew since it was started; the new one lies there.
    let own = own
        .map(|own| own.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
        .map(PathBuf::from);
    let sources = own.as_deref().and_then(Path::parent).and_then(checkout);
    let here = std::env::current_dir().ok();
    match (sources, here) {
        (Some(sources), Some(here)) if here.starts_with(&sources) => "cargo telltale".to_owned(),
        (Some(_), _) => own.map_or_else(|| "telltale".to_owned(), |own| own.display().to_string()),
        _ => "telltale".to_owned(),
    }
}

fn table(title: &str, status: &Status, layout: &Layout, telltale: &str) -> String {
    let value = |name: &str| status.values.get(name).map_or("", String::as_str);
    let env = shown(&layout.env());
    let mut text = format!("\n{title}\n\n");
    let mut row = |what: &str, at: &str, note: &str| {
        let line = format!("  {what:<9} {at:<52} {note}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    row("site", value("TELLTALE_SITE"), "");
    row("NATS", value("NATS_URL"), "key in $NATS_NKEY_SEED_FILE");
    row(
        "SQL",
        &without_password(value("DATABASE_URL")),
        "password in $DATABASE_URL",
    );
    row("bridge", value("BRIDGE_URL"), "token in $BRIDGE_TOKEN");
    row(
        "MQTT",
        value("MQTT_URL"),
        "user and password in $MQTT_USER, $MQTT_PASSWORD",
    );
    row(
        "gateway",
        value("GATEWAY_URL"),
        "token in $GATEWAY_TOKEN, /docs shows what there is",
    );
    for process in &status.processes {
        if let Some(health) = &process.health {
            row("metrics", &format!("{health}/metrics"), &process.name);
        }
    }
    row("variables", &env, "for sh: set -a; . that file");
    row(
        "logs",
        &shown(&layout.logs()),
        &format!("{telltale} logs NAME -f"),
    );
    let _infallible = write!(
        text,
        "\n\
         publish:  . {env} && curl -H \"Authorization: Bearer $BRIDGE_TOKEN\" -d '{{\"temperature\":21.5}}' \"$BRIDGE_URL/things/demo/readings\"\n\
         query:    {telltale} sql \"select time, thing, name, value, unit from readings order by time desc limit 5\"\n\
         things:   . {env} && curl -H \"Authorization: Bearer $GATEWAY_TOKEN\" \"$GATEWAY_URL/things\"\n\
         tap:      {telltale} tap 'annotated.>' --limit 5\n"
    );
    text
}

/// A path as one would type it here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(|path| Path::new(".").join(path)));
    relative.as_deref().unwrap_or(path).display().to_string()
}

/// A URL that may be shown.
fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let (user, place) = rest.rsplit_once('@')?;
        let name = user.split_once(':').map_or(user, |(name, _)| name);
        Some(format!("{scheme}://{name}@{place}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

/// Waits for the first rows and shows them.
pub(super) async fn first_rows(database_url: &str) -> anyhow::Result<()> {
    let client = context::connect(database_url).await?;
    let deadline = Instant::now() + ROWS_WAIT;
    loop {
        let rows = client.query(ROWS, &[]).await.context("read the first rows")?;
        if rows.len() >= 3 {
            let mut text = "\nthe first rows of `readings`:\n\n".to_owned();
            for row in &rows {
                let cell = |at| row.get::<_, String>(at);
                let line = format!(
                    "  {:<14} {:<24} {:<28} {:>12} {}",
                    cell(0),
                    cell(1),
                    cell(2),
                    cell(3),
                    cell(4)
                );
                text.push_str(line.trim_end());
                text.push('\n');
            }
            return out(&text);
        }
        if Instant::now() > deadline {
            eprintln!(
                "no rows yet after {} s; `telltale status` says why",
                ROWS_WAIT.as_secs()
            );
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_box_is_closed_and_warns_of_a_power_cut_only_where_there_is_one_to_fear() {
        let text = boxed(&caveats(false));
        let widths: Vec<_> = text.lines().skip(1).map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
        assert!(
            text.contains("for development") && text.contains("power cut"),
            "{text}"
        );
        assert!(!boxed(&caveats(true)).contains("power cut"));
    }

    #[test]
    fn the_table_says_where_everything_is_and_shows_no_secret() {
        let values = [
            ("NATS_URL", "nats://127.0.0.1:4222"),
            (
                "DATABASE_URL",
                "postgresql://telltale_reader:hush@127.0.0.1:5432/telltale",
            ),
            ("BRIDGE_URL", "http://127.0.0.1:8080"),
            ("BRIDGE_TOKEN", "gateway.hush"),
            ("MQTT_URL", "mqtt://127.0.0.1:1883"),
            ("MQTT_PASSWORD", "hush"),
            ("GATEWAY_URL", "http://127.0.0.1:8081"),
            ("GATEWAY_TOKEN", "administrator.hush"),
        ];
        let values: BTreeMap<_, _> = values.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let status = Status {
            pid: 7,
            ready: true,
            processes: vec![],
            values,
        };
        let text = table("ready", &status, &Layout::at(Path::new("/x")), "telltale");
        for needed in [
            "nats://127.0.0.1:4222",
            "telltale_reader@127.0.0.1:5432",
            "http://127.0.0.1:8080",
            "http://127.0.0.1:8081",
            "/x/.telltale/env",
        ] {
            assert!(text.contains(needed), "{needed} is not in {text}");
        }
        assert!(!text.contains("hush"), "{text}");
    }
}
