//! What can break.

use serde::Deserialize;

/// Something that breaks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// How.
    pub kind: FaultKind,
    /// Which pathway; needed by `outage`, `brownout`, `drift`, `flap`, `capacity`, `industry`; `forged`: whom the
    /// beacons accuse.
    pub pathway: Option<String>,
    /// Own cluster, instead of a pathway.
    pub group: Option<String>,
    /// Where; absent: everywhere.
    pub region: Option<String>,
    /// Which network, by its size in the region (1: the largest); absent: all.
    pub network: Option<u32>,
    /// From, s after the start.
    pub start_s: u64,
    /// Until, s after the start.
    pub end_s: u64,
    /// Share that it hits: of views (`outage`, `isp`, `flap`), of segments (`brownout`, `drift`), of misses (`origin`),
    /// of the audience (`content`, `licence`), of frames (`telemetry`), of clients (`forged`). Default 1.
    #[serde(default = "one")]
    pub share: f64,
    /// What requests get. Default 503.
    #[serde(default)]
    pub status: Status,
    /// `brownout`, `drift`: how much longer a segment takes. Default 3.
    #[serde(default = "three")]
    pub slower: f64,
    /// Points of bad windows that it adds (fluid). Default: `share` for hard failures, 0.3 × `share` for slow ones.
    pub bad_windows: Option<f64>,
    /// Share of the views hit that can't report any more. Default 0.
    #[serde(default)]
    pub silent: f64,
    /// `flap`: length of one on-and-off, s. Default 120.
    #[serde(default = "two_minutes")]
    pub period_s: u64,
    /// `capacity`: what is really there, as a part of what is claimed; `industry`: what others leave over. Default 0.5.
    #[serde(default = "half")]
    pub factor: f64,
    /// `flood`: sessions per second that ask for a playlist and never play. Default 1000.
    #[serde(default = "thousand")]
    pub sessions_per_s: f64,
}

/// How something breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// Requests fail hard.
    Outage,
    /// Segments are slow.
    Brownout,
    /// A brownout that grows evenly from nothing at its start to its full size at its end.
    Drift,
    /// An outage that comes and goes.
    Flap,
    /// All pathways of a region or network fail.
    Isp,
    /// Misses fail on all pathways.
    Origin,
    /// One title fails on all pathways.
    Content,
    /// The licence server fails: views don't start, whatever the pathway.
    Licence,
    /// Less capacity than claimed.
    Capacity,
    /// Others fill the pathway.
    Industry,
    /// Frames are lost.
    Telemetry,
    /// Nobody decides.
    Orchestrator,
    /// Polls and playlists get no answer.
    Steering,
    /// Clients lie about a pathway.
    Forged,
    /// Bots ask for playlists.
    Flood,
}

impl FaultKind {
    /// Whether views should leave a pathway for it.
    pub(crate) const fn is_of_pathway(self) -> bool {
        matches!(self, Self::Outage | Self::Brownout | Self::Drift | Self::Flap)
    }
}

/// What a failing request gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Status {
    /// Answered with 404 at once.
    #[serde(rename = "404")]
    NotFound,
    /// Answered with 503 at once.
    #[default]
    #[serde(rename = "503")]
    Unavailable,
    /// The connection is reset.
    #[serde(rename = "reset")]
    Reset,
    /// Accepted and never answered.
    #[serde(rename = "hang")]
    Hang,
}

const fn one() -> f64 {
    1.0
}

const fn three() -> f64 {
    3.0
}

const fn two_minutes() -> u64 {
    120
}

const fn half() -> f64 {
    0.5
}

const fn thousand() -> f64 {
    1000.0
}
