//! What the lake has taught: usual rates, networks, hit ratios, forecasts, and what has been paid so far.

use std::collections::BTreeMap;

use spillway_model::{BitsPerSecond, PathwayId, RegionId};

/// Hours of a week; hour 0 begins on Monday at 0:00 UTC.
pub(crate) const HOURS_OF_WEEK: u64 = 168;

/// What queries over the lake have learned. All of it may be empty: decisions then go by what is heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    /// Usual bad-window rate by hour of the week (0 to 167, hour 0 on Monday at 0:00 UTC).
    pub baselines: BTreeMap<(PathwayId, RegionId, u8), f64>,
    /// How a network fares on a pathway in the long run.
    pub networks: BTreeMap<(PathwayId, RegionId, u32), NetworkHealth>,
    /// Cache hit ratios.
    pub hit_ratios: BTreeMap<PathwayId, HitRatio>,
    /// Views expected in 10 minutes ÷ views now, by the usual profile of the week; a region that isn't named stays.
    pub growth_10min: BTreeMap<RegionId, f64>,
    /// Bits per view by region; used until enough is measured.
    pub bits_per_view: BTreeMap<RegionId, BitsPerSecond>,
}

/// A network's windows on a pathway.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NetworkHealth {
    /// Windows.
    pub windows: f64,
    /// Bad ones.
    pub bad_windows: f64,
}

/// Hits ÷ requests by bytes, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HitRatio {
    /// When caches are warm.
    pub warm: f64,
    /// Of traffic that has just been moved there.
    pub after_move: f64,
}

/// What has been used of a contract in its billing period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bill {
    /// Volume so far, GB.
    pub used_gb: f64,
    /// Part of the period's volume that has usually been used by now, 0 to 1: the historical cumulative profile, not
    /// linear time.
    pub profile: f64,
    /// 95/5: the level that is billed so far, Mbit/s.
    pub level_mbps: f64,
    /// 95/5: 5-minute slots that may still lie above the level for free.
    pub free_slots: u32,
}
