//! Who watches by what: regions, pathways, players, quality.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A world file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldFile {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Bitrate of a view that nothing holds back, kbit/s.
    pub bitrate_kbps: u64,
    /// Mean length of a view, s; lengths are exponential. Default 1200.
    #[serde(default = "twenty_minutes")]
    pub view_s: f64,
    /// Bitrates that a player can choose from in session mode, kbit/s. Default: `bitrate_kbps` alone.
    #[serde(default)]
    pub ladder_kbps: Vec<u64>,
    /// Swing of the diurnal curve: 0 level, 0.6 from 40 % in the morning to 160 % at 21 h. Default 0.6.
    #[serde(default = "swing")]
    pub diurnal: f64,
    /// Regions.
    pub region: Vec<Region>,
    /// Pathways.
    pub pathway: Vec<Pathway>,
    /// Player behaviour.
    #[serde(default)]
    pub players: Players,
    /// What is bad on any day, and what load and cold caches add.
    #[serde(default)]
    pub quality: Quality,
    /// Where misses go.
    #[serde(default)]
    pub origin: Origin,
}

/// A region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its id.
    pub id: String,
    /// Mean views at a time.
    pub views: u64,
    /// Networks by number; or
    #[serde(default)]
    pub networks: Vec<u32>,
    /// how many networks.
    #[serde(default)]
    pub network_count: u32,
    /// Sizes of the networks: the k-th has a part in proportion to k^-zipf. Default 0: all alike.
    #[serde(default)]
    pub zipf: f64,
    /// Weights of the policy `static`, of the holdback and of the fall-back, by pathway; brought to a sum of 1.
    pub static_weights: BTreeMap<String, f64>,
}

/// A pathway.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pathway {
    /// Its id; own nodes begin with `own-`.
    pub id: String,
    /// Own cluster that it is a node of.
    pub group: Option<String>,
    /// Regions that it serves; empty: all.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Ceiling, Mbit/s.
    pub capacity_mbps: f64,
    /// Price of the next GB, USD.
    #[serde(default)]
    pub price_usd_per_gb: f64,
    /// Price steps of a month: from so many TB on, USD per GB; sorted. Default: one price.
    #[serde(default)]
    pub tiers: Vec<(f64, f64)>,
    /// TB a month that are paid whether used or not. Default 0.
    #[serde(default)]
    pub commit_tb: f64,
    /// Price of the 95th percentile of 5-minute means over the run, USD per Mbit/s. Default 0.
    #[serde(default)]
    pub p95_usd_per_mbps: f64,
    /// Level of that percentile that is paid in any case, Mbit/s. Default 0.
    #[serde(default)]
    pub p95_commit_mbps: f64,
}

/// How players behave.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Players {
    /// Length of a media segment, s. Default 4.
    pub segment_s: u64,
    /// Buffer that players hold, s. Default 12.
    pub buffer_s: u64,
    /// Time between heartbeats (length of a window), s. Default 10.
    pub heartbeat_s: u64,
    /// Share of views that ignore steering and know one pathway only. Default 0.03.
    pub ignore_steering: f64,
    /// Share of requests that fail on any day. Default 0.001.
    pub usual_failures: f64,
    /// Share of beacons that are lost. Default 0.02.
    pub beacons_lost: f64,
    /// Share of beacons that tell of a bad window where there was none, or none where there was one. Default 0.001.
    pub beacons_wrong: f64,
    /// Median bandwidth of a client, Mbit/s. Default 20.
    pub bandwidth_mbps: f64,
    /// Kinds of players that follow steering, with their shares among these. Default: as measured.
    pub kind: Vec<PlayerKind>,
}

/// How one kind of player leaves a broken pathway by itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayerKind {
    /// Its name.
    pub name: String,
    /// Its part of the views that follow steering, in any unit.
    pub part: f64,
    /// First failed request → leaves, s, when answered 404; absent: never.
    pub leaves_404_s: Option<f64>,
    /// The same for 503.
    pub leaves_503_s: Option<f64>,
    /// The same for a connection that is reset.
    pub leaves_reset_s: Option<f64>,
    /// The same for a request that hangs.
    pub leaves_hang_s: Option<f64>,
    /// It comes back after, s; 0: with the next poll.
    pub returns_s: f64,
    /// Whether it gives a hanging request up when steered elsewhere; else it waits for its own timeout.
    pub aborts: bool,
}

impl Default for Players {
    /// Kinds as measured with hls.js 1.7.4, dash.js 5.2.1, Shaka 5.2.12 and VHS 3.17.5. Where a measurement only says
    /// "not within the time watched", the time is the sum of the retries in the player's default configuration.
    fn default() -> Self {
        let kind = |name: &str, part, leaves: [f64; 4], returns_s, aborts| PlayerKind {
            name: name.into(),
            part,
            leaves_404_s: Some(leaves[0]),
            leaves_503_s: Some(leaves[1]),
            leaves_reset_s: Some(leaves[2]),
            leaves_hang_s: Some(leaves[3]),
            returns_s,
            aborts,
        };
        Self {
            segment_s: 4,
            buffer_s: 12,
            heartbeat_s: 10,
            ignore_steering: 0.03,
            usual_failures: 0.001,
            beacons_lost: 0.02,
            beacons_wrong: 0.001,
            bandwidth_mbps: 20.0,
            kind: vec![
                kind("hls.js", 0.50, [0.01, 31.0, 0.01, 50.0], 300.0, true),
                kind("dash.js", 0.20, [3.0, 3.0, 3.0, 20.0], 0.0, false),
                kind("shaka", 0.20, [1.0, 0.9, 1.0, 11.0], 60.0, false),
                kind("vhs", 0.10, [2.0, 2.0, 2.0, 20.0], 0.0, true),
            ],
        }
    }
}

/// Quality on any day, and what load and cold caches do to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quality {
    /// Share of windows that are bad on any day. Default 0.009.
    pub usual_bad_windows: f64,
    /// Log-normal spread of that rate from pathway to pathway within a region. Default 0.15.
    pub spread_pathways: f64,
    /// And from network to network on one pathway. Default 0.4.
    pub spread_networks: f64,
    /// Utilisation above which load makes windows bad. Default 0.9.
    pub load_knee: f64,
    /// Share of bad windows per utilisation above the knee. Default 2: 20 % at 100 %.
    pub load_slope: f64,
    /// Share of bytes that warm caches hold. Default 0.95.
    pub hit_ratio: f64,
    /// Share of the bytes of newly moved views that the caches there lack. Default 0.15.
    pub cold_miss: f64,
    /// Time in which caches become warm, s. Default 180.
    pub warm_s: f64,
    /// Share of windows that a miss ratio of 1 makes bad. Default 0.1.
    pub miss_bad: f64,
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            usual_bad_windows: 0.009,
            spread_pathways: 0.15,
            spread_networks: 0.4,
            load_knee: 0.9,
            load_slope: 2.0,
            hit_ratio: 0.95,
            cold_miss: 0.15,
            warm_s: 180.0,
            miss_bad: 0.1,
        }
    }
}

/// The origin.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Origin {
    /// Ceiling as a multiple of its usual load; misses above it fail. Default 0: none.
    pub ceiling_times: f64,
}

const fn twenty_minutes() -> f64 {
    1200.0
}

const fn swing() -> f64 {
    0.6
}
