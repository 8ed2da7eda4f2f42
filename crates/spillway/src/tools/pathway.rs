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
