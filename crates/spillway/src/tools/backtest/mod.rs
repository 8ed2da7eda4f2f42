//! `spillway backtest`: recorded rounds decided again, under the configuration of that time and under another one.

mod html;
mod text;

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Serialize;
use spillway_lake::rounds::{self, RoundName};
use spillway_lake::{LakeSession, iso, lake_root, moment};
use spillway_model::TimestampMs;
use spillway_orchestrator::replay::Replay;
use spillway_orchestrator::replay::report::{LIMITS, Report};
use spillway_orchestrator_core::Setup;
use spillway_service::geo::GeoConfig;

use crate::cli::Backtest;
use crate::config::Config;
use crate::tools::BadUsage;

/// Rounds are read in parts of this size: what a query may hold is bounded.
const PART_BYTES: u64 = 64 << 20;
/// How far before the span a row is looked for that says what was in force: rows carry everything every five minutes.
const LOOK_BACK_MS: u64 = 15 * 60 * 1000;
/// Below this the figures rest on another course of events than what was.
const FIDELITY_MIN: f64 = 0.99;

/// All that is said.
#[derive(Debug, Serialize)]
struct Backtested<'a> {
    lake: &'a str,
    orchestrator: &'a str,
    /// Others that recorded rounds in the span.
    other_orchestrators: &'a [String],
    from_ms: u64,
    to_ms: u64,
    base: &'a str,
    new: &'a str,
    /// Empty: nothing in the way of the figures.
    warnings: &'a [String],
    #[serde(flatten)]
    report: &'a Report,
    limits: [&'static str; LIMITS.len()],
}

/// Replays and prints what came out.
///
/// # Errors
/// A bad configuration, a time that is none, a lake that can't be read, a span without recorded rounds.
pub async fn run(arguments: &Backtest) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let new = setup(&config)?;
    let given = arguments.base.as_deref().map(|path| setup(&Config::load(path)?)).transpose()?;
    let (from_ms, to_ms) = (time("--from", &arguments.from)?, time("--to", &arguments.to)?);
    if from_ms >= to_ms {
        let text = format!("--from {} is not before --to {}", arguments.from, arguments.to);
        return Err(BadUsage(text).into());
    }
    let root = match &arguments.lake {
        Some(uri) if uri.contains("://") => lake_root(uri)?,
        Some(path) => lake_root(&std::path::absolute(path)?.to_string_lossy())?,
        None => config.lake_root()?,
    };
    let session = LakeSession::open(&root, Vec::new()).await?;
    let found = rounds::names(&session, from_ms.saturating_sub(LOOK_BACK_MS), to_ms).await?;
    let (orchestrator, others) = choose(arguments.orchestrator.as_deref(), &found, from_ms)
        .with_context(|| format!("backtest rounds of {root} from {} until {}", iso(from_ms), iso(to_ms)))?;
    let own: Vec<RoundName> = found.into_iter().filter(|name| name.orchestrator == orchestrator).collect();
    let own = from_the_last_whole(&own, from_ms);

    let base_of = |recorded: &str| match &given {
        Some(setup) => Ok(setup.clone()),
        None => Config::recorded(Path::new("(recorded)"), recorded)
            .and_then(|config| setup(&config))
            .map_err(|error| error.to_string()),
    };
    let mut replay = Replay::new(TimestampMs(from_ms), Box::new(base_of), new);
    for part in rounds::parts(own, PART_BYTES) {
        for row in rounds::read(&session, part).await? {
            replay.round(&row)?;
        }
    }
    let report = replay.finish()?;
    let base = arguments.base.as_ref().map_or("the recorded configuration".into(), |path| path.display().to_string());
    let said = Backtested {
        lake: root.as_str(),
        orchestrator: &orchestrator,
        other_orchestrators: &others,
        from_ms,
        to_ms,
        base: &base,
        new: &arguments.config.display().to_string(),
        warnings: &warnings(&report, arguments.base.is_some()),
        report: &report,
        limits: LIMITS,
    };
    if let Some(path) = &arguments.html {
        std::fs::write(path, html::page(&said)).with_context(|| format!("write {}", path.display()))?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&said)?);
    } else {
        print!("{}", text::lines(&said));
    }
    Ok(())
}

fn setup(config: &Config) -> Result<Setup, spillway_service::config::ConfigError> {
    // Where clients are decides nothing here, and the databases may be on another machine.
    let deployment = Config { geo: GeoConfig::default(), ..config.clone() }.deployment()?;
    spillway_orchestrator::setup(&deployment, config.parameters()?, &config.orchestrator)
}

fn time(name: &str, text: &str) -> anyhow::Result<u64> {
    let bad =
        || format!("{name}: {text:?} is not valid (valid: a time such as 2026-01-01T00:00:00Z, a day, ms since epoch)");
    Ok(moment(text).ok_or_else(|| BadUsage(bad()))?)
}

/// Whose rounds are replayed, and who else recorded some.
fn choose(wanted: Option<&str>, found: &[RoundName], from_ms: u64) -> anyhow::Result<(String, Vec<String>)> {
    let mut counts: Vec<(usize, &str)> = Vec::new();
    for name in found.iter().filter(|name| name.at_ms >= from_ms) {
        match counts.iter_mut().find(|(_, id)| *id == name.orchestrator) {
            Some((count, _)) => *count += 1,
            None => counts.push((1, &name.orchestrator)),
        }
    }
    let most = counts.iter().max_by_key(|(count, id)| (*count, std::cmp::Reverse(*id)));
    let Some((_, most)) = most else {
        bail!("no round was recorded in the span ([orchestrator] record_rounds; kept as long as retention_days.rounds)")
    };
    let known = || counts.iter().map(|(_, id)| *id).collect::<Vec<_>>().join(", ");
    let chosen = match wanted {
        None => *most,
        Some(id) if counts.iter().any(|(_, known)| *known == id) => id,
        Some(id) => bail!("orchestrator {id:?} recorded no round in the span (recorded: {})", known()),
    };
    let others = counts.iter().filter(|(_, id)| *id != chosen).map(|(_, id)| (*id).to_owned()).collect();
    Ok((chosen.to_owned(), others))
}

/// From the last row before the span on that says everything; from the first of the span where there is none.
fn from_the_last_whole(own: &[RoundName], from_ms: u64) -> &[RoundName] {
    let first = own.partition_point(|name| name.at_ms < from_ms);
    let begin = own[..first].iter().rposition(|name| name.whole).unwrap_or(first);
    &own[begin..]
}

fn warnings(report: &Report, base_was_given: bool) -> Vec<String> {
    let mut out = Vec::new();
    let fidelity = &report.fidelity;
    if fidelity.share < FIDELITY_MIN {
        let why =
            if base_was_given { "is --base what was in force then?" } else { "--from may lie in the midst of much" };
        out.push(format!(
            "only {:.1} % of the rounds route as they really did ({why}): the figures below compare two courses of \
             events that both were not",
            fidelity.share * 100.0
        ));
    }
    if report.rounds_missing + report.rounds_skipped > 0 {
        out.push(format!(
            "{} rounds of the span were not recorded, {} could not be replayed",
            report.rounds_missing, report.rounds_skipped
        ));
    }
    for left in &report.left_out {
        let of = if left.of == "new" { "the new configuration" } else { "the base" };
        out.push(format!(
            "{of} has no {} in {}: {:.2} % of the windows heard are left out there",
            left.pathway,
            left.region,
            left.windows_share * 100.0
        ));
    }
    let hardly = report.total.new.hardly_observed_share;
    if hardly > 0.2 {
        out.push(format!(
            "{:.0} % of the new policy's traffic is on pathways of which hardly anything was observed at the time",
            hardly * 100.0
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(orchestrator: &str, at_ms: u64, whole: bool) -> RoundName {
        RoundName { orchestrator: orchestrator.into(), started_ms: 0, seq: at_ms, at_ms, bytes: 1, whole }
    }

    #[test]
    fn the_orchestrator_with_most_rounds_is_taken_unless_another_one_is_named() {
        let found = [
            name("a", 1, true),
            name("a", 2, false),
            name("a", 3, false),
            name("b", 11, true),
            name("c", 10, true),
            name("c", 11, false),
        ];
        assert_eq!(choose(None, &found, 10).expect("c"), ("c".into(), vec!["b".into()]));
        assert_eq!(choose(Some("b"), &found, 10).expect("b").0, "b");
        let error = choose(Some("a"), &found, 10).expect_err("none in the span").to_string();
        assert!(error.contains("recorded: b, c"), "{error}");
        assert!(choose(None, &found, 12).expect_err("none").to_string().contains("record_rounds"));
    }

    #[test]
    fn the_replay_reads_from_the_last_row_that_says_everything() {
        let own =
            [name("a", 1, true), name("a", 2, true), name("a", 3, false), name("a", 4, false), name("a", 5, true)];
        let first = |from| from_the_last_whole(&own, from)[0].at_ms;
        assert_eq!((first(4), first(2), first(5), first(0)), (2, 1, 2, 1));
    }
}
