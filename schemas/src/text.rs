//! Text from strangers, where people read it.
use std::borrow::Cow;

/// Characters that move the cursor, or let a text look like another: control characters, and those of format. A
/// terminal or a log must show them, not obey them.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// A cell of CSV, quoted where it must be.
pub fn csv_cell(cell: &str) -> Cow<'_, str> {
    // A spreadsheet takes text that begins so for a formula, where it stands without quotes.
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t']) && cell.parse::<f64>().is_err();
    if is_formula || cell.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", cell.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (cell, written) in [
            ("=cmd()", "\"=cmd()\""),
            ("@SUM(A1)", "\"@SUM(A1)\""),
            ("-2+3", "\"-2+3\""),
            ("-2.5e3", "-2.5e3"),
            ("a=b", "a=b"),
            ("a\"b", "\"a\"\"b\""),
        ] {
            assert_eq!(csv_cell(cell), written);
        }
    }

    #[test]
    fn what_only_looks_is_not_hostile() {
        assert!(
            "\n\r\t\u{1b}\u{7f}\u{9b}\u{202e}\u{2066}\u{2028}"
                .chars()
                .all(is_hostile)
        );
        assert!(!"aé\u{65e5}\u{1f600} \u{301}=<".chars().any(is_hostile));
    }
}
