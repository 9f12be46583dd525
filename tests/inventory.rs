//! What a broker has and whom it lets in, to tell that nothing of it has changed.
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use telltale_cli::stack::Stack;
use telltale_nats::{async_nats::jetstream::consumer, client};

/// Every stream, bucket and durable: when it was made, and its settings. Named `RAW`, `KV_things`, and
/// `validate on RAW`.
///
/// # Panics
/// When the broker does not tell.
pub async fn roads(stack: &Stack) -> BTreeMap<String, Value> {
    let client = stack.context().expect("a stack has a site").nats().await;
    let js = client::context(client.expect("the operator is let in"));
    let streams: Vec<_> = js.streams().try_collect().await.expect("the streams");
    let mut found = BTreeMap::new();
    for info in streams {
        let name = info.config.name.clone();
        let stream = js.get_stream(&name).await.expect("it was listed");
        let consumers: Vec<consumer::Info> = stream.consumers().try_collect().await.expect("its consumers");
        // What lives only as long as its reader is no road.
        for one in consumers.iter().filter(|one| one.config.durable_name.is_some()) {
            let is = json!({ "made": one.created.to_string(), "config": one.config });
            found.insert(format!("{} on {name}", one.name), is);
        }
        let is = json!({ "made": info.created.to_string(), "config": info.config });
        found.insert(name, is);
    }
    found
}

/// Every user of the broker's configuration: its name, and its block there.
///
/// # Panics
/// When the file cannot be read.
pub fn users(stack: &Stack) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(stack.layout().users()).expect("a stack has users");
    let blocks = text.split("\n  # ").skip(1);
    blocks
        .map(|block| {
            let (name, rights) = block.split_once('\n').expect("a name, then its rights");
            (
                name.to_owned(),
                rights.trim_end_matches("]\n").trim_end().to_owned(),
            )
        })
        .collect()
}
