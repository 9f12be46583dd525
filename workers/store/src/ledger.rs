//! What became of the messages of RAW, as sets of their sequences.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use telltale_schemas::RawSeq;

/// Sequences in one row of the ledger: a row is rewritten whole whenever its set grows.
const BLOCK: i64 = 65_536;

/// How a message of RAW ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fate {
    /// It is rows.
    Stored,
    /// Its id was there already, from another message of RAW.
    Duplicate,
    /// A stage refused it, and it is kept whole.
    Quarantined,
    /// A stage refused it, and the quarantine was full.
    Unkept,
}

impl Fate {
    /// The word in SQL and in metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Quarantined => "quarantined",
            Self::Unkept => "unkept",
        }
    }
}

/// As PostgreSQL can hold it; what it cannot is no sequence of a stream.
pub(crate) fn raw(rawseq: Option<RawSeq>) -> (Option<i64>, Option<i64>) {
    let fits = rawseq.and_then(|raw| Some((i64::try_from(raw.epoch).ok()?, i64::try_from(raw.seq).ok()?)));
    fits.unzip()
}

/// Fates of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Tally<'a>(BTreeMap<(&'a str, i64, i64, Fate), Vec<i64>>);

/// The columns of a tally, as arrays.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns<'a> {
    pub(crate) sites: Vec<&'a str>,
    pub(crate) epochs: Vec<i64>,
    pub(crate) blocks: Vec<i64>,
    pub(crate) fates: Vec<&'static str>,
    pub(crate) seqs: Vec<String>,
}

impl<'a> Tally<'a> {
    pub(crate) fn add(&mut self, site: &'a str, rawseq: Option<RawSeq>, fate: Fate) {
        if let (Some(epoch), Some(seq)) = raw(rawseq) {
            self.0
                .entry((site, epoch, seq / BLOCK, fate))
                .or_default()
                .push(seq);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn columns(self) -> Columns<'a> {
        let mut columns = Columns::default();
        for ((site, epoch, block, fate), seqs) in self.0 {
            columns.sites.push(site);
            columns.epochs.push(epoch);
            columns.blocks.push(block);
            columns.fates.push(fate.word());
            columns.seqs.push(multirange(seqs));
        }
        columns
    }
}

/// `{[1,4),[7,8)}`
fn multirange(mut seqs: Vec<i64>) -> String {
    seqs.sort_unstable();
    let mut text = String::from("{");
    let mut rest = seqs.as_slice();
    while let [first, ..] = rest {
        let mut end = first + 1;
        let mut taken = 1;
        while let Some(next) = rest.get(taken).filter(|next| **next <= end) {
            end = next + 1;
            taken += 1;
        }
        if text.len() > 1 {
            text.push(',');
        }
        write!(text, "[{first},{end})").expect("a String takes all");
        rest = rest.get(taken..).unwrap_or_default();
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_join_into_ranges_whatever_their_order_and_repetition() {
        for (seqs, text) in [
            (vec![], "{}"),
            (vec![5], "{[5,6)}"),
            (vec![3, 1, 2, 2, 7], "{[1,4),[7,8)}"),
            (vec![9, 9, 10], "{[9,11)}"),
        ] {
            assert_eq!(multirange(seqs), text);
        }
    }

    #[test]
    fn a_tally_keeps_sites_epochs_blocks_and_fates_apart() {
        let mut tally = Tally::default();
        let at = |epoch, seq| Some(RawSeq { epoch, seq });
        tally.add("b", at(1, 65_535), Fate::Stored);
        tally.add("b", at(1, 65_536), Fate::Stored);
        tally.add("a", at(1, 1), Fate::Duplicate);
        tally.add("a", at(u64::MAX, 1), Fate::Stored);
        tally.add("a", None, Fate::Stored);
        let columns = tally.columns();
        assert_eq!(columns.sites, ["a", "b", "b"]);
        assert_eq!(columns.blocks, [0, 0, 1]);
        assert_eq!(columns.fates, ["duplicate", "stored", "stored"]);
        assert_eq!(columns.seqs, ["{[1,2)}", "{[65535,65536)}", "{[65536,65537)}"]);
    }
}
