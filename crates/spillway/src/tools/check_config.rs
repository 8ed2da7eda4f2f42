//! `spillway check-config`: reads a configuration as the roles would.

use crate::cli::CheckConfig;
use crate::config::Config;

/// Prints what the file says, or fails with the key, the value and what is valid.
///
/// # Errors
/// A [`spillway_service::config::ConfigError`].
pub fn run(arguments: &CheckConfig) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let parameters = config.parameters()?;
    config.lake_root()?;
    if config.edge.is_some() && config.region.is_empty() {
        println!("{}: valid (an own edge)", arguments.config.display());
        return Ok(());
    }
    let deployment = config.deployment()?;
    spillway_orchestrator::setup(&deployment, parameters.clone())?;
    println!(
        "{}: valid ({} regions, {} pathways, {} groups, {} properties)",
        arguments.config.display(),
        deployment.regions.len(),
        deployment.pathways.len(),
        deployment.groups.len(),
        deployment.properties.len(),
    );
    if arguments.explain {
        for line in parameters.describe() {
            println!("{:<32} {:>12} {:<10} {}", line.0, line.1, line.2, line.3);
        }
    }
    Ok(())
}
