//! One run of the story: viewers come, things happen, everyone goes home, everything is counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use spillway_model::Clock as _;
use spillway_service::CancellationToken;
use tokio::process::Command;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::api::CollectorCounters;
use super::drill;
use super::observe::{Seen, Watch};
use super::progress::{self, Voice};
use super::stage::Stage;
use super::timeline::Timeline;
use crate::viewer::population::{self, Population, Slot};
use crate::viewer::record::ViewRecord;

const STEP: Duration = Duration::from_millis(100);
const BLOCK_EVERY_S: f64 = 3.0;
/// A fault must be in force by then, and lifted.
const FAULT_PATIENCE_S: f64 = 4.0;
/// Viewers' last beacons get this long when the run is stopped early.
const HURRY: Duration = Duration::from_secs(2);
/// Everything accepted must be in the table by then.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// How to play.
pub struct Script<'a> {
    /// The `spillway` binary.
    pub spillway: &'a Path,
    /// Seed of the viewers.
    pub seed: u64,
    /// Viewers at the peak.
    pub viewers: u32,
    /// When things happen.
    pub timeline: Timeline,
    /// Whether views are steered: then the outage is a drill and an edge is drained at the end. If not, the run ends
    /// with the last window of the outage.
    pub steered: bool,
    /// Terminal.
    pub voice: Voice,
    /// Ends the run early.
    pub stop: CancellationToken,
}

/// All that one run left behind.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Every view.
    pub records: Vec<ViewRecord>,
    /// Start of the story, ms on the viewers' clock.
    pub started_ms: u64,
    /// End of the story, ms on the viewers' clock.
    pub ended_ms: u64,
    /// Manifests, overviews, faults.
    pub seen: Seen,
    /// POSTs to the collector.
    pub beacons_sent: u64,
    /// Events that their viewers gave up.
    pub events_given_up: u64,
    /// Events refused, as viewers were told.
    pub refused: BTreeMap<String, u64>,
    /// The collector's own count.
    pub counters: Option<CollectorCounters>,
    /// Rows of the table.
    pub stored: Option<u64>,
    /// Rows of the table by view.
    pub stored_by_view: Option<BTreeMap<String, u64>>,
    /// Manifests that the steering node refused.
    pub manifests_refused: Option<u64>,
    /// Peaks by commercial pathway.
    pub cdn_peaks: BTreeMap<String, f64>,
    /// What went wrong outside of the measurements.
    pub broken: Vec<String>,
    /// Whether someone stopped it.
    pub stopped: bool,
}

/// Things to do at moments.
struct Running<'a> {
    stage: &'a mut Stage,
    script: &'a Script<'a>,
    watch: Watch,
    outage: Option<JoinHandle<anyhow::Result<()>>>,
    begun: Instant,
    drained: bool,
    fault_checked: bool,
    restore_checked: bool,
    broken: Vec<String>,
}

/// Plays the story on a stage that is set.
///
/// # Errors
/// Only what makes the run pointless; all else is in [`Outcome::broken`].
pub async fn play(stage: &mut Stage, script: &Script<'_>) -> anyhow::Result<Outcome> {
    let outage = stage.parts.demo.outage.clone();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (api, clock) = (stage.api.clone(), stage.around.clock);
    let watch = Watch { api, clock, pathway: outage.pathway.clone(), region: outage.region.clone(), seen };
    let mut watchers = JoinSet::new();
    for region in stage.parts.regions.clone() {
        watchers.spawn(watch.clone().manifests(region));
    }
    watchers.spawn(watch.clone().overviews());
    let cdn = stage.cdns.get(&outage.pathway).context("find the CDN of the outage")?;
    watchers.spawn(watch.clone().faults(Arc::clone(cdn)));

    let started_ms = clock.monotonic().0;
    let population = Population::start(
        slots(stage, script),
        script.seed,
        &stage.parts.demo.manners,
        // The same ids whether steered or not: then the same views are on the pathway that dies.
        "story",
        &stage.around,
    );
    let mut running = Running {
        stage,
        script,
        watch: watch.clone(),
        outage: None,
        begun: Instant::now(),
        drained: false,
        fault_checked: false,
        restore_checked: false,
        broken: Vec::new(),
    };
    let stopped = running.until_the_end(&population).await;
    let ended_ms = clock.monotonic().0;
    running.finish_outage(stopped).await;
    let broken = std::mem::take(&mut running.broken);
    script.voice.say("\nthe viewers go home");
    let records = if stopped {
        // Whoever pressed Ctrl-C wants an end, not numbers.
        tokio::time::timeout(HURRY, population.stop()).await.unwrap_or_default()
    } else {
        population.stop().await
    };
    watchers.shutdown().await;
    let seen = std::mem::take(&mut *watch.seen());
    let mut out = Outcome { records, started_ms, ended_ms, seen, broken, stopped, ..Outcome::default() };
    if !stopped {
        count(stage, script, &mut out).await;
    }
    Ok(out)
}

fn slots(stage: &Stage, script: &Script<'_>) -> Vec<Slot> {
    let (demo, timeline) = (&stage.parts.demo, &script.timeline);
    let viewers = usize::try_from(script.viewers).expect("a few thousand");
    population::slots(
        script.seed,
        viewers,
        &demo.viewers,
        &demo.manners,
        (0.0, timeline.ramp_until_s),
        timeline.spike_s,
    )
}

impl Running<'_> {
    /// True if it was stopped early.
    async fn until_the_end(&mut self, population: &Population) -> bool {
        let timeline = self.script.timeline.clone();
        let end_s = if self.script.steered { timeline.end_s } else { timeline.outage_s + timeline.harm_s() + 1.0 };
        let mut next_block_s = 1.0;
        loop {
            let at_s = self.begun.elapsed().as_secs_f64();
            if at_s >= end_s {
                return false;
            }
            if self.script.stop.is_cancelled() {
                return true;
            }
            self.act(at_s).await;
            if at_s >= next_block_s {
                next_block_s += BLOCK_EVERY_S;
                let census = population.census();
                let head = (at_s, timeline.phase(at_s), self.script.steered);
                let text = progress::block(head, &census, &mut self.watch.seen(), &self.stage.cdns);
                self.script.voice.say(&text);
                let dead = self.stage.children.dead();
                self.broken.extend(dead);
            }
            tokio::time::sleep(STEP).await;
        }
    }

    async fn act(&mut self, at_s: f64) {
        let timeline = &self.script.timeline;
        if self.outage.is_none() && at_s >= timeline.outage_s {
            self.script.voice.say(&format!(
                "\n      {} answers {} in {}: {}",
                self.watch.pathway,
                self.stage.parts.demo.outage.status,
                self.watch.region,
                if self.script.steered { "drill cdn-outage" } else { "nobody steers" },
            ));
            self.outage = Some(self.start_outage());
        }
        if !self.fault_checked && at_s >= timeline.outage_s + FAULT_PATIENCE_S {
            self.fault_checked = true;
            if self.watch.seen().injected_ms.is_none() {
                self.broken.push(format!("the outage did not begin within {FAULT_PATIENCE_S} s: the demo began it"));
                self.take_over_outage();
            }
        }
        if !self.restore_checked && at_s >= timeline.restore_s + FAULT_PATIENCE_S {
            self.restore_checked = true;
            if self.watch.seen().restored_ms.is_none() {
                self.broken
                    .push(format!("the outage was not over {FAULT_PATIENCE_S} s after its end: the demo ended it"));
                self.restore().await;
            }
        }
        if self.script.steered && !self.drained && at_s >= timeline.drain_s {
            self.drained = true;
            let target = self.stage.parts.demo.drain.target.clone();
            self.script.voice.say(&format!("\n      {target} is drained for maintenance"));
            if let Err(error) = self.stage.api.drain(&target, "maintenance (demo)", 600).await {
                self.broken.push(format!("{error:#}"));
            }
        }
    }

    fn start_outage(&self) -> JoinHandle<anyhow::Result<()>> {
        let (outage, api) = (self.stage.parts.demo.outage.clone(), self.stage.api.clone());
        let timeline = self.script.timeline.clone();
        if !self.script.steered {
            return tokio::spawn(async move { drill::by_hand(&outage, &timeline, &api).await });
        }
        let (spillway, path) = (self.script.spillway.to_owned(), self.stage.dir.join("cdn-outage.toml"));
        let report_path = self.stage.dir.join("drill-report.json");
        tokio::spawn(async move {
            std::fs::write(&path, drill::file(&outage, &timeline, &api.control)?).context("write the drill")?;
            let report = drill::run(&spillway, &path, &api).await?;
            std::fs::write(&report_path, format!("{report:#}\n")).context("write the drill's report")
        })
    }

    /// The drill did not begin: the same steps without it, so that the rest of the story still happens.
    fn take_over_outage(&mut self) {
        let (outage, api) = (self.stage.parts.demo.outage.clone(), self.stage.api.clone());
        let timeline = self.script.timeline.clone();
        let drill = self.outage.take();
        self.outage = Some(tokio::spawn(async move {
            let by_hand = drill::by_hand(&outage, &timeline, &api).await;
            if let Some(drill) = drill {
                drill.abort();
                drill.await.context("run the drill")??;
            }
            by_hand
        }));
    }

    async fn restore(&self) {
        if let Err(error) = drill::restore(&self.stage.api, &self.stage.parts.demo.outage).await {
            tracing::error!(%error, "faults stay in force");
        }
    }

    async fn finish_outage(&mut self, stopped: bool) {
        let Some(outage) = self.outage.take() else { return };
        if stopped {
            outage.abort();
            self.restore().await;
            return;
        }
        match tokio::time::timeout(Duration::from_secs(10), outage).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => self.broken.push(format!("drill: {error:#}")),
            Ok(Err(error)) => self.broken.push(format!("drill: {error}")),
            Err(_) => self.broken.push("drill: no report 10 s after the end of the story".to_owned()),
        }
    }
}

/// What the system itself has counted, once everything is written.
async fn count(stage: &mut Stage, script: &Script<'_>, out: &mut Outcome) {
    use std::sync::atomic::Ordering::Relaxed;
    let totals = &stage.around.totals;
    out.beacons_sent = totals.beacons_sent.load(Relaxed);
    out.events_given_up = totals.events_given_up.load(Relaxed);
    out.refused = totals.refused();
    out.cdn_peaks = stage.cdns.iter().map(|(id, cdn)| (id.clone(), cdn.stats().peak_utilisation)).collect();
    match settled_counters(stage).await {
        Ok(counters) => out.counters = Some(counters),
        Err(error) => out.broken.push(format!("counters of the collector: {error:#}")),
    }
    match stage.api.manifests_refused().await {
        Ok(refused) => out.manifests_refused = Some(refused),
        Err(error) => out.broken.push(format!("counters of the steering node: {error:#}")),
    }
    let total = "SELECT count(*) AS n FROM events";
    let by_view = "SELECT view_id, count(DISTINCT seq) AS n FROM events GROUP BY view_id";
    match query(script.spillway, &stage.config_file, total).await.and_then(|rows| one(&rows)) {
        Ok(stored) => out.stored = Some(stored),
        Err(error) => out.broken.push(format!("count the stored events: {error:#}")),
    }
    match query(script.spillway, &stage.config_file, by_view).await.and_then(|rows| views(&rows)) {
        Ok(stored) => out.stored_by_view = Some(stored),
        Err(error) => out.broken.push(format!("count the stored events by view: {error:#}")),
    }
    let dead = stage.children.dead();
    out.broken.extend(dead);
}

/// Waits until everything accepted is committed, or patience ends; then that is for the invariants to say.
async fn settled_counters(stage: &Stage) -> anyhow::Result<CollectorCounters> {
    let deadline = Instant::now() + DRAIN_PATIENCE;
    loop {
        let counters = stage.api.counters().await?;
        if counters.committed_rows >= counters.accepted || Instant::now() >= deadline {
            return Ok(counters);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn query(spillway: &Path, config: &Path, sql: &str) -> anyhow::Result<Vec<Value>> {
    let mut command = Command::new(spillway);
    command.arg("query").arg("--config").arg(config).arg("--json").arg(sql).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output())
        .await
        .context("`spillway query` took more than 60 s")?
        .context("start `spillway query`")?;
    if !output.status.success() {
        bail!("`spillway query` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).context("read the answer of `spillway query`")?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).with_context(|| format!("read the row {line:?}")))
        .collect()
}

fn one(rows: &[Value]) -> anyhow::Result<u64> {
    match rows {
        [row] => row["n"].as_u64().with_context(|| format!("find the number n in {row}")),
        rows => bail!("find one row in the answer: it has {}", rows.len()),
    }
}

fn views(rows: &[Value]) -> anyhow::Result<BTreeMap<String, u64>> {
    #[derive(Deserialize)]
    struct Row {
        view_id: String,
        n: u64,
    }
    let rows = rows.iter().map(|row| serde_json::from_value::<Row>(row.clone()).context("read a row"));
    rows.map(|row| row.map(|row| (row.view_id, row.n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_without_the_expected_columns_are_errors_not_zeros() {
        assert_eq!(one(&[json!({ "n": 7 })]).expect("a count"), 7);
        assert!(one(&[json!({ "m": 7 })]).is_err());
        assert!(one(&[]).is_err());
        let rows = [json!({ "view_id": "a", "n": 2 }), json!({ "view_id": "b", "n": 3 })];
        assert_eq!(views(&rows).expect("counts"), BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 3)]));
        assert!(views(&[json!({ "n": 1 })]).is_err());
    }
}
