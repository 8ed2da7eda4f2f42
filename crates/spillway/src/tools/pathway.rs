//! `spillway pathway check`: whether a pathway serves players as steering takes for granted.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use spillway_orchestrator::OrchestratorConfig;
use spillway_service::SystemClock;
use spillway_steering::check::{self, Known, Target, TargetError, Wanted};

use crate::cli::pathway::{Action, Check, Pathway};
use crate::config::Config;
use crate::tools::BadUsage;

/// Runs the action.
///
/// # Errors
/// A bad argument or configuration; a fault of the pathway.
pub async fn run(arguments: &Pathway) -> anyhow::Result<()> {
    match &arguments.action {
        Action::Check(check) => self::check(check).await,
    }
}

async fn check(arguments: &Check) -> anyhow::Result<()> {
    let config = arguments.config.as_deref().map(Config::load).transpose()?;
    let deployment = config.as_ref().map(Config::deployment).transpose()?;
    let probe = config.as_ref().map_or_else(|| OrchestratorConfig::default().probe, |it| it.orchestrator.probe.clone());
    let read = |file: &std::path::PathBuf| std::fs::read(file).with_context(|| format!("read {}", file.display()));
    let authorities = arguments.tls_ca.as_ref().map(read).transpose()?;
    let wanted = Wanted {
        what: &arguments.what,
        path: arguments.path.as_deref(),
        probed: [&probe.small_path, &probe.segment_path],
        origin: arguments.origin.as_deref(),
        page: arguments.page.as_deref(),
        authorities: authorities.as_deref(),
        at: &arguments.at,
    };
    let steer = config.as_ref().and_then(|config| config.steer.as_ref());
    let known = deployment.as_deref().map(|deployment| Known { deployment, steer });
    let target = Target::new(&wanted, known).map_err(|error| match error {
        TargetError::Argument(text) => anyhow::Error::from(BadUsage(text)),
        TargetError::Config(error) => error.into(),
    })?;
    let report = check::run(&target, Arc::new(SystemClock::new())).await?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    if report.faults > 0 {
        bail!("{} faults of {}", report.faults, arguments.what);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_nobody_declared_is_bad_usage_and_a_pathway_that_is_gone_a_fault() {
        let fails = async |what: &str| {
            let check = Check {
                what: what.into(),
                config: None,
                path: None,
                origin: None,
                page: None,
                tls_ca: None,
                at: vec![],
                json: true,
            };
            run(&Pathway { action: Action::Check(check) }).await.expect_err("refused")
        };
        let unknown = fails("cdn-a").await;
        assert!(unknown.is::<BadUsage>() && unknown.to_string().contains("--config"), "{unknown}");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
        let gone = fails(&format!("http://{closed}")).await;
        assert!(!gone.is::<BadUsage>() && gone.to_string().starts_with("1 faults of http://127.0.0.1"), "{gone}");
    }
}
