//! `spillway lake …`: looks after the lake.

use anyhow::bail;
use spillway_lake::lake_root;

use crate::cli::lake::{Lake, LakeAction, LakeVerify};
use crate::config::Config;

/// Does what was asked and prints what was done.
///
/// # Errors
/// A bad configuration, an unreadable lake, a `verify` that is not clean.
pub async fn run(arguments: &Lake) -> anyhow::Result<()> {
    match &arguments.action {
        LakeAction::Verify(arguments) => verify(arguments).await,
    }
}

async fn verify(arguments: &LakeVerify) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let root = std::path::absolute(config.lake_dir())?;
    let root = lake_root(&root.to_string_lossy())?;
    let report = spillway_lake::verify::verify(&root, Some(&config.wal_dir())).await?;
    println!("{}", serde_json::to_string(&report)?);
    if report.gaps + report.duplicates > 0 {
        bail!("{} gaps, {} duplicates", report.gaps, report.duplicates);
    }
    Ok(())
}
