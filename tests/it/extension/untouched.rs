//! What must not change when somebody else comes.
use std::collections::BTreeMap;
use telltale_nats::{manifest::again_durable, rights};
use telltale_tests::{inventory, pipeline::Pipeline};

/// All that is there beside `newcomer`: process ids and restarts, streams, buckets and durables with their settings, and
/// everybody's rights.
pub(super) async fn untouched(pipeline: &Pipeline, newcomer: &str) -> BTreeMap<String, String> {
    let is_theirs = |name: &str| name == newcomer || name == again_durable(newcomer);
    let mut state = BTreeMap::new();
    for unit in pipeline.stack.supervisor().all() {
        let now = unit.state();
        if !is_theirs(&unit.spec().name) {
            let is = format!("process {:?}, {} restarts", now.pid, now.restarts);
            state.insert(format!("process {}", unit.spec().name), is);
        }
    }
    for (name, is) in inventory::roads(&pipeline.stack).await {
        let durable = name.split_once(" on ").map_or("", |(durable, _)| durable);
        if !is_theirs(durable) {
            state.insert(format!("road {name}"), is.to_string());
        }
    }
    for (user, rights) in inventory::users(&pipeline.stack) {
        if !is_theirs(&user) {
            // People are kept from the newcomer's durables, as from everybody's; that is all that is added.
            let rights = if user == rights::CLIENT {
                without(&rights, is_theirs)
            } else {
                rights
            };
            state.insert(format!("user {user}"), rights);
        }
    }
    for part in [
        "process store",
        "road RAW",
        "road store on READINGS",
        "user validate",
    ] {
        assert!(state.contains_key(part), "{part} is among what is compared");
    }
    state
}

/// The rights without the subjects that one of those names is a token of.
fn without(rights: &str, is_theirs: impl Fn(&str) -> bool) -> String {
    let quoted = rights.split('"').skip(1).step_by(2);
    let theirs = quoted.filter(|subject| subject.split('.').any(&is_theirs));
    theirs.fold(rights.to_owned(), |text, subject| {
        text.replace(&format!("\"{subject}\", "), "")
            .replace(&format!(", \"{subject}\""), "")
    })
}
