//! What is confirmed is stored, and what is not stored is told apart.
use super::{Broker, Connection, PATIENCE, on, outgoing};
use rustix::process::Signal;
use std::{net::Ipv4Addr, time::Duration};
use telltale_checker::proxy::{Direction, Tcp, Toxic};
use telltale_nats::{
    Lane, Outgoing, PublishError, Publisher, Topology,
    publish::{Ack, Options},
    topology::{Limits, Size},
};
use telltale_tests::subject;
use tokio::time::{Instant, timeout};

async fn publisher(broker: &Broker, options: Options) -> Publisher {
    let Connection { client, .. } = broker.connect("operator").await;
    Publisher::new(client, options)
}

fn readings(count: usize, prefix: &str) -> Vec<Outgoing> {
    (0..count)
        .map(|n| {
            outgoing(
                subject(Lane::Annotated, format!("t{}", n % 7), ""),
                Some(&format!("{prefix}{n}")),
                "READINGS",
            )
        })
        .collect()
}

async fn stored(broker: &Broker, stream: &str) -> u64 {
    broker
        .context()
        .await
        .get_stream(stream)
        .await
        .unwrap()
        .cached_info()
        .state
        .messages
}

fn sequences(results: &[Result<Ack, PublishError>]) -> Vec<u64> {
    results
        .iter()
        .map(|result| result.as_ref().unwrap().sequence)
        .collect()
}

const SINGLE: Options = Options {
    window: 2_000,
    ack_timeout: Duration::from_secs(5),
    atomic_min: 0,
};
const ATOMIC: Options = Options {
    atomic_min: 16,
    ..SINGLE
};

#[tokio::test]
async fn a_group_is_confirmed_in_its_order_by_any_way() {
    let broker = Broker::with(&[]).await;
    for (options, start) in [
        (SINGLE, 0),
        (Options { window: 3, ..SINGLE }, 2_500),
        (ATOMIC, 5_000),
        (Options { window: 20, ..ATOMIC }, 7_500),
    ] {
        let publisher = publisher(&broker, options).await;
        let results = publisher.publish(readings(2_500, &format!("{start}-"))).await;
        assert_eq!(
            sequences(&results),
            (start + 1..=start + 2_500).collect::<Vec<u64>>(),
            "{options:?}"
        );
    }
    assert_eq!(stored(&broker, "READINGS").await, 10_000);
}

#[tokio::test]
async fn a_group_for_several_streams_is_confirmed_by_each() {
    let broker = Broker::with(&[]).await;
    let publisher = publisher(&broker, ATOMIC).await;
    let mut group = readings(40, "a");
    for n in 0..40 {
        group.insert(2 * n, on(Lane::Event, format!("t{n}"), "x"));
    }
    group.push(outgoing("redo.store", None, "REDO"));
    let expected: Vec<&str> = group.iter().map(|one| one.stream).collect();
    let results = publisher.publish(group).await;
    let found: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().unwrap().stream.as_str())
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_batch_with_a_known_id_falls_back_and_tells_the_duplicate() {
    let broker = Broker::with(&[]).await;
    let publisher = publisher(&broker, ATOMIC).await;
    let first = publisher.send(readings(1, "a").remove(0)).await.unwrap();
    let results = publisher.publish(readings(100, "a")).await;
    let duplicates = results
        .iter()
        .filter(|result| result.as_ref().unwrap().duplicate)
        .count();
    assert_eq!(duplicates, 1);
    assert_eq!(results[0].as_ref().unwrap().sequence, first.sequence);
    assert_eq!(stored(&broker, "READINGS").await, 100);
    // All of it once more: all known, none stored again.
    let again = publisher.publish(readings(100, "a")).await;
    assert!(again.iter().all(|result| result.as_ref().unwrap().duplicate));
    assert_eq!(stored(&broker, "READINGS").await, 100);
}

#[tokio::test]
async fn a_stream_that_takes_no_batches_gets_single_messages() {
    let broker = Broker::with(&[]).await;
    let publisher = publisher(&broker, ATOMIC).await;
    for round in 1..=2 {
        let group = (0..50).map(|_| outgoing("redo.store", None, "REDO")).collect();
        assert!(publisher.publish(group).await.iter().all(Result::is_ok));
        assert_eq!(stored(&broker, "REDO").await, 50 * round);
    }
}

#[tokio::test]
async fn a_full_stream_is_told_from_a_full_subject() {
    let broker = Broker::bare().await;
    let mut topology = Topology::of(&broker.site);
    let small = Limits {
        max_bytes: Some(Size::of(4_096)),
        max_age: None,
    };
    topology.limit([("RAW", small)]).unwrap();
    let quarantine = topology
        .streams
        .iter_mut()
        .find(|stream| stream.name == "QUARANTINE")
        .unwrap();
    quarantine.max_messages_per_subject = Some(2);
    broker.provision(&topology, &[]).await;
    for options in [SINGLE, ATOMIC] {
        let publisher = publisher(&broker, options).await;
        let group = (0..200).map(|n| on(Lane::Raw, format!("t{n}"), "")).collect();
        let results = publisher.publish(group).await;
        assert_eq!(results.last().unwrap(), &Err(PublishError::Full), "{options:?}");

        let thing = if options.atomic_min == 0 { "a" } else { "b" };
        let mut group: Vec<_> = (0..20).map(|_| on(Lane::Quarantine, thing, "json")).collect();
        group.push(on(Lane::Quarantine, thing, "depth"));
        let results = publisher.publish(group).await;
        assert!(results[..2].iter().all(Result::is_ok), "{results:?}");
        assert!(
            results[2..20]
                .iter()
                .all(|result| *result == Err(PublishError::CapForSubject)),
            "{results:?}"
        );
        assert!(results[20].is_ok(), "another subject has room");
    }
}

#[tokio::test]
async fn what_is_too_large_or_malformed_holds_back_nothing_else() {
    let broker = Broker::with(&[]).await;
    let publisher = publisher(&broker, ATOMIC).await;
    let mut group = readings(30, "a");
    group[3].payload = vec![b' '; 1 << 20].into();
    group[4]
        .headers
        .push(("Telltale-Hops", "a\r\nNats-Rollup: all".into()));
    group[5].subject = "annotated local".into();
    let results = publisher.publish(group).await;
    assert_eq!(results[3], Err(PublishError::TooLarge));
    assert!(matches!(results[4], Err(PublishError::Other(_))));
    assert!(
        matches!(results[5], Err(PublishError::Other(_))),
        "{:?}",
        results[5]
    );
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 27);
    assert_eq!(stored(&broker, "READINGS").await, 27);
}

#[tokio::test]
async fn a_subject_that_no_stream_takes_is_told_at_once() {
    let broker = Broker::with(&[]).await;
    for options in [SINGLE, ATOMIC] {
        let publisher = publisher(&broker, options).await;
        let group = (0..20)
            .map(|_| outgoing("nowhere.local.t1", None, "READINGS"))
            .collect();
        let results = timeout(Duration::from_secs(2), publisher.publish(group))
            .await
            .unwrap();
        assert!(
            results
                .iter()
                .all(|result| matches!(result, Err(PublishError::Away(_)))),
            "{results:?}"
        );
        let elsewhere = publisher.publish(
            (0..20)
                .map(|_| outgoing("event.local.t1.x", None, "READINGS"))
                .collect(),
        );
        assert!(
            elsewhere
                .await
                .iter()
                .all(|result| matches!(result, Err(PublishError::Other(_))))
        );
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_away_within_the_time_out() {
    let broker = Broker::with(&[]).await;
    for options in [SINGLE, ATOMIC] {
        let publisher = publisher(
            &broker,
            Options {
                ack_timeout: Duration::from_millis(500),
                ..options
            },
        )
        .await;
        broker.signal(Signal::STOP);
        let start = Instant::now();
        let results = publisher.publish(readings(100, "a")).await;
        let took = start.elapsed();
        broker.signal(Signal::CONT);
        assert!(
            results
                .iter()
                .all(|result| matches!(result, Err(PublishError::Away(_))))
        );
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    // What was sent may have been stored after all: the same ids again are stored once.
    let publisher = publisher(&broker, ATOMIC).await;
    assert!(
        publisher
            .publish(readings(100, "a"))
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(stored(&broker, "READINGS").await, 100);
}

/// All of it at once takes twice as long as a confirmation may, and what is sent again waits behind what was
/// sent before.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_slow_connection_a_large_group_comes_through_in_parts() {
    let broker = Broker::with(&[]).await;
    let wire = Tcp::start((Ipv4Addr::LOCALHOST, broker.port).into())
        .await
        .unwrap();
    for (options, prefix) in [(SINGLE, "a"), (ATOMIC, "b")] {
        let through = broker.connect_through(wire.address().port(), "operator").await;
        let options = Options {
            ack_timeout: Duration::from_millis(500),
            ..options
        };
        let publisher = Publisher::new(through.unwrap().client, options);
        let mut left = readings(400, prefix);
        for reading in &mut left {
            reading.payload = vec![b' '; 1_000].into();
        }
        wire.set(Direction::Up, Toxic::Bandwidth(400_000));
        let (deadline, mut pause, mut attempts) =
            (Instant::now() + 3 * PATIENCE, Duration::from_millis(200), 0);
        while !left.is_empty() {
            assert!(
                Instant::now() < deadline,
                "{} are left after {attempts} attempts",
                left.len()
            );
            let results = publisher.publish(left.clone()).await;
            let mut confirmed = results.iter().map(Result::is_ok);
            left.retain(|_| !confirmed.next().unwrap());
            attempts += 1;
            // As whoever holds does.
            if !left.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(Duration::from_secs(2));
            }
        }
        assert!(attempts > 1, "it was slow");
        wire.heal();
    }
    assert_eq!(stored(&broker, "READINGS").await, 800);
}

#[tokio::test]
async fn a_server_that_is_killed_is_away_at_once_and_the_same_publisher_goes_on_after() {
    let mut broker = Broker::with(&[]).await;
    for (options, prefix) in [(SINGLE, "a"), (ATOMIC, "b")] {
        let publisher = publisher(
            &broker,
            Options {
                ack_timeout: Duration::from_secs(30),
                ..options
            },
        )
        .await;
        broker.signal(Signal::STOP);
        let start = Instant::now();
        let (results, ()) = tokio::join!(publisher.publish(readings(100, prefix)), async { broker.end() });
        assert!(
            results
                .iter()
                .all(|result| matches!(result, Err(PublishError::Away(_))))
        );
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        broker.restart().await;
        let deadline = Instant::now() + PATIENCE;
        while !publisher
            .publish(readings(100, prefix))
            .await
            .iter()
            .all(Result::is_ok)
        {
            assert!(Instant::now() < deadline, "it does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(stored(&broker, "READINGS").await, 200);
}

#[tokio::test]
async fn what_was_confirmed_survives_a_kill() {
    let mut broker = Broker::with(&[]).await;
    let publisher = publisher(&broker, ATOMIC).await;
    assert!(
        publisher
            .publish(readings(300, "a"))
            .await
            .iter()
            .all(Result::is_ok)
    );
    broker.end();
    broker.restart().await;
    assert_eq!(stored(&broker, "READINGS").await, 300);
}

#[tokio::test]
async fn the_same_id_twice_in_a_group_is_stored_once() {
    let broker = Broker::with(&[]).await;
    let publisher = publisher(&broker, ATOMIC).await;
    let mut group = readings(30, "a");
    group.push(group[7].clone());
    let results = publisher.publish(group).await;
    let (first, second) = (results[7].as_ref().unwrap(), results[30].as_ref().unwrap());
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(first.sequence, second.sequence);
    assert_eq!(stored(&broker, "READINGS").await, 30);
}

/// The server keeps at most 50 batches of a stream open.
#[tokio::test(flavor = "multi_thread")]
async fn many_groups_at_once_are_all_confirmed() {
    let broker = Broker::with(&[]).await;
    let publisher = publisher(&broker, ATOMIC).await;
    let groups = (0..200).map(|n| publisher.publish(readings(20, &format!("{n}-"))));
    for results in futures::future::join_all(groups).await {
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    assert_eq!(stored(&broker, "READINGS").await, 4_000);
}
