//! `spillway simulate SCENARIO.toml | --suite NAME`: policies in a simulated world.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use spillway_simulator::{
    Estimate, Job, Line, Mode, Outcome, Plan, Policy, Scenario, Suite, Traces, Verdict, html, play, verdicts, world,
};

use crate::cli::Simulate;
use crate::tools::BadUsage;

/// Plays and prints what came out. The same scenario, policy and seed print the same bytes.
///
/// # Errors
/// A file that can't be read, a scenario or policy that is not valid, or a suite whose world is too kind (a validity
/// gate that doesn't hold).
pub fn run(arguments: &Simulate) -> anyhow::Result<()> {
    let policy = arguments.policy.as_deref().map(policy).transpose()?;
    let traces = arguments.traces.as_deref().map(traces).transpose()?.unwrap_or_default();
    let suite = match (&arguments.suite, &arguments.scenario) {
        (Some(name), _) => Suite::named(name).map_err(|error| BadUsage(error.to_string()))?,
        (None, Some(path)) => Suite::of(scenario(path)?),
        (None, None) => return Err(BadUsage("neither a scenario nor a suite is named".into()).into()),
    };
    let single = arguments.suite.is_none() && arguments.seeds.is_none() && arguments.html.is_none();
    if single {
        return one(&suite.scenarios[0], policy.unwrap_or(Policy::Spillway), arguments, &traces);
    }
    let plan = Plan { seeds: arguments.seeds.unwrap_or(3), policy, ablations: arguments.ablations };
    let runs = play_all(&suite, &suite.jobs(&plan), &traces);
    let lines = suite.lines(&runs);
    // Promises are about the whole suite.
    let whole = ["core", "validation"].contains(&suite.name.as_str()) && policy.is_none();
    let judged = if whole { verdicts(&suite, &runs, &lines) } else { Vec::new() };
    if let Some(path) = &arguments.html {
        let page = html(&suite, &runs, &lines, &judged);
        std::fs::write(path, page).with_context(|| format!("write {}", path.display()))?;
    }
    if arguments.json {
        lines.iter().try_for_each(|line| serde_json::to_string(line).map(|text| println!("{text}")))?;
        if whole {
            println!("{}", serde_json::json!({ "verdicts": judged }));
        }
    } else {
        print_lines(&lines);
        judged.iter().for_each(print_verdict);
    }
    let kind = judged.iter().find(|verdict| verdict.name.starts_with("gate_") && !verdict.ok);
    kind.map_or(Ok(()), |gate| {
        anyhow::bail!("the world is too kind: {} ({}) doesn't hold: {}", gate.name, gate.target, gate.detail)
    })
}

fn policy(name: &str) -> anyhow::Result<Policy> {
    let known: Vec<&str> = Policy::ALL.iter().map(|policy| policy.as_str()).collect();
    let unknown = || BadUsage(format!("policy {name:?} is not known (known: {})", known.join(", ")));
    Ok(Policy::named(name).ok_or_else(unknown)?)
}

fn scenario(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let load = |name: &str| {
        // A name, not a way out of these folders.
        if name.contains(['/', '\\']) {
            return Err("a world's name has no slash".to_owned());
        }
        let file = format!("{name}.toml");
        let beside = [folder.join("worlds").join(&file), folder.join("..").join("worlds").join(&file)];
        match beside.iter().find(|path| path.exists()) {
            Some(path) => std::fs::read_to_string(path).map_err(|error| error.to_string()),
            None => world(name),
        }
    };
    Scenario::parse(&text, &load).with_context(|| path.display().to_string())
}

fn traces(folder: &Path) -> anyhow::Result<Traces> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    // Clients choose by number: the order must not depend on the disk.
    paths.sort();
    let mut traces = Traces::default();
    for path in paths.iter().filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        traces.add(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    }
    anyhow::ensure!(!traces.is_empty(), "{} holds no trace", folder.display());
    Ok(traces)
}

/// All runs on all cores; results are kept by job, so that their order doesn't depend on the threads.
fn play_all(suite: &Suite, jobs: &[Job], traces: &Traces) -> BTreeMap<Job, Outcome> {
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = suite.run(job, traces);
                    runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(*job, outcome);
                }
            });
        }
    });
    runs.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn one(scenario: &Scenario, policy: Policy, arguments: &Simulate, traces: &Traces) -> anyhow::Result<()> {
    let mode = match arguments.mode.as_deref() {
        Some("session") => Mode::Session,
        Some(_) => Mode::Fluid,
        None => scenario.events.modes[0],
    };
    let outcome = play(scenario, policy, mode, arguments.seed, traces);
    if arguments.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        print_outcome(&outcome);
    }
    Ok(())
}

fn print_lines(lines: &[Line]) {
    println!(
        "{:<9} {:<8} {:<26} {:>8} {:>8} {:>9} {:>7} {:>8} {:>7} {:>7}",
        "scenario", "mode", "policy", "bad %", "regret", "overload", "cost", "J", "detect", "leave"
    );
    let shown = |estimate: Option<Estimate>| estimate.map_or("–".to_owned(), |e| format!("{:.2}", e.value));
    for line in lines {
        println!(
            "{:<9} {:<8} {:<26} {:>8.3} {:>8} {:>9.3} {:>7} {:>8} {:>7} {:>7}",
            line.scenario,
            line.mode,
            line.policy,
            line.bad_share.value * 100.0,
            shown(line.regret),
            line.overload_share.value * 100.0,
            shown(line.cost_ratio),
            shown(line.j),
            shown(line.detect_s_p95),
            shown(line.leave_s_p95)
        );
    }
}

fn print_verdict(verdict: &Verdict) {
    let value = verdict.value.map_or("–".to_owned(), |value| format!("{value:.3}"));
    let word = if verdict.ok { "holds" } else { "FAILS" };
    println!("{word}  {:<18} {} (target: {}; {})", verdict.name, value, verdict.target, verdict.detail);
}

fn print_outcome(outcome: &Outcome) {
    let seconds = |value: Option<f64>| value.map_or("never".to_owned(), |value| format!("{value} s"));
    println!("{} under policy {}, {} mode, seed {}", outcome.scenario, outcome.policy, outcome.mode, outcome.seed);
    println!("  detected             {}", seconds(outcome.detect_s));
    println!("  left, median / 95 %  {} / {}", seconds(outcome.leave_s_p50), seconds(outcome.leave_s_p95));
    if outcome.views_started > 0 {
        println!(
            "  views affected       {} ({} left by steering, {} by themselves, {} stayed)",
            outcome.views_affected, outcome.left_by_steering, outcome.left_by_player, outcome.stayed
        );
    }
    println!("  harmed view-minutes  {:.1}", outcome.harmed_view_minutes);
    println!("  good windows         {:.2} %", (1.0 - outcome.bad_share) * 100.0);
    println!("  above ceilings       {:.3} % of bits", outcome.overload_share * 100.0);
    println!("  origin peak          {:.2} × before", outcome.origin_peak);
    println!("  epochs               {}", outcome.epochs);
    println!("  cost                 {:.2} USD", outcome.cost_usd);
    for (pathway, peak) in &outcome.peak_utilisation {
        println!("  peak utilisation     {:.0} % {pathway}", peak * 100.0);
    }
    for change in &outcome.state_changes {
        println!(
            "  {:>6} s  {} in {}: {} ({})",
            change.at_s, change.pathway, change.region, change.state, change.reason
        );
    }
}
