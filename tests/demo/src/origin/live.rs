//! The live loop's arithmetic: which segments exist at a moment.

use std::ops::RangeInclusive;

use crate::media::SEGMENT_MS;

/// Start of segment 0: 2020-01-01T00:00:00Z, in milliseconds since the Unix epoch. A fixed moment,
/// so that sequence numbers survive a restart; a late one, so that decode times stay small.
pub const LIVE_EPOCH_MS: u64 = 1_577_836_800_000;

/// Segments in a live media playlist, and the tolerance for clocks that run ahead.
pub const WINDOW_SEGMENTS: u64 = 6;

const KEPT_MS: u64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    Available,
    /// More than one window ahead of the live edge.
    Future,
    /// Ended more than five minutes ago.
    Gone,
}

/// The clip repeated without end from [`LIVE_EPOCH_MS`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveLoop {
    fragments: u64,
}

impl LiveLoop {
    /// `fragments`: number in one loop, above 0.
    pub(crate) fn new(fragments: u64) -> Self {
        Self { fragments: fragments.max(1) }
    }

    /// The segments of the playlist at this moment; none in the first two seconds of the epoch.
    pub(crate) fn window(self, now_ms: u64) -> Option<RangeInclusive<u64>> {
        let newest = complete(now_ms).checked_sub(1)?;
        Some(newest.saturating_sub(WINDOW_SEGMENTS - 1)..=newest)
    }

    pub(crate) fn availability(self, now_ms: u64, sequence: u64) -> Availability {
        let complete = complete(now_ms);
        if sequence >= complete + WINDOW_SEGMENTS {
            Availability::Future
        } else if end_ms(sequence) + KEPT_MS < now_ms {
            Availability::Gone
        } else {
            Availability::Available
        }
    }

    /// Which fragment of the clip a segment is.
    pub(crate) fn fragment_index(self, sequence: u64) -> usize {
        usize::try_from(sequence % self.fragments).expect("below the number of fragments")
    }

    /// How often the clip has been played before this segment.
    pub(crate) fn loops(self, sequence: u64) -> u64 {
        sequence / self.fragments
    }

    /// Whether a discontinuity precedes this segment.
    pub(crate) fn starts_loop(self, sequence: u64) -> bool {
        sequence > 0 && sequence.is_multiple_of(self.fragments)
    }

    /// Discontinuities that have left a playlist which now starts with this segment. Its own
    /// stays as long as it does.
    pub(crate) fn discontinuities_before(self, sequence: u64) -> u64 {
        self.loops(sequence) - u64::from(self.starts_loop(sequence))
    }
}

/// Start of a segment on the wall clock.
pub(crate) fn start_ms(sequence: u64) -> u64 {
    LIVE_EPOCH_MS + sequence * SEGMENT_MS
}

fn end_ms(sequence: u64) -> u64 {
    start_ms(sequence) + SEGMENT_MS
}

fn complete(now_ms: u64) -> u64 {
    now_ms.saturating_sub(LIVE_EPOCH_MS) / SEGMENT_MS
}
