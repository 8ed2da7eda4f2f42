//! `manifest`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

/// `manifest`.
#[derive(Debug, Args)]
pub struct Manifest {
    /// What to do with it
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with a manifest.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// The manifest in force, or that of an epoch that is kept, or a file
    Show(Show),
    /// The manifests that are kept, the newest first
    History(History),
    /// What changed between two manifests
    Diff(Diff),
    /// Go back to the weights of an earlier manifest, for a time
    Rollback(Rollback),
    /// Check files as a steering node does: signature, then every rule
    Verify(Verify),
    /// Make and sign a manifest by hand, for when nothing else runs
    Make(Make),
}

/// An orchestrator and a region.
#[derive(Debug, Args)]
pub struct Where {
    /// Base URL of an orchestrator
    #[arg(long, value_name = "URL")]
    pub orchestrator: String,
    /// Region
    #[arg(long, value_name = "ID")]
    pub region: String,
}

/// `manifest show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Envelope in a file (as in the directory that manifests are published to)
    #[arg(required_unless_present = "orchestrator", conflicts_with_all = ["orchestrator", "region"])]
    pub file: Option<PathBuf>,
    /// Base URL of an orchestrator
    #[arg(long, value_name = "URL", requires = "region")]
    pub orchestrator: Option<String>,
    /// Region
    #[arg(long, value_name = "ID", requires = "orchestrator")]
    pub region: Option<String>,
}

/// `manifest history`.
#[derive(Debug, Args)]
pub struct History {
    /// Where
    #[command(flatten)]
    pub at: Where,
    /// So many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub limit: u64,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `manifest diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// Two envelopes in files, the earlier one first
    #[arg(num_args = 2, required_unless_present = "orchestrator", conflicts_with_all = ["orchestrator", "region", "from", "to", "shadow"])]
    pub files: Vec<PathBuf>,
    /// Base URL of an orchestrator
    #[arg(long, value_name = "URL", requires = "region")]
    pub orchestrator: Option<String>,
    /// Region
    #[arg(long, value_name = "ID", requires = "orchestrator")]
    pub region: Option<String>,
    /// Epoch before; by default the one before --to
    #[arg(long, value_name = "EPOCH")]
    pub from: Option<u64>,
    /// Epoch after; by default the one in force
    #[arg(long, value_name = "EPOCH")]
    pub to: Option<u64>,
    /// How the shadow plan differs from what is steered by
    #[arg(long, conflicts_with = "from")]
    pub shadow: bool,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

/// `manifest rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Where
    #[command(flatten)]
    pub at: Where,
    /// Epoch whose weights are wanted
    #[arg(long)]
    pub epoch: u64,
    /// Why
    #[arg(long)]
    pub reason: String,
    /// Ends by itself after so many seconds, at most 72 h
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=259_200))]
    pub expires_s: u64,
    /// Admin token of role operator
    #[arg(long, env = "SPILLWAY_TOKEN", hide_env_values = true)]
    pub token: String,
}

/// `manifest verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Envelopes
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Public keys; by default keys.json beside each file
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
}

/// `manifest make`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("kind").required(true).args(["by_static_weights", "evacuate"])))]
#[command(group(ArgGroup::new("scope").required(true).args(["region", "all"])))]
#[command(group(ArgGroup::new("to").required(true).args(["out", "publish"])))]
pub struct Make {
    /// Everybody by static weights
    #[arg(long = "static")]
    pub by_static_weights: bool,
    /// Everybody off this pathway or group; what it had goes to the others by spare room
    #[arg(long, value_name = "PATHWAY")]
    pub evacuate: Option<String>,
    /// For this region
    #[arg(long, value_name = "ID")]
    pub region: Option<String>,
    /// For every region; one that does not have the pathway is left out
    #[arg(long)]
    pub all: bool,
    /// Configuration: its regions and pathways, and its store
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Key to sign with, one that nodes know
    #[arg(long, value_name = "KEYFILE")]
    pub sign: PathBuf,
    /// The last manifest: an envelope, or a folder of REGION.json (a node's own copies). Without it what is in the store
    /// counts with --publish, else the configuration
    #[arg(long, value_name = "FILE|FOLDER")]
    pub from: Option<PathBuf>,
    /// Its epoch, above what nodes have (see /internal/steer); by default one more than --from
    #[arg(long, conflicts_with = "publish")]
    pub epoch: Option<u64>,
    /// Holds for so many seconds, then its static weights; by default as the configuration says
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(60..=2_592_000))]
    pub valid_s: Option<u64>,
    /// Why, for people
    #[arg(long, default_value = "made by hand")]
    pub reason: String,
    /// Writes REGION.json and keys.json there
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Puts it into the configuration's store
    #[arg(long)]
    pub publish: bool,
}
