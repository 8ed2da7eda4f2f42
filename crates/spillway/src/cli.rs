//! The command line.

pub mod lake;
pub mod manifest;
pub mod pathway;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use spillway_own_edge::agent::ServerKind;

/// Own edges carry the river; commercial CDNs are the spillway.
#[derive(Debug, Parser)]
#[command(name = "spillway", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Roles and tools.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Collector, orchestrator, steering node and dashboard in one process
    All(File),
    /// Take beacons in, write them to the lake, count them live
    Collector(File),
    /// Observe, decide, publish manifests
    Orchestrator(File),
    /// Answer players from the newest manifest
    Steer(File),
    /// Operators' pages
    Dashboard(File),
    /// HTTP cache for media, reports its load
    Edge(Edge),
    /// Report the load of an nginx, Varnish or Traffic Server beside it, as an own edge does
    EdgeAgent(EdgeAgent),
    /// Check a configuration; with --explain, print every number that decides
    CheckConfig(CheckConfig),
    /// SQL over the lake, the newest rows included
    Query(Query),
    /// Look after the lake: import, verify, compact, rewrite, vacuum, retain, checkpoint, forget
    Lake(lake::Lake),
    /// Run a drill and print its report
    Drill(Drill),
    /// Look at manifests, compare them, go back, or make one by hand
    Manifest(Box<manifest::Manifest>),
    /// Ask a pathway as players do, and say what it does wrong
    Pathway(Box<pathway::Pathway>),
    /// Take objects out of the caches of own edges
    Purge(Purge),
    /// Have an orchestrator read its configuration again, or say what that would change
    Reload(Reload),
    /// Why a session got its order, in five lines
    Explain(Explain),
    /// Send load, bounded, as many players would
    Load(Load),
    /// Make an admin token and its hash
    Token,
    /// Make a manifest signing key
    Keygen(Keygen),
    /// Judge a policy in a simulated world
    Simulate(Simulate),
    /// Decide recorded rounds again under another configuration, and compare
    Backtest(Backtest),
    /// Every tool that is named in the design and not there yet
    #[command(external_subcommand)]
    NotYet(Vec<String>),
}

/// A configuration file.
#[derive(Debug, Args)]
pub struct File {
    /// Configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `edge`.
#[derive(Debug, Args)]
pub struct Edge {
    #[command(flatten)]
    pub file: File,
    /// Let drills break what this edge answers: --fault, and /v1/faults with the service token
    #[arg(long)]
    pub unsafe_faults: bool,
    /// Broken from the start, as `status = 503, share_percent = 30, prefix = "/live/"`; also latency_ms, throttle_kbps,
    /// reset = true, hang = true (own-edge/README.md, "Faults")
    #[arg(long, value_name = "FAULT", requires = "unsafe_faults", value_parser = fault)]
    pub fault: Vec<spillway_own_edge::Fault>,
}

fn fault(text: &str) -> Result<spillway_own_edge::Fault, String> {
    let fault: spillway_own_edge::Fault = toml::from_str::<toml::Table>(&format!("fault = {{ {text} }}"))
        .map_err(|error| error.message().to_owned())
        .and_then(|mut table| {
            table
                .remove("fault")
                .unwrap_or(toml::Value::Boolean(false))
                .try_into()
                .map_err(|error: toml::de::Error| error.message().to_owned())
        })?;
    fault.check().map_err(|error| error.to_string())?;
    Ok(fault)
}

/// `edge-agent`.
#[derive(Debug, Args)]
pub struct EdgeAgent {
    /// Configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Which server it stands beside: nginx, varnish or ats [default: what the configuration says]
    #[arg(long = "for", value_name = "SERVER")]
    pub beside: Option<ServerKind>,
}

/// `check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print every number that decides, with its unit and reason
    #[arg(long)]
    pub explain: bool,
}

/// `query`.
#[derive(Debug, Args)]
pub struct Query {
    /// SQL; `SHOW TABLES` lists what there is to ask
    #[arg(required_unless_present = "metrics")]
    pub sql: Option<String>,
    /// Configuration: its lake is read, and its collector asked for the newest rows
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The lake as it was, without rows that were not committed: at a time (2026-01-01T00:00:00Z), at a version of the
    /// one table that the statement reads, or TABLE=VERSION (may be repeated)
    #[arg(long, value_name = "VERSION|TIME", conflicts_with = "metrics")]
    pub at: Vec<String>,
    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Comma-separated values
    #[arg(long)]
    pub csv: bool,
    /// Write a Parquet file instead of printing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "csv"])]
    pub parquet: Option<PathBuf>,
    /// List the metrics with their formulas and the SQL views that compute them
    #[arg(long, conflicts_with = "sql")]
    pub metrics: bool,
}

/// `drill`.
#[derive(Debug, Args)]
pub struct Drill {
    /// What to do with it
    #[command(subcommand)]
    pub action: DrillAction,
}

/// What to do with a drill.
#[derive(Debug, Subcommand)]
pub enum DrillAction {
    /// Start it, wait, print the report; Ctrl-C aborts it and restores
    Run(DrillRun),
}

/// `drill run`.
#[derive(Debug, Args)]
pub struct DrillRun {
    /// Drill (TOML)
    pub file: PathBuf,
    /// Base URL of the orchestrator
    #[arg(long, value_name = "URL")]
    pub orchestrator: String,
    /// Admin token of role operator
    #[arg(long, env = "SPILLWAY_TOKEN", hide_env_values = true)]
    pub token: String,
    /// The report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `purge`.
#[derive(Debug, Args)]
pub struct Purge {
    /// Base URLs of the edges' admin ports, or of the edges where they have none; shields first
    #[arg(long, value_name = "URL,URL…", value_delimiter = ',', required = true)]
    pub edges: Vec<String>,
    /// Path with its query, or absolute URL, whose host doesn't matter; may be repeated, as the two below
    #[arg(long)]
    pub url: Vec<String>,
    /// Beginning of paths: `/vod/film-7/`
    #[arg(long)]
    pub prefix: Vec<String>,
    /// As the origin's Surrogate-Key or Cache-Tag names it
    #[arg(long)]
    pub tag: Vec<String>,
    /// Keep it, but have it validated before it is served again
    #[arg(long)]
    pub soft: bool,
    /// The service token
    #[arg(long, env = "SPILLWAY_SERVICE_TOKEN", hide_env_values = true)]
    pub token: String,
}

/// `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// Base URL of the orchestrator
    #[arg(long, value_name = "URL")]
    pub orchestrator: String,
    /// Change nothing, and say what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Admin token of role operator
    #[arg(long, env = "SPILLWAY_TOKEN", hide_env_values = true)]
    pub token: String,
    /// The answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Base URL of a steering node
    #[arg(long, value_name = "URL")]
    pub steer: String,
    /// The session by its signed token, as it stands in a steering URI (`t=`)
    #[arg(long, value_name = "TOKEN")]
    pub session_token: Option<String>,
    /// The session by its id; needs a token of role viewer
    #[arg(long, value_name = "SID", required_unless_present = "session_token", conflicts_with = "session_token")]
    pub session: Option<String>,
    /// Title that it watches, with --session
    #[arg(long, value_name = "ID", requires = "session")]
    pub content: Option<String>,
    /// Region, with --session; by default that of the caller
    #[arg(long, value_name = "ID", requires = "session")]
    pub region: Option<String>,
    /// Admin token of role viewer
    #[arg(long, env = "SPILLWAY_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// All that is known, as JSON
    #[arg(long)]
    pub json: bool,
}

/// `load`.
#[derive(Debug, Args)]
pub struct Load {
    /// What to send
    #[command(subcommand)]
    pub what: LoadWhat,
}

/// What to send.
#[derive(Debug, Subcommand)]
pub enum LoadWhat {
    /// Beacons to a collector, each until it is acknowledged; ends at --seconds or --count, whichever is first
    Beacons(Box<LoadBeacons>),
    /// Write the events that `load beacons` sends as NDJSON, to give another tool the same work
    Events(LoadEvents),
    /// Send marked beacons and measure when queries see them
    Freshness(LoadFreshness),
}

/// `load events`.
#[derive(Debug, Args)]
pub struct LoadEvents {
    /// File to write
    pub file: PathBuf,
    /// Events
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub count: u64,
    /// Views that they are of, in turn
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub views: u64,
    /// Pathways of the views
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', default_value = "cdn-a,cdn-b")]
    pub pathways: Vec<String>,
}

/// `load freshness`.
#[derive(Debug, Args)]
pub struct LoadFreshness {
    /// Configuration: its collector gets the marks, its lake is looked at
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Duration, s
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// One JSON line
    #[arg(long)]
    pub json: bool,
}

/// `load beacons`.
#[derive(Debug, Args)]
pub struct LoadBeacons {
    /// Collector (http:// or https://); without a path, /v1/beacons is taken
    #[arg(long)]
    pub url: String,
    /// Write key
    #[arg(long)]
    pub key: String,
    /// Another collector: connections are spread over both, and a beacon that one does not take goes to the other
    #[arg(long, value_name = "URL")]
    pub failover: Option<String>,
    /// Events of a beacon
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub events_per_beacon: u64,
    /// Connections, kept alive; each has one beacon under way
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub connections: u64,
    /// Views, spread over the connections
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub views: u64,
    /// Beacons a second, all connections together
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// As many beacons as the collector takes
    #[arg(long, conflicts_with = "rate")]
    pub max: bool,
    /// Duration, s
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Beacons; without it only the duration ends the run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub count: Option<u64>,
    /// Pathways of the views
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', default_value = "cdn-a,cdn-b")]
    pub pathways: Vec<String>,
    /// Compress bodies
    #[arg(long)]
    pub gzip: bool,
    /// Certificates (PEM) that vouch for an https collector
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub tls_ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long)]
    pub insecure: bool,
    /// Names the views; a seed used again sends the same events. Default: the time
    #[arg(long)]
    pub seed: Option<u64>,
    /// One JSON line
    #[arg(long)]
    pub json: bool,
    /// Append a line `view_id first_seq count` for each acknowledged beacon
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Send to other machines than this one
    #[arg(long)]
    pub allow_remote: bool,
}

/// `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// File to write; must not exist
    pub file: PathBuf,
}

/// `simulate`.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Scenario (TOML); its world is looked for in `worlds/` beside it and one folder up
    #[arg(required_unless_present = "suite", conflicts_with = "suite")]
    pub scenario: Option<PathBuf>,
    /// Suite that comes with the program: core, validation
    #[arg(long)]
    pub suite: Option<String>,
    /// Policy; a suite plays all of them without it
    #[arg(long)]
    pub policy: Option<String>,
    /// Seed of a single run
    #[arg(long, default_value_t = 1, conflicts_with = "seeds")]
    pub seed: u64,
    /// Plays seeds 1 to this, all policies side by side
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: Option<u64>,
    /// Mode of a single run: fluid or session; the scenario's first one without it
    #[arg(long, value_parser = ["fluid", "session"])]
    pub mode: Option<String>,
    /// Also the engine without each of its parts
    #[arg(long)]
    pub ablations: bool,
    /// Folder of bandwidth traces for session mode: files with lines of seconds and Mbit/s
    #[arg(long)]
    pub traces: Option<PathBuf>,
    /// JSON lines
    #[arg(long)]
    pub json: bool,
    /// Writes a page with verdicts, tables and plots
    #[arg(long)]
    pub html: Option<PathBuf>,
}

/// `backtest`.
#[derive(Debug, Args)]
pub struct Backtest {
    /// The lake whose rounds are replayed: a path, a file:// URL or s3://bucket/prefix; by default that of --config
    #[arg(long, value_name = "URI")]
    pub lake: Option<String>,
    /// Configuration to try: its regions, pathways, [policy] and [orchestrator] decide
    #[arg(long, value_name = "NEW")]
    pub config: PathBuf,
    /// Configuration to compare with; by default the one that was in force, as it was recorded
    #[arg(long, value_name = "OLD")]
    pub base: Option<PathBuf>,
    /// First round: 2026-01-01T00:00:00Z, a day, or ms since epoch
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// Rounds before this
    #[arg(long, value_name = "TIME")]
    pub to: String,
    /// Orchestrator whose rounds are replayed, where several recorded; by default the one with most
    #[arg(long, value_name = "ID")]
    pub orchestrator: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Writes a page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}
