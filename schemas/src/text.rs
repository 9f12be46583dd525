//! Text from strangers, where people read it.

/// Characters that move the cursor, or let a text look like another: control characters, and those of format. A
/// terminal or a log must show them, not obey them.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

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
