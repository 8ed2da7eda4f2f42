//! `spillway drill run FILE`: hands a drill to the orchestrator, waits, prints the report.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use spillway_orchestrator::Drill;
use spillway_service::config;

use crate::cli::{self, DrillAction};

/// Runs the action; fails unless the verdict is SUCCEEDED.
///
/// # Errors
/// A bad file, a refusal by the orchestrator, or another verdict than SUCCEEDED.
pub async fn run(arguments: &cli::Drill) -> anyhow::Result<()> {
    let DrillAction::Run(run) = &arguments.action;
    let drill: Drill = config::load(Path::new(&run.file))?;
    let api = format!("{}/v1/admin/drills", run.orchestrator.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let answer = client.post(&api).bearer_auth(&run.token).json(&drill).send().await.with_context(|| api.clone())?;
    if !answer.status().is_success() {
        let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
        bail!("the orchestrator refuses the drill: {status}: {body}");
    }
    let one = format!("{api}/{}", drill.id);
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            _ = tokio::signal::ctrl_c() => {
                eprintln!("aborting the drill; it restores");
                let _ = client.delete(&one).bearer_auth(&run.token).send().await;
                continue;
            }
        }
        // A passing failure of the connection must not lose the report.
        let Ok(answer) = client.get(&one).bearer_auth(&run.token).send().await else { continue };
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            bail!("the orchestrator no longer knows drill {:?}: it was restarted", drill.id);
        }
        let Ok(progress) = answer.json::<Value>().await else { continue };
        if progress["state"] == "ended" {
            return show(&progress["report"], run.json);
        }
    }
}

fn show(report: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{report}");
    } else {
        print_report(report);
    }
    match report["verdict"].as_str() {
        Some("SUCCEEDED") => Ok(()),
        verdict => bail!("drill {}: {}", verdict.unwrap_or("without verdict"), report["why"].as_str().unwrap_or("")),
    }
}

fn print_report(report: &Value) {
    let seconds = |key: &str| report[key].as_f64().map_or("never".to_owned(), |value| format!("{value:.1} s"));
    let percent = |sums: &Value| match (sums["bad"].as_f64(), sums["windows"].as_f64()) {
        (Some(bad), Some(windows)) if windows > 0.0 => format!("{:.1} % of {windows}", 100.0 * bad / windows),
        _ => "no window".to_owned(),
    };
    println!("drill {}: {} ({})", report["drill"]["id"], report["verdict"], report["why"].as_str().unwrap_or(""));
    println!("  detected            {}", seconds("detect_s"));
    println!("  half of views off   {}", seconds("leave_s_p50"));
    println!("  95 % of views off   {}", seconds("leave_s_p95"));
    println!("  healthy again       {}", seconds("recovered_s"));
    println!("  views affected      {}", report["views_affected"]);
    for group in ["treated", "control"] {
        let (of, before, during) = (&report[group]["of"], &report[group]["before"], &report[group]["during"]);
        println!("  {group:<8} {of}: bad windows {} before, {} during", percent(before), percent(during));
    }
    if let (Some(points), Some(half)) =
        (report["effect"]["points"].as_f64(), report["effect"]["half_width_points"].as_f64())
    {
        println!("  effect against the control group: {points:+.1} ± {half:.1} points of bad windows");
    }
    for event in report["timeline"].as_array().into_iter().flatten() {
        println!("  {:>7.1} s  {}", event["at_s"].as_f64().unwrap_or(0.0), event["text"].as_str().unwrap_or(""));
    }
}
