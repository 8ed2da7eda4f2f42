//! `pathway`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `pathway`.
#[derive(Debug, Args)]
pub struct Pathway {
    /// What to do with it
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with a pathway.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Ask it as players do: addresses, TLS, CORS, ranges, bytes, caching, tokens, clock. Ends with 1 on a fault
    Check(Check),
}

/// `pathway check`.
#[derive(Debug, Args)]
pub struct Check {
    /// A pathway of the configuration, or a base URL
    #[arg(value_name = "NAME|URL")]
    pub what: String,
    /// Configuration: its pathways, signers and origins, and what is probed
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A title's playlist (HLS or DASH) or a segment, below the base URL; by default what the orchestrator probes
    #[arg(long)]
    pub path: Option<String>,
    /// Base URL of the origin to compare with; by default the one that the configuration has for the path
    #[arg(long, value_name = "URL")]
    pub origin: Option<String>,
    /// Origin of the page to ask as (https://www.example.com); by default the first of the configuration's properties
    #[arg(long, value_name = "ORIGIN")]
    pub page: Option<String>,
    /// Certificates (PEM) that vouch for the pathway and the origin; by default the system's
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Address to ask instead of those that the name has (may be repeated): a pathway that is in no zone yet
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub at: Vec<SocketAddr>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}
