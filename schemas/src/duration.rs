//! Durations as people write them in policies and flags.
use std::time::Duration;

/// Parses `7d`, `36h`, `90m`, `30s`, `500ms`: a whole number and one unit.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        for (text, millis) in [
            ("7d", 604_800_000),
            ("36h", 129_600_000),
            ("90m", 5_400_000),
            ("30s", 30_000),
            ("500ms", 500),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "7",
            "d",
            "7 d",
            "-7d",
            "7.5h",
            "7D",
            "1w",
            "99999999999999999999d",
            "9999999999999999999d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
