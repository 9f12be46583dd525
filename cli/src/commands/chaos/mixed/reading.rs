//! Readings by number: what is sent, and what has to become of it.
use crate::commands::courier::Parcel;
use bytes::Bytes;
use telltale_checker::ledger::Class;
use telltale_schemas::{Timestamp, id};

/// A device's clock may be that much ahead: more than any policy allows.
const AHEAD_MICROS: i64 = 86_400 * 1_000_000;
/// Ten years: late, and taken from one who may bring what is old.
const BEHIND_MICROS: i64 = 3_652 * 86_400 * 1_000_000;
/// Of a device whose clock was reset. `validate` takes it from one who may bring what is old; the database has no
/// day for it.
const RESET: &str = "1970-01-01T00:00:01Z";
/// The largest body that the bridge takes.
const LARGE: usize = 256 * 1024;

/// Ways to be invalid that the bridge cannot see: it takes bytes. Each `{n}` is the reading's number.
const INVALID: [&[u8]; 7] = [
    br#"{"number":{n},"temperature":"#,
    b"\x00\xff\xfe nothing that anybody reads {n}",
    br#"{"number":{n},"number":1}"#,
    br#"{"number":[{n},[[[[]]]]]}"#,
    br#"{"number":{n},"text":"\ud800"}"#,
    b"{\"number\":{n},\"text\":\"\xc3\x28\"}",
    br#"{"number":{n}} {"number":{n}}"#,
];

/// How many of a thousand are what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) invalid: u64,
    pub(super) duplicates: u64,
}

/// What is special about the clock of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Right,
    Ahead,
    Behind,
    /// Refused by `store`, alone among the rows of its batch.
    Reset,
}

/// One reading to send.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) class: Class,
    pub(super) sha256: String,
    pub(super) parcel: Parcel,
    /// The time of its rows, where its device says one and tells the truth.
    pub(super) time: Option<Timestamp>,
    pub(super) clock: Clock,
    /// How often it is sent.
    pub(super) times: u32,
}

/// The reading of that number. `odd`: the device's clock is wrong, `large`: as long as may be.
pub(super) fn make(n: u64, thing: String, shares: Shares, odd: bool, large: bool) -> Made {
    // Mixed, so that each thing has all of them, however many things there are.
    let chance = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let now = Timestamp::now();
    let clock = match chance % 5 {
        _ if !odd => Clock::Right,
        0 => Clock::Ahead,
        1 => Clock::Behind,
        2 => Clock::Reset,
        _ => Clock::Right,
    };
    let (class, mut body, time) = if clock != Clock::Right {
        let time = match clock {
            Clock::Ahead => now.plus_micros(AHEAD_MICROS).to_string(),
            Clock::Behind => now.plus_micros(-BEHIND_MICROS).to_string(),
            _ => RESET.to_owned(),
        };
        let class = if clock == Clock::Behind {
            Class::Good
        } else {
            Class::Bad
        };
        (
            class,
            format!(r#"{{"number":{n},"time":"{time}"}}"#).into_bytes(),
            None,
        )
    } else if chance % 1_000 < shares.invalid {
        let way = usize::try_from(chance).unwrap_or_default() % INVALID.len();
        (Class::Bad, numbered(INVALID[way], n), None)
    } else if chance.is_multiple_of(2) {
        let body = format!(r#"{{"number":{n},"time":"{now}","temperature":{}.5}}"#, n % 40);
        (Class::Good, body.into_bytes(), Some(now))
    } else {
        (Class::Good, format!(r#"{{"number":{n}}}"#).into_bytes(), None)
    };
    if large {
        body.resize(LARGE, b' ');
    }
    let key = format!("k{n}");
    Made {
        id: id::of(&thing, &key),
        class,
        sha256: id::digest(&body),
        time,
        clock,
        times: if (chance / 1_000) % 1_000 < shares.duplicates {
            2
        } else {
            1
        },
        parcel: Parcel {
            thing,
            key: Some(key),
            content_type: "application/json",
            body: Bytes::from(body),
        },
    }
}

fn numbered(template: &[u8], n: u64) -> Vec<u8> {
    let number = n.to_string();
    let mut body = Vec::with_capacity(template.len() + number.len());
    let mut rest = template;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"{n}") {
            body.extend_from_slice(number.as_bytes());
            rest = after;
        } else {
            body.push(*first);
            rest = after;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use telltale_schemas::decode;

    const SHARES: Shares = Shares {
        invalid: 100,
        duplicates: 10,
    };

    fn all(odd: bool) -> Vec<Made> {
        let make = |n| make(n, format!("thing-{}", n % 7), SHARES, odd, false);
        (0..10_000).map(make).collect()
    }

    fn is_read(made: &Made) -> bool {
        let thing = Some(made.parcel.thing.as_str());
        decode::decode(
            Some("application/json"),
            &made.parcel.body,
            thing,
            Timestamp::now(),
        )
        .is_ok()
    }

    #[test]
    fn a_tenth_cannot_be_read_in_each_of_the_ways_and_a_hundredth_comes_twice() {
        let all = all(false);
        for one in &all {
            let text = String::from_utf8_lossy(&one.parcel.body);
            assert_eq!(is_read(one), one.class == Class::Good, "{text}");
        }
        let bad = all.iter().filter(|one| one.class == Class::Bad).count();
        assert!((800..1_200).contains(&bad), "{bad} are invalid");
        let twice = all.iter().filter(|one| one.times == 2).count();
        assert!((60..150).contains(&twice), "{twice} come twice");
        let ids: HashSet<_> = all.iter().map(|one| &one.id).collect();
        assert_eq!(ids.len(), all.len());
    }

    #[test]
    fn an_odd_clock_is_read_and_left_to_those_who_judge_time() {
        for clock in [Clock::Ahead, Clock::Behind, Clock::Reset] {
            let all = all(true);
            let odd: Vec<_> = all.iter().filter(|one| one.clock == clock).collect();
            assert!(odd.len() > 1_000, "{clock:?}");
            assert!(odd.iter().all(|one| is_read(one)), "{clock:?}");
        }
    }

    #[test]
    fn a_large_one_is_as_large_as_may_be_and_read() {
        let made = make(1, "t".to_owned(), SHARES, false, true);
        assert_eq!(made.parcel.body.len(), LARGE);
        assert!(is_read(&made));
    }
}
