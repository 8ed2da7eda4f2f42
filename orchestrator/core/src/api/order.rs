//! What operators want.

use spillway_model::{BitsPerSecond, RegionId, TimestampMs};
use spillway_routing::Target;

/// What an override does to its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OverrideKind {
    /// No new views at once, running views leave over the drain time.
    Drain,
    /// No views at once.
    Exclude,
    /// All views, even if it is DOWN.
    Pin,
    /// A fixed share, 0 to 1, as long as it isn't DOWN.
    Weight(f64),
    /// A lower ceiling.
    Cap(BitsPerSecond),
}

impl OverrideKind {
    /// Word for manifests and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Exclude => "exclude",
            Self::Pin => "pin",
            Self::Weight(_) => "weight",
            Self::Cap(_) => "cap",
        }
    }
}

/// An operator's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: OverrideKind,
    /// To what; a group means each of its nodes.
    pub target: Target,
    /// Where; `None`: everywhere.
    pub region: Option<RegionId>,
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// In force from.
    pub since: TimestampMs,
    /// In force until.
    pub expires: TimestampMs,
}

/// Why a region is left in peace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalmKind {
    /// An operator froze it.
    Freeze,
    /// A live ad break.
    AdBreak,
    /// A great event: no exploration.
    Event,
}

impl CalmKind {
    /// Word for reasons and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::AdBreak => "ad break",
            Self::Event => "event",
        }
    }
}

/// A time in which nothing is optimised. It never holds a move out of a pathway that is ill or too full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calm {
    /// Why.
    pub kind: CalmKind,
    /// Where; `None`: everywhere.
    pub region: Option<RegionId>,
    /// Until when.
    pub until: TimestampMs,
    /// Who or what asked for it, for people.
    pub reason: String,
}
