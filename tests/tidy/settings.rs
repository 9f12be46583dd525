//! What docs/OPERATING.md says of settings and metrics is what the programs have.
use crate::{none, read, root};
use clap::{Arg, ArgAction, Args as _, Command, CommandFactory as _, Parser as _};
use std::fmt::Write as _;
use telltale_actuate::Actuate;
use telltale_annotate::Annotate;
use telltale_process::Process;
use telltale_store::Store;
use telltale_validate::Validate;

const FILE: &str = "docs/OPERATING.md";
/// Headings of the help under which the runtime shows what all processes have, all workers, and one alone.
const PROCESS: &str = "Where it runs";
const WORKER: &str = "How it works";
const OWN: &str = "Its own";

#[derive(clap::Parser)]
struct Told {
    /// Rewrite the tables instead of comparing them
    #[arg(long, env = "TELLTALE_WRITE_DOCS", value_parser = clap::builder::FalseyValueParser::new())]
    write_docs: bool,
}

/// The rows of one section.
fn section(name: &str) -> String {
    let up = || telltale_cli::up::Up::augment_args(Command::new("up"));
    let (command, heading) = match name {
        "up" => (up(), None),
        "process" => (telltale_bridge::command(), Some(PROCESS)),
        "worker" => (telltale_runtime::command::<Validate>(), Some(WORKER)),
        "bridge" => (telltale_bridge::command(), Some(OWN)),
        "gateway" => (telltale_gateway::command(), Some(OWN)),
        "validate" => (telltale_runtime::command::<Validate>(), Some(OWN)),
        "annotate" => (telltale_runtime::command::<Annotate>(), Some(OWN)),
        "actuate" => (telltale_runtime::command::<Actuate>(), Some(OWN)),
        "processing" => (telltale_runtime::command_ordered::<Process>(), Some(OWN)),
        "store" => (telltale_runtime::command_batch::<Store>(), Some(OWN)),
        other => panic!("{FILE} asks for the settings of `{other}`, which nobody renders"),
    };
    let own = command
        .get_arguments()
        .filter(|arg| arg.get_help_heading() == heading && !arg.is_hide_set());
    let rows: Vec<String> = own.map(row).collect();
    if rows.is_empty() {
        return "None of its own.\n".to_owned();
    }
    let head = "| flag | variable | default | meaning |\n|---|---|---|---|\n";
    rows.into_iter().fold(head.to_owned(), |table, row| table + &row)
}

fn row(arg: &Arg) -> String {
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let value = arg.get_value_names().filter(|_| takes_value);
    let value = value
        .map(|names| format!(" {}", names.join(" ")))
        .unwrap_or_default();
    let flag = format!("`--{}{value}`", arg.get_long().unwrap_or(arg.get_id().as_str()));
    let code = |text: &str| format!("`{text}`");
    let variable = arg.get_env().and_then(|name| name.to_str());
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .filter_map(|v| v.to_str())
        .collect();
    let default = match (takes_value, defaults.as_slice()) {
        (false, _) => "off".to_owned(),
        (true, []) if arg.is_required_set() => "required".to_owned(),
        (true, []) => "—".to_owned(),
        (true, some) => code(&some.join(" ")),
    };
    let mut meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let words: Vec<_> = arg
        .get_possible_values()
        .iter()
        .filter_map(|value| Some(format!("`{}`: {}", value.get_name(), value.get_help()?)))
        .collect();
    if takes_value && !words.is_empty() {
        meaning = format!("{} — {}", meaning.trim_end_matches('.'), words.join("; "));
    }
    let meaning = meaning.trim_end_matches('.').replace('|', "\\|");
    let variable = variable.map_or("—".to_owned(), code);
    format!("| {flag} | {variable} | {default} | {meaning} |\n")
}

/// `text` with what stands between the marks made anew.
fn renewed(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("<!-- settings:") {
        let (name, after) = after.split_once(" -->").expect("a mark ends on its line");
        let (_, after) = after
            .split_once("<!-- /settings -->")
            .unwrap_or_else(|| panic!("the settings of `{name}` do not end"));
        let table = section(name);
        write!(out, "{before}<!-- settings:{name} -->\n{table}<!-- /settings -->").unwrap();
        rest = after;
    }
    out + rest
}

#[test]
fn the_tables_of_settings_are_those_of_the_programs() {
    let text = read(FILE);
    for name in [
        "up",
        "process",
        "worker",
        "bridge",
        "gateway",
        "validate",
        "annotate",
        "store",
        "processing",
    ] {
        let mark = format!("<!-- settings:{name} -->");
        assert!(text.contains(&mark), "{FILE} has no {mark}");
    }
    let renewed = renewed(&text);
    if Told::try_parse_from(["tidy"]).unwrap().write_docs {
        std::fs::write(root().join(FILE), &renewed).unwrap();
        return;
    }
    let wrong: Vec<String> = text
        .lines()
        .zip(renewed.lines())
        .find(|(is, should)| is != should)
        .map(|(is, should)| format!("it says     {is}\n  should say  {should}"))
        .into_iter()
        .collect();
    let how = "TELLTALE_WRITE_DOCS=1 cargo test -p telltale-tests --test tidy settings";
    none(
        &format!("{FILE} is not what the programs have; `{how}` rewrites it"),
        &wrong,
    );
    assert!(
        text == renewed,
        "{FILE} is not what the programs have; `{how}` rewrites it"
    );
}

#[test]
fn each_setting_says_what_it_means() {
    let commands = [
        Told::command(),
        telltale_bridge::command(),
        telltale_gateway::command(),
        telltale_runtime::command::<Validate>(),
        telltale_runtime::command_batch::<Store>(),
    ];
    let silent: Vec<String> = commands
        .iter()
        .flat_map(Command::get_arguments)
        .filter(|arg| arg.get_help().is_none())
        .map(|arg| arg.get_id().to_string())
        .collect();
    none("settings without a meaning", &silent);
}

#[test]
fn each_metric_is_explained_to_operators() {
    let text = read(FILE);
    let sources = ["workers/runtime", "workers/store", "workers/gateway", "bridge"];
    let unexplained: Vec<String> = sources
        .iter()
        .flat_map(|folder| {
            let source = read(&format!("{folder}/src/metrics.rs"));
            let words = source.split('"').filter(|word| {
                let is_name = word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                is_name && word.starts_with("telltale_")
            });
            words.map(ToOwned::to_owned).collect::<Vec<_>>()
        })
        .filter(|name| !text.contains(&format!("`{name}`")))
        .collect();
    none("metrics that docs/OPERATING.md does not have", &unexplained);
}

#[test]
fn each_metric_that_an_alert_names_is_one_of_ours() {
    let rules = read("docs/alerts/telltale.rules.yml");
    let operating = read(FILE);
    let expressions = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let named: std::collections::BTreeSet<&str> = expressions
        .flat_map(|line| line.split(|c: char| !(c.is_ascii_lowercase() || c == '_')))
        .filter(|word| word.starts_with("telltale_"))
        .collect();
    assert!(named.len() >= 6, "the rules are read: {named:?}");
    let unknown: Vec<&&str> = named
        .iter()
        .filter(|name| !operating.contains(&format!("| `{name}` |")))
        .collect();
    assert!(
        unknown.is_empty(),
        "alerts name metrics that nobody has: {unknown:?}"
    );
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let untold: Vec<&str> = alerts
        .filter(|alert| !operating.contains(&format!("| `{alert}` |")))
        .collect();
    assert!(
        untold.is_empty(),
        "alerts that docs/OPERATING.md does not explain: {untold:?}"
    );
}
