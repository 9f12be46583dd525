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

    /// Those that are in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (from, to) = (a.0.max(b.0), a.1.min(b.1));
            if from < to {
                both.push((from, to));
            }
            if a.1 < b.1 {
                left.next()
            } else {
                right.next()
            };
        }
        Self(both)
    }

    /// Those below that sequence.
    pub(super) fn below(&self, end: i64) -> Self {
        Self::new(self.0.iter().map(|(from, to)| (*from, (*to).min(end))))
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
    fn sets_are_cut_and_counted() {
        let a = Ranges::new([(1, 5), (7, 8), (10, 20)]);
        let b = Ranges::new([(2, 3), (4, 11), (15, 16), (19, 30)]);
        assert_eq!(
            a.and(&b),
            Ranges::new([(2, 3), (4, 5), (7, 8), (10, 11), (15, 16), (19, 20)])
        );
        assert_eq!(a.count(), 15);
        assert_eq!(a.below(12), Ranges::new([(1, 5), (7, 8), (10, 12)]));
        assert_eq!(a.below(1), Ranges::default());
        assert_eq!(a.told(2), "1..4 7 ...");
    }
}
