//! Sets of sequences, as sorted ranges.

/// Ranges `from..to`, sorted and apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(i64, i64)>);

impl Ranges {
    /// From sorted ranges that are apart, as PostgreSQL gives a multirange.
    pub(super) fn new(ranges: impl IntoIterator<Item = (i64, i64)>) -> Self {
        Self(ranges.into_iter().filter(|(from, to)| from < to).collect())
    }

    /// How many sequences.
    pub(super) fn count(&self) -> i64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// The greatest of them.
    pub(super) fn last(&self) -> Option<i64> {
        self.0.last().map(|(_, to)| to - 1)
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, sequence: i64) -> bool {
        self.0.iter().any(|(from, to)| (*from..*to).contains(&sequence))
    }

    /// Each of them.
    pub(super) fn each(&self) -> impl Iterator<Item = i64> {
        self.0.iter().flat_map(|(from, to)| *from..*to)
    }

    /// From `3`, `5..9` and the like, separated by commas or spaces; the last of a range belongs to it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut ranges = Vec::new();
        for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
            let (from, to) = part.split_once("..").unwrap_or((part, part));
            let (from, to): (i64, i64) = (from.parse().ok()?, to.parse().ok()?);
            if from < 1 || to < from || to == i64::MAX {
                return None;
            }
            ranges.push((from, to + 1));
        }
        ranges.sort_unstable();
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    /// As PostgreSQL reads a multirange, which may overlap there.
    pub(super) fn multirange(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(from, to)| format!("[{from},{to})")).collect();
        format!("{{{}}}", parts.join(","))
    }

    /// The first few, for people.
    pub(super) fn told(&self, most: usize) -> String {
        let one = |(from, to): &(i64, i64)| {
            if to - from == 1 {
                from.to_string()
            } else {
                format!("{from}..{}", to - 1)
            }
        };
        let mut parts: Vec<String> = self.0.iter().take(most).map(one).collect();
        if self.0.len() > most {
            parts.push("...".into());
        }
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_counted_told_and_read_back() {
        let a = Ranges::new([(1, 5), (7, 8), (10, 20), (20, 20)]);
        assert_eq!(a.count(), 15);
        assert_eq!(a.told(2), "1..4 7 ...");
        assert_eq!(Ranges::parse(&a.told(9)), Some(a.clone()));
        assert_eq!(a.each().take(6).collect::<Vec<_>>(), [1, 2, 3, 4, 7, 10]);
        assert_eq!(a.multirange(), "{[1,5),[7,8),[10,20)}");
    }

    #[test]
    fn what_is_no_set_of_sequences_is_refused() {
        for text in ["", "x", "0", "-1", "5..4", "1..", "1-4", "9223372036854775807"] {
            assert_eq!(Ranges::parse(text), None, "{text}");
        }
    }
}
