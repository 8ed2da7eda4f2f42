//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    Edge(File),
    /// Check a configuration; with --explain, print every number that decides
    CheckConfig(CheckConfig),
    /// SQL over the lake, the newest rows included
    Query(Query),
    /// Run a drill and print its report
    Drill(Drill),
    /// Make an admin token and its hash
    Token,
    /// Make a manifest signing key
    Keygen(Keygen),
    /// Judge a policy in a simulated world
    Simulate(Simulate),
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
    /// SQL; the tables are `events` and `decisions`
    pub sql: String,
    /// Configuration: its lake is read, and its collector asked for the newest rows
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Comma-separated values
    #[arg(long)]
    pub csv: bool,
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

/// `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// File to write; must not exist
    pub file: PathBuf,
}

/// `simulate`.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Scenario (TOML)
    pub scenario: PathBuf,
    /// Policy
    #[arg(long, default_value = "spillway", value_parser = ["spillway", "static"])]
    pub policy: String,
    /// Seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// One JSON line
    #[arg(long)]
    pub json: bool,
}
