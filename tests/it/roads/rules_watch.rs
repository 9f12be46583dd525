//! The bucket `rules` as `process` follows it, over a wire that is cut.
use super::{Broker, PATIENCE, manifest};
use prometheus::Registry;
use std::net::{Ipv4Addr, SocketAddr};
use telltale_checker::proxy::{Direction, Tcp, Toxic};
use telltale_process::{
    derive::Derive,
    rules::{Engine, Watch},
};
use telltale_tests::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_applied_while_the_wire_is_down_is_in_force_once_it_is_back() {
    let process = r#"{"name":"process","inputs":["annotated","derived"],"outputs":["derived","event","command"],
        "events":["*"],"commands":["*"],"buckets":["rules"]}"#;
    let broker = Broker::with(&[manifest(process)]).await;
    let rules = broker.context().await.get_key_value("rules").await.unwrap();
    let rule = |name: &str| format!(r#"{{"name":"{name}","when":"x > 1.0","then":[{{"event":"e"}}]}}"#);
    rules.put("gone", rule("gone").into()).await.unwrap();
    let wire = Tcp::start(SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port)))
        .await
        .unwrap();
    let connection = broker
        .connect_through(wire.address().port(), "process")
        .await
        .unwrap();
    let watch = Watch::open(&connection.client, &Registry::new()).await.unwrap();
    let (mut engine, mut derive) = (Engine::default(), Derive::default());
    let mut in_force = || {
        watch.refresh(&mut engine, &mut derive);
        let names: Vec<String> = engine.rules().map(|rule| rule.name).collect();
        names
    };
    assert_eq!(in_force(), ["gone"]);

    wire.set(Direction::Both, Toxic::Down);
    wire.reset_all();
    rules.put("new", rule("new").into()).await.unwrap();
    rules.delete("gone").await.unwrap();
    assert_eq!(in_force(), ["gone"], "nothing is heard of that yet");
    wire.heal();
    tokio::task::block_in_place(|| {
        eventually("what was put and deleted meanwhile", PATIENCE, || {
            (in_force() == ["new"]).then_some(())
        });
    });
    assert!(wire.counters().connections >= 2, "it was cut");
    rules.put("newer", rule("newer").into()).await.unwrap();
    tokio::task::block_in_place(|| {
        eventually("what is put from then on", PATIENCE, || {
            (in_force() == ["new", "newer"]).then_some(())
        });
    });
}
