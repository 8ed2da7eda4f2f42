//! `spillway check-config`: reads a configuration as the roles would.

use crate::cli::CheckConfig;
use crate::config::Config;

/// Where rows go and how many of them.
fn posted(collectors: &[String], share: f64, what: &str, none: &str) -> String {
    let to = if collectors.is_empty() { none.to_owned() } else { collectors.join(", ") };
    format!("the {what} of {} % of sessions, to {to}", share * 100.0)
}

/// Prints what the file says, or fails with the key, the value and what is valid.
///
/// # Errors
/// A [`spillway_service::config::ConfigError`].
pub fn run(arguments: &CheckConfig) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let deployment = config.validated()?;
    if let Some(edge) = &config.edge {
        println!("access log: {}", posted(&edge.collectors, edge.deliveries_share, "requests", "none"));
    }
    if let Some(agent) = &config.edge_agent {
        println!("edge agent: {}", agent.describe());
    }
    let Some(deployment) = deployment else {
        let what = if config.edge.is_some() { "an own edge" } else { "an edge agent" };
        println!("{}: valid ({what})", arguments.config.display());
        return Ok(());
    };
    if let Some(steer) = &config.steer {
        let default = "the collector beside it in `spillway all`, else none";
        let collectors = steer.collectors.clone();
        let none = if collectors.is_some() { "none" } else { default };
        let said = posted(&collectors.unwrap_or_default(), steer.sample_share, "steering answers", none);
        println!("steering samples: {said}");
    }
    println!(
        "{}: valid ({} regions, {} pathways, {} groups, {} properties)",
        arguments.config.display(),
        deployment.regions.len(),
        deployment.pathways.len(),
        deployment.groups.len(),
        deployment.properties.len(),
    );
    if arguments.explain {
        for line in config.parameters()?.describe() {
            println!("{:<32} {:>12} {:<10} {}", line.0, line.1, line.2, line.3);
        }
    }
    Ok(())
}
