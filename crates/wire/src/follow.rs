//! Registry of players v1: which of them follow steering, for steering nodes.

use serde::{Deserialize, Serialize};

/// Store key of the registry.
pub const FOLLOW_KEY: &str = "follow/players";
/// Version that this module reads and writes.
pub const FOLLOW_VERSION: u32 = 1;

/// What is known of players.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowRegistry {
    /// 1.
    pub v: u32,
    /// Learned at, ms since epoch.
    pub at_ms: u64,
    /// By player and version.
    pub players: Vec<PlayerFollows>,
}

/// A player in one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerFollows {
    /// Player, as beacons name it.
    pub player: String,
    /// Its version; empty if it says none.
    pub version: String,
    /// Moves that it was told to make.
    pub moves: u64,
    /// Moves that it made.
    pub followed: u64,
    /// The orchestrator's verdict: whether it is steered. If not it gets playlists with a single pathway.
    pub follows: bool,
}
