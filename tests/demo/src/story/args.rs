//! The command line of the demo.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The whole flow on one machine: viewers, own edges, commercial CDNs, an outage, and a drill that proves it.
#[derive(Debug, Clone, Parser)]
#[command(name = "spillway-demo", version)]
pub struct Args {
    /// The `spillway` binary
    #[arg(long, value_name = "FILE")]
    pub spillway: PathBuf,
    /// Length of the story, s
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u32).range(70..=3_600))]
    pub seconds: u32,
    /// Viewers at the peak
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(10..=3_000))]
    pub viewers: u32,
    /// Go on serving after the story, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Run only the story without steering
    #[arg(long, value_enum)]
    pub policy: Option<Policy>,
    /// End with one JSON line on standard output; progress goes to standard error
    #[arg(long)]
    pub json: bool,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder for configuration, logs, lake and store; made anew [default: a new one for temporary files]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The SDK's built bundles, for /watch
    #[arg(long, value_name = "DIR")]
    pub sdk: Option<PathBuf>,
    /// hls.js, for /watch
    #[arg(long, value_name = "FILE")]
    pub hls_js: Option<PathBuf>,
    /// Configuration [default: deploy/demo.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Which story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Every region in mode `observe`: players are on their own.
    Static,
}
