//! `spillway lake …`: what to do with the lake.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `lake`.
#[derive(Debug, Args)]
pub struct Lake {
    /// What to do with it
    #[command(subcommand)]
    pub action: LakeAction,
}

/// What to do with the lake.
#[derive(Debug, Subcommand)]
pub enum LakeAction {
    /// Compare WAL and tables; exit 1 if a row is missing, doubled or out of order
    Verify(LakeVerify),
}

/// `lake verify`.
#[derive(Debug, Args)]
pub struct LakeVerify {
    /// Configuration (TOML): its WAL and its lake are compared
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON line
    #[arg(long)]
    pub json: bool,
}
