//! `telltale new-worker NAME`: a crate that compiles, passes clippy and has a test.
use super::exit::Refused;
use anyhow::Context as _;
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command as Process, ExitCode},
};

const EXAMPLES: &str = "Examples:
  telltale new-worker over-limit
  telltale new-worker audit --input quarantine --output nothing";

/// Make the crate of a new worker in `workers/NAME`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct NewWorker {
    /// Lower-case letters, digits and hyphens; also its durable and its credential
    name: String,
    /// What it reads
    #[arg(long, value_enum, ignore_case = true, default_value = "observation")]
    input: Input,
    /// What it writes
    #[arg(long, value_enum, ignore_case = true, default_value = "event")]
    output: Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Input {
    #[value(alias = "valid")]
    Reading,
    #[value(alias = "annotated", alias = "annotated-reading")]
    Observation,
    #[value(alias = "derived")]
    Derivation,
    Event,
    Command,
    Outcome,
    #[value(alias = "thing")]
    Registration,
    Quarantine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Written {
    Event,
    #[value(alias = "derived")]
    Derivation,
    Command,
    #[value(alias = "none")]
    Nothing,
}

/// Names that would be taken for something else: stages of the pipeline, crates of Rust's own.
const TAKEN: [&str; 14] = [
    "alloc",
    "bridge",
    "cli",
    "client",
    "core",
    "gateway",
    "migrations",
    "operator",
    "proc-macro",
    "runtime",
    "simulator",
    "std",
    "test",
    "tests",
];
const KEYWORDS: [&str; 36] = [
    "as", "async", "await", "box", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern",
    "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "try", "type", "use",
];

impl NewWorker {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = workspace()?;
        let made = make(&root, &self)?;
        let mut err = std::io::stderr().lock();
        for file in &made {
            writeln!(err, "made {}", file.strip_prefix(&root).unwrap_or(file).display())?;
        }
        let name = &self.name;
        writeln!(err, "next:")?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "cargo test -p {name}")?;
        writeln!(
            out,
            "cargo build -p {name} && cargo telltale admit target/debug/{name}"
        )?;
        writeln!(out, "cargo telltale start {name}")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The checkout that the working directory is in.
fn workspace() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("find the working directory")?;
    let is_root = |directory: &&Path| {
        fs::read_to_string(directory.join("Cargo.toml"))
            .is_ok_and(|manifest| manifest.contains("[workspace]") && manifest.contains("telltale-runtime"))
    };
    here.ancestors()
        .find(is_root)
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            Refused::precondition("no workspace with `telltale-runtime` from here upward")
                .hint(
                    "run it in a checkout of Telltale, or in a workspace that has the crate as a dependency",
                )
                .into()
        })
}

/// Why a worker cannot be called that.
fn check_name(name: &str) -> Result<(), Refused> {
    let refuse = |why: &str| {
        Err(Refused::usage(format!(
            "a worker cannot be called `{name}`: {why}"
        )))
    };
    if name.is_empty() || name.len() > 40 {
        return refuse("1 to 40 characters");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return refuse("lower-case letters, digits and hyphens only");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') || name.contains("--") {
        return refuse("it begins with a letter, and hyphens stand alone inside");
    }
    if TAKEN.contains(&name) || KEYWORDS.contains(&name) || name.starts_with("telltale-") {
        return refuse("that name is taken");
    }
    Ok(())
}

fn make(root: &Path, worker: &NewWorker) -> anyhow::Result<Vec<PathBuf>> {
    check_name(&worker.name)?;
    let home = root.join("workers").join(&worker.name);
    if home.exists() {
        return Err(Refused::usage(format!("`{}` exists", home.display()))
            .hint("choose another name, or remove the directory")
            .into());
    }
    fs::create_dir_all(home.join("src")).with_context(|| format!("make `{}`", home.display()))?;
    let mut made = Vec::new();
    for (file, text) in files(worker) {
        let path = home.join(file);
        fs::write(&path, text).with_context(|| format!("write `{}`", path.display()))?;
        made.push(path);
    }
    // Names differ in length, and so do lines; without rustfmt the crate compiles all the same.
    let format = Process::new("rustfmt")
        .args([
            "--edition",
            "2024",
            "--config",
            "max_width=110,use_field_init_shorthand=true",
        ])
        .arg(home.join("src/lib.rs"))
        .arg(home.join("src/main.rs"))
        .output();
    if format.is_ok_and(|output| !output.status.success()) {
        anyhow::bail!("rustfmt cannot read what was made in `{}`", home.display());
    }
    Ok(made)
}

fn files(worker: &NewWorker) -> [(&'static str, String); 5] {
    let lib = match worker.input {
        Input::Reading | Input::Observation | Input::Derivation => {
            include_str!("../../templates/worker/lib.measured.rs.in")
        }
        _ => include_str!("../../templates/worker/lib.named.rs.in"),
    };
    [
        (
            "Cargo.toml",
            fill(include_str!("../../templates/worker/Cargo.toml.in"), worker),
        ),
        (
            "README.md",
            fill(include_str!("../../templates/worker/README.md.in"), worker),
        ),
        ("src/lib.rs", fill(lib, worker)),
        (
            "src/main.rs",
            fill(include_str!("../../templates/worker/main.rs.in"), worker),
        ),
        (
            "src/tests.rs",
            fill(include_str!("../../templates/worker/tests.rs.in"), worker),
        ),
    ]
}

fn fill(template: &str, worker: &NewWorker) -> String {
    let name = &worker.name;
    let snake = name.replace('-', "_");
    let (condition, hit, miss) = sample(worker.input);
    let measured = condition.is_empty();
    let construct = if measured {
        "{{Type}} { limit: 60.0 }"
    } else {
        "{{Type}}"
    };
    let hits = if worker.output == Written::Nothing {
        "0"
    } else {
        "1"
    };
    let values = [
        ("{{condition}}", condition.to_owned()),
        ("{{consts}}", consts(worker.output)),
        ("{{answer}}", answer(worker.output)),
        ("{{dependencies}}", needed("clap", measured)),
        (
            "{{tracing}}",
            needed("tracing", worker.output == Written::Nothing),
        ),
        ("{{serde_json}}", needed("serde_json", hit.starts_with("read("))),
        ("{{construct}}", construct.to_owned()),
        ("{{imports}}", imports(worker.input).to_owned()),
        ("{{hit}}", hit.to_owned()),
        ("{{miss}}", miss.to_owned()),
        ("{{hits}}", hits.to_owned()),
        ("{{purpose}}", purpose(worker.output).to_owned()),
        ("{{Type}}", type_name(name)),
        ("{{Input}}", type_name(&format!("{:?}", worker.input))),
        ("{{Output}}", type_name(&format!("{:?}", worker.output))),
        ("{{input}}", format!("{:?}", worker.input).to_lowercase()),
        ("{{output}}", written(worker.output, &snake)),
        ("{{ENV}}", format!("{}_LIMIT", snake.to_uppercase())),
        ("{{name}}", name.clone()),
        ("{{crate}}", snake),
    ];
    let mut text = template.to_owned();
    for (place, value) in values {
        text = text.replace(place, &value);
    }
    text
}

/// The manifest's line for a dependency, where it is one.
fn needed(dependency: &str, is: bool) -> String {
    if is {
        format!("{dependency}.workspace = true\n")
    } else {
        String::new()
    }
}

/// The condition over an input that carries no measured values, and an input that meets it, and one that does not.
fn sample(input: Input) -> (&'static str, &'static str, &'static str) {
    match input {
        Input::Reading => (
            "",
            "Reading { records: at(61.0) }",
            "Reading { records: at(59.0) }",
        ),
        Input::Observation => (
            "",
            "Observation { records: at(61.0), ..Observation::default() }",
            "Observation { records: at(59.0), ..Observation::default() }",
        ),
        Input::Derivation => (
            "",
            "Derivation { records: at(61.0), rule: None }",
            "Derivation { records: at(59.0), rule: None }",
        ),
        Input::Event => (
            "(input.name == \"over_limit\")",
            "Event::new(\"over_limit\")",
            "Event::new(\"other\")",
        ),
        Input::Command => (
            "(input.name == \"lamp\")",
            "Command::new(\"lamp\", true)",
            "Command::new(\"gate\", true)",
        ),
        Input::Outcome => (
            "input.problem.is_some()",
            r##"read(r#"{"command":"t1:1","name":"lamp","state":"failed","problem":"no answer"}"#)"##,
            r##"read(r#"{"command":"t1:1","name":"lamp","state":"succeeded"}"#)"##,
        ),
        Input::Registration => (
            "input.entry.is_none()",
            r##"read(r#"{"change":"deleted","revision":2}"#)"##,
            r##"read(r#"{"change":"created","revision":1,"entry":{"thing":"t1"}}"#)"##,
        ),
        Input::Quarantine => (
            "(input.reason == \"unit\")",
            r##"read(r#"{"stage":"validate","reason":"unit","attempts":1,"original":"","payload":"","sha256":""}"#)"##,
            r##"read(r#"{"stage":"validate","reason":"json","attempts":1,"original":"","payload":"","sha256":""}"#)"##,
        ),
    }
}

fn imports(input: Input) -> &'static str {
    match input {
        Input::Reading | Input::Observation | Input::Derivation => {
            "
fn at(temperature: f64) -> Vec<Record> {
    vec![Record { v: Some(temperature), ..Record::named(\"temperature\") }]
}
"
        }
        Input::Event | Input::Command => "",
        Input::Outcome | Input::Registration | Input::Quarantine => {
            "
fn read(json: &str) -> {{Input}} {
    serde_json::from_str(json).unwrap()
}
"
        }
    }
}

fn consts(output: Written) -> String {
    match output {
        Written::Event => "    const EVENTS: &'static [&'static str] = &[\"{{crate}}\"];\n".into(),
        Written::Command => "    const COMMANDS: &'static [&'static str] = &[\"{{crate}}\"];\n".into(),
        Written::Derivation | Written::Nothing => String::new(),
    }
}

fn answer(output: Written) -> String {
    match output {
        Written::Event => {
            "        Ok(over.map(|value| Event::new(\"{{crate}}\").with(\"value\", value)).into())"
        }
        Written::Command => "        Ok(over.map(|value| Command::new(\"{{crate}}\", value)).into())",
        Written::Derivation => {
            "        Ok(over.map(|value| Derivation {
            records: vec![Record { v: Some(value), ..Record::named(\"{{crate}}\") }],
            rule: Some(Self::NAME.into()),
        }).into())"
        }
        Written::Nothing => {
            "        if let Some(value) = over {
            tracing::info!(thing = input.thing(), value, \"over\");
        }
        Ok(Emit::none())"
        }
    }
    .into()
}

fn purpose(output: Written) -> &'static str {
    match output {
        Written::Event => "Raises an event.",
        Written::Derivation => "Derives a value.",
        Written::Command => "Gives a command.",
        Written::Nothing => "Takes note.",
    }
}

fn written(output: Written, snake: &str) -> String {
    match output {
        Written::Event => format!("the event `{snake}`"),
        Written::Derivation => format!("the derivation `{snake}`"),
        Written::Command => format!("the command `{snake}`"),
        Written::Nothing => "nothing but its log".into(),
    }
}

/// `over-limit` as a type: `OverLimit`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
            .unwrap_or_default()
    };
    name.split('-').map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn only_names_that_can_be_a_crate_a_durable_and_a_user_are_taken() {
        for name in ["over-limit", "a", "speed2"] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            "-a",
            "a-",
            "a--b",
            "2fast",
            "Over",
            "over_limit",
            "über",
            "../x",
            "a/b",
            "a b",
            "core",
            "match",
            "telltale-x",
            "client",
            "x.y",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn every_combination_leaves_no_place_open_and_at_most_30_lines_of_idea() {
        for input in Input::value_variants() {
            for output in Written::value_variants() {
                let worker = NewWorker {
                    name: "over-limit".into(),
                    input: *input,
                    output: *output,
                };
                for (file, text) in files(&worker) {
                    assert!(!text.contains("{{"), "{file} of {input:?} to {output:?}: {text}");
                    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
                    assert!(file != "src/lib.rs" || lines <= 30, "{lines} lines: {text}");
                }
            }
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let root = std::env::temp_dir().join(format!("telltale-new-worker-{}", std::process::id()));
        let worker = NewWorker {
            name: "over-limit".into(),
            input: Input::Observation,
            output: Written::Event,
        };
        assert_eq!(make(&root, &worker).unwrap().len(), 5);
        assert!(make(&root, &worker).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
