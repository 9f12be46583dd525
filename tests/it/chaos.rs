//! Faults of many kinds in a minute, under load. Other seeds: `TELLTALE_SEED=7 cargo test -p telltale-tests --test it chaos`.
use clap::Parser as _;
use telltale_cli::{
    commands::chaos::{
        Profile,
        mixed::{self, Options},
    },
    find::Say,
};

#[derive(clap::Parser)]
struct Environment {
    #[arg(long, env = "TELLTALE_SEED", default_value_t = 1)]
    seed: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_faults_loses_nothing_doubles_nothing_and_quarantines_exactly_the_invalid() {
    let seed = Environment::try_parse_from(["it"]).unwrap().seed;
    let report = mixed::run(Options {
        seed,
        say: Say::new(|line| eprintln!("{line}")),
        ..Options::of(Profile::Smoke)
    })
    .await
    .unwrap();
    assert!(report.holds(), "seed {seed}\n{report}");
    assert!(report.sent["accepted"] > 2_000, "under load: {report}");
    assert!(report.faults.len() > 5, "{report}");
}
