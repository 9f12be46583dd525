//! The stages that a message passed, as `Telltale-Hops` has them.
use serde::Serialize;
use telltale_schemas::Timestamp;

/// One stage that a message passed, or one try there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hop {
    /// `bridge`, `nats` (published there directly), or a worker.
    pub stage: String,
    /// How often it had been tried there by then.
    pub attempt: u32,
    /// When the stage began with it.
    pub start: Timestamp,
    /// When it was done with it; for `bridge` when RAW had it, for `store` when the transaction was about to commit.
    pub end: Timestamp,
    /// From start to end.
    pub took_ms: f64,
    /// From the end of the hop before: in the broker, or until the next attempt.
    pub waited_ms: Option<f64>,
    /// accepted, passed, failed (tried again), refused, stored, duplicate or unkept.
    pub verdict: String,
}

/// Reads hops; what is none of ours is left out. The last one ends as `verdict` says.
pub(super) fn parse(text: &str, verdict: &str) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::new();
    for part in text.split(',') {
        let mut fields = part.trim().split(';');
        let (Some(stage), Some(attempt), Some(start), Some(end), None) = (
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
        ) else {
            continue;
        };
        let at = |micros: &str| Timestamp::from_micros(micros.parse().ok()?);
        let (Ok(attempt), Some(start), Some(end)) = (attempt.parse(), at(start), at(end)) else {
            continue;
        };
        let waited = hops.last().map(|before| milliseconds(before.end, start));
        if let Some(before) = hops.last_mut().filter(|before| before.stage == stage) {
            "failed".clone_into(&mut before.verdict);
        }
        hops.push(Hop {
            stage: stage.to_owned(),
            attempt,
            start,
            end,
            took_ms: milliseconds(start, end),
            waited_ms: waited,
            verdict: match stage {
                "bridge" | "nats" => "accepted".to_owned(),
                _ => "passed".to_owned(),
            },
        });
    }
    if let Some(last) = hops.last_mut().filter(|_| !verdict.is_empty()) {
        verdict.clone_into(&mut last.verdict);
    }
    hops
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_micros() - from.as_micros()) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hop_says_how_long_it_took_and_how_long_the_way_to_it() {
        let text = "bridge;1;1000;3000,validate;1;4000;5000,validate;3;9000;9500,store;1;10000;12000";
        let hops = parse(text, "stored");
        let told: Vec<_> = hops
            .iter()
            .map(|hop| {
                (
                    hop.stage.as_str(),
                    hop.attempt,
                    hop.took_ms,
                    hop.waited_ms,
                    hop.verdict.as_str(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("bridge", 1, 2.0, None, "accepted"),
                ("validate", 1, 1.0, Some(1.0), "failed"),
                ("validate", 3, 0.5, Some(4.0), "passed"),
                ("store", 1, 2.0, Some(0.5), "stored"),
            ]
        );
    }

    #[test]
    fn what_is_no_hop_is_left_out() {
        for text in [
            "",
            "x",
            "a;b;c;d",
            "a;1;2",
            "a;1;2;3;4",
            "a;1;99999999999999999999;3",
        ] {
            assert_eq!(parse(text, "stored"), [], "{text}");
        }
    }
}
