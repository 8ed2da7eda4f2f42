//! What an operator may set of the orchestrator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::canary::CanaryConfig;

/// `[orchestrator]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrchestratorConfig {
    /// Address of the read API, the load reports and the admin API. Default `127.0.0.1:4302`.
    pub listen: SocketAddr,
    /// Name of this process. Default `orchestrator-1`.
    pub id: String,
    /// Time between two decisions, ms. Default 2000.
    pub round_ms: u64,
    /// How long a manifest holds when no newer one comes, s; then its static weights count. Default 86400.
    pub manifest_valid_s: u64,
    /// Folder that manifests (`REGION.json`) and keys (`keys.json`) are also published to. Default: none.
    pub publish_dir: Option<PathBuf>,
    /// Bucket that they are also published to: `s3://bucket/prefix`; all else of it by the usual `AWS_` variables.
    /// Default: none.
    pub publish_url: Option<String>,
    /// File of the key that is to sign manifests next (`spillway keygen` makes one). Default: none.
    pub next_key_file: Option<PathBuf>,
    /// The next key signs once it has been announced for so long, s. Default 3600.
    pub key_lead_s: u64,
    /// Processes whose frames should come each second (collectors and steering nodes): the share that comes is how far
    /// telemetry is trusted. Default 2.
    pub frame_sources: u32,
    /// Whether what each round went by goes into the lake (table `rounds`), so that `spillway backtest` can decide it again
    /// under another policy. Default true.
    pub record_rounds: bool,
    /// Hosts (`host:port`) that a drill's webhooks may reach. Default none: no drill can inject.
    pub drill_hosts: Vec<String>,
    /// Most that commercial pathways may cost per hour, USD; demand beyond it gets a lower bitrate. Default: no limit.
    pub spill_usd_per_hour_max: Option<f64>,
    /// Content classes, the least important first: so they give up bitrate when capacity is short. Classes that are not
    /// named give up last.
    pub class_order: Vec<String>,
    /// So many of the most watched titles of its region are fetched into an own edge that is new or comes back, 0 to 64.
    /// Default 10.
    pub prewarm_top: usize,
    /// Whether an own edge that takes no new sessions may send them (307) to the next pathway that is well and has room;
    /// else it answers 503, and players go on by themselves. Default false.
    pub redirect_new_sessions: bool,
    /// Ceilings that several pathways share.
    pub ceilings: CeilingsConfig,
    /// Probes.
    pub probe: ProbeConfig,
    /// A change of policy on trial.
    pub canary: Option<CanaryConfig>,
}

/// `[orchestrator.ceilings]`: Mbit/s by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CeilingsConfig {
    /// Points of presence, as pathways name them in `pop`.
    pub pops: BTreeMap<String, f64>,
    /// Own clusters.
    pub groups: BTreeMap<String, f64>,
    /// Everything that a region's viewers get.
    pub regions: BTreeMap<String, f64>,
    /// Misses that an origin group can answer.
    pub origin_groups: BTreeMap<String, f64>,
}

/// `[orchestrator.probe]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Whether to probe. Default true.
    pub enabled: bool,
    /// Time between two probes of a pathway × region, s. Default 5.
    pub interval_s: u64,
    /// A small object, below each pathway's base URL: a canary that is cached. Default `/vod/master.m3u8`.
    pub small_path: String,
    /// A media segment. Default `/vod/v360/1.m4s`.
    pub segment_path: String,
    /// A small object that takes longer is a failure, ms. Default 2000.
    pub small_timeout_ms: u64,
    /// A segment that takes longer than it plays is a failure, ms. Default 2000.
    pub segment_timeout_ms: u64,
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4302)),
            id: "orchestrator-1".into(),
            round_ms: 2_000,
            manifest_valid_s: 86_400,
            publish_dir: None,
            publish_url: None,
            next_key_file: None,
            key_lead_s: 3_600,
            frame_sources: 2,
            record_rounds: true,
            drill_hosts: Vec::new(),
            spill_usd_per_hour_max: None,
            class_order: Vec::new(),
            prewarm_top: 10,
            redirect_new_sessions: false,
            ceilings: CeilingsConfig::default(),
            probe: ProbeConfig::default(),
            canary: None,
        }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_s: 5,
            small_path: "/vod/master.m3u8".into(),
            segment_path: "/vod/v360/1.m4s".into(),
            small_timeout_ms: 2_000,
            segment_timeout_ms: 2_000,
        }
    }
}
