//! What the pages are made of: the newest overview, and the shares of the last minutes.

use std::sync::{Arc, Mutex, PoisonError};

use spillway_wire::overview::Overview;

use crate::history::History;

/// Version of the overview that this crate reads.
const VERSION: u32 = 1;
/// Older data is called old: five rounds.
pub(crate) const STALE_MS: u64 = 10_000;
/// Regions of an overview: a page with more helps nobody, and its fragment goes to every open page.
const REGIONS_MAX: usize = 128;
/// Pathways of an overview.
const PATHWAYS_MAX: usize = 256;

/// Why an overview is not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not JSON, or not of this shape.
    #[error("overview is not readable: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A version from the future.
    #[error("overview has version {0} (valid: {VERSION})")]
    Version(u32),
    /// More than a page can hold.
    #[error("overview has {regions} regions and {pathways} pathways (valid: up to {REGIONS_MAX} and {PATHWAYS_MAX})")]
    TooLarge {
        /// Regions of it.
        regions: usize,
        /// Pathways of it.
        pathways: usize,
    },
    /// Older than the one that is shown, which is not stale yet.
    #[error("overview of {at_ms} ms is older than the one shown, of {shown_ms} ms")]
    Older {
        /// Its time.
        at_ms: u64,
        /// The time of the one shown.
        shown_ms: u64,
    },
}

impl Refusal {
    /// Stable name for logs.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Version(_) => "version",
            Self::TooLarge { .. } => "too_large",
            Self::Older { .. } => "older",
        }
    }
}

/// The newest overview and its history.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// The newest; none before the first.
    pub(crate) overview: Option<Overview>,
    /// Shares of the last minutes.
    pub(crate) history: History,
}

impl Board {
    /// Takes what came over the bus at `now_ms`; what is refused changes nothing.
    pub(crate) fn accept(&mut self, message: &[u8], now_ms: u64) -> Result<(), Refusal> {
        let overview: Overview = serde_json::from_slice(message)?;
        if overview.v != VERSION {
            return Err(Refusal::Version(overview.v));
        }
        let widest = overview.regions.values().map(|region| region.pathways.len()).max().unwrap_or(0);
        let (regions, pathways) = (overview.regions.len(), overview.pathways.len().max(widest));
        if regions > REGIONS_MAX || pathways > PATHWAYS_MAX {
            return Err(Refusal::TooLarge { regions, pathways });
        }
        if let Some(shown) = &self.overview
            && overview.at_ms < shown.at_ms
        {
            // A clock that stepped back must not freeze the page for ever; a late message must not rewind it.
            if now_ms.abs_diff(shown.at_ms) <= STALE_MS {
                return Err(Refusal::Older { at_ms: overview.at_ms, shown_ms: shown.at_ms });
            }
            self.history = History::default();
        }
        self.history.push(&overview);
        self.overview = Some(overview);
        Ok(())
    }
}

/// A board that the bus's reader and the pages share.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedBoard(Arc<Mutex<Board>>);

impl SharedBoard {
    /// Runs `with` on the board. Nothing in it may wait.
    pub(crate) fn with<T>(&self, with: impl FnOnce(&mut Board) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(at_ms: u64) -> Vec<u8> {
        serde_json::to_vec(&Overview { v: 1, at_ms, ..Overview::default() }).expect("JSON")
    }

    #[test]
    fn a_bad_overview_leaves_the_last_good_one() {
        let mut board = Board::default();
        board.accept(&overview(1_000), 1_000).expect("good");
        for (bad, reason) in [(&b"{"[..], "unreadable"), (&br#"{"v":2}"#[..], "unreadable"), (&b""[..], "unreadable")] {
            assert_eq!(board.accept(bad, 1_000).expect_err("bad").reason(), reason);
        }
        let mut future = Overview { v: 2, at_ms: 2_000, ..Overview::default() };
        let refusal = board.accept(&serde_json::to_vec(&future).expect("JSON"), 2_000).expect_err("version 2");
        assert_eq!(refusal.reason(), "version");
        future.v = 1;
        future.regions = (0..129).map(|n| (format!("r{n}"), Default::default())).collect();
        let refusal = board.accept(&serde_json::to_vec(&future).expect("JSON"), 2_000).expect_err("129 regions");
        assert_eq!(refusal.reason(), "too_large");
        assert_eq!(board.overview.expect("kept").at_ms, 1_000);
    }

    #[test]
    fn a_late_overview_does_not_rewind_but_a_clock_that_stepped_back_goes_on() {
        let mut board = Board::default();
        board.accept(&overview(50_000), 50_000).expect("good");
        assert_eq!(board.accept(&overview(48_000), 50_500).expect_err("late").reason(), "older");
        board.accept(&overview(20_000), 20_000).expect("the clock stepped back");
        assert_eq!(board.overview.expect("there").at_ms, 20_000);
    }
}
