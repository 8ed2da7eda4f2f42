//! Running a drill: check, inject, watch, restore — always restore — and report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use spillway_bus::{Bus, Subscription};
use spillway_lake::schema::TableName;
use spillway_lake::{append, records};
use spillway_model::{Clock, PathwayId, RegionId, TimestampMs};
use spillway_routing::DrillNote;
use spillway_service::{CancellationToken, Deployed};
use spillway_wire::frame::{FRAME_TOPIC, Frame};
use spillway_wire::overview::Overview;
use tokio::sync::watch;

use super::evidence::{History, effect};
use super::file::{Drill, DrillError, Step};
use super::report::{Event, Group, Report, Verdict};

/// Reports kept.
const REPORTS_MAX: usize = 50;
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// What the others must be able to take, as a multiple of what moves.
const HEADROOM: f64 = 1.2;
const BEFORE_MS: u64 = 60_000;

/// Every drill of this process: at most one runs.
pub struct Drills {
    deployed: Deployed,
    hosts: Vec<String>,
    service_token: String,
    clock: Arc<dyn Clock>,
    overview: watch::Receiver<Overview>,
    lake: url::Url,
    history: Arc<Mutex<History>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<(DrillNote, CancellationToken)>,
    reports: Vec<Report>,
}

/// What `GET /v1/admin/drills/{id}` says.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Progress {
    /// Not ended yet.
    Running,
    /// Ended.
    Ended {
        /// What it showed.
        report: Box<Report>,
    },
}

impl Drills {
    /// Drills on the deployment in force, whose webhooks may reach `hosts` only, with `service_token` where a step says so;
    /// reports also go into the lake at `lake`.
    pub fn new(
        deployed: Deployed,
        (hosts, service_token): (Vec<String>, String),
        clock: Arc<dyn Clock>,
        overview: watch::Receiver<Overview>,
        lake: url::Url,
    ) -> Self {
        Self { deployed, hosts, service_token, clock, overview, lake, history: Arc::default(), state: Mutex::default() }
    }

    /// Listens to frames for the reports until the bus ends or `shutdown`.
    pub async fn listen(&self, bus: &dyn Bus, shutdown: CancellationToken) {
        let mut frames: Subscription = bus.subscribe(FRAME_TOPIC);
        loop {
            let message = tokio::select! {
                message = frames.next() => message,
                () = shutdown.cancelled() => return,
            };
            let Some(message) = message else { return };
            if let Ok(frame) = serde_json::from_slice::<Frame>(&message) {
                self.history.lock().unwrap_or_else(PoisonError::into_inner).add(&frame);
            }
        }
    }

    /// The drill that runs, for the manifest.
    #[must_use]
    pub fn note(&self) -> Option<DrillNote> {
        self.lock().running.as_ref().map(|(note, _)| note.clone())
    }

    /// How a drill stands; `None` if there is none of that id.
    #[must_use]
    pub fn progress(&self, id: &str) -> Option<Progress> {
        let state = self.lock();
        if state.running.as_ref().is_some_and(|(note, _)| note.id == id) {
            return Some(Progress::Running);
        }
        let report = state.reports.iter().rev().find(|report| report.drill.id == id)?;
        Some(Progress::Ended { report: Box::new(report.clone()) })
    }

    /// Stops a running drill, which restores; false if none of that id runs.
    #[must_use]
    pub fn abort(&self, id: &str) -> bool {
        let state = self.lock();
        let running = state.running.as_ref().filter(|(note, _)| note.id == id);
        running.inspect(|(_, cancel)| cancel.cancel()).is_some()
    }

    /// Checks a drill and starts it; it ends by itself, and restores also when the process shuts down.
    ///
    /// # Errors
    /// [`DrillError`] if it is not valid, another one runs, or there is an incident.
    pub fn start(self: &Arc<Self>, drill: Drill, by: &str, shutdown: &CancellationToken) -> Result<(), DrillError> {
        let (pathway, region) = drill.check(&self.deployed.now(), &self.hosts)?;
        let overview = self.overview.borrow().clone();
        let seen = overview.regions.get(region.as_str()).and_then(|view| view.pathways.get(pathway.as_str()));
        if let Some(view) = seen.filter(|view| view.state != "HEALTHY") {
            return Err(DrillError::Incident {
                pathway: pathway.to_string(),
                state: view.state.clone(),
                region: region.to_string(),
            });
        }
        let cancel = shutdown.child_token();
        let note = DrillNote {
            id: drill.id.clone(),
            kind: drill.kind.clone(),
            pathway: pathway.clone(),
            phase: "inject".into(),
            started: self.clock.now(),
        };
        {
            let mut state = self.lock();
            if let Some((running, _)) = &state.running {
                return Err(DrillError::Busy(running.id.clone()));
            }
            state.running = Some((note, cancel.clone()));
        }
        let (drills, by) = (Arc::clone(self), by.to_owned());
        tokio::spawn(async move {
            let report = Run::new(&drills, drill, by, pathway, region, cancel).play().await;
            tracing::info!(drill = report.drill.id, verdict = ?report.verdict, "drill ended");
            drills.keep(&report).await;
            let mut state = drills.lock();
            state.running = None;
            if state.reports.len() >= REPORTS_MAX {
                state.reports.remove(0);
            }
            state.reports.push(report);
        });
        Ok(())
    }

    /// Appends the report to the lake's `drills`. A lake that fails costs the row, not the report.
    async fn keep(&self, report: &Report) {
        let ended_ms = self.clock.now().0;
        let report_json = serde_json::to_string(report).unwrap_or_default();
        let row = records::Drill { id: report.drill.id.clone(), ended_ms, report_json };
        let kept = match records::drills(&[row]) {
            Ok(batch) => {
                append(&self.lake, TableName::Drills, batch, &format!("drill-{}", report.drill.id), ended_ms).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, drill = report.drill.id, "the report is not in the lake");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self, phase: &str) {
        if let Some((note, _)) = &mut self.lock().running {
            phase.clone_into(&mut note.phase);
        }
    }
}

/// One drill on its way.
struct Run<'a> {
    drills: &'a Drills,
    pathway: PathwayId,
    region: RegionId,
    cancel: CancellationToken,
    overview: watch::Receiver<Overview>,
    client: reqwest::Client,
    report: Report,
    last_state: String,
    views_of_region: u64,
}

impl<'a> Run<'a> {
    fn new(
        drills: &'a Drills,
        drill: Drill,
        by: String,
        pathway: PathwayId,
        region: RegionId,
        cancel: CancellationToken,
    ) -> Self {
        let group = |of: String| Group { of, before: Default::default(), during: Default::default() };
        let report = Report {
            verdict: Verdict::Succeeded,
            why: String::new(),
            by,
            started_ms: drills.clock.now().0,
            detect_s: None,
            leave_s_p50: None,
            leave_s_p95: None,
            recovered_s: None,
            views_affected: 0,
            epochs: (0, 0),
            utilisation_peak: BTreeMap::new(),
            treated: group(format!("{pathway} in {region}")),
            control: group(format!("the other pathways of {region}")),
            effect: None,
            timeline: Vec::new(),
            drill,
        };
        let client = reqwest::Client::builder().timeout(STEP_TIMEOUT).build().unwrap_or_default();
        let overview = drills.overview.clone();
        let last_state = "HEALTHY".to_owned();
        Self { drills, pathway, region, cancel, overview, client, report, last_state, views_of_region: 0 }
    }

    async fn play(mut self) -> Report {
        if let Some(why) = self.too_little_headroom() {
            self.end(Verdict::CapacityCheckFailed, why);
            return self.report;
        }
        self.report.started_ms = self.drills.clock.now().0;
        let injected = self.inject_and_watch().await;
        let restored_ms = self.drills.clock.now().0;
        self.drills.phase("restore");
        self.restore().await;
        if injected {
            self.await_recovery().await;
        }
        self.compare(restored_ms);
        self.judge();
        self.report
    }

    /// Why the others could not carry what will move, if so.
    fn too_little_headroom(&mut self) -> Option<String> {
        let overview = self.overview.borrow().clone();
        let region = overview.regions.get(self.region.as_str())?;
        let view = region.pathways.get(self.pathway.as_str())?;
        self.report.views_affected = view.views_active;
        self.views_of_region = region.views_active;
        self.report.epochs = (region.epoch, region.epoch);
        let moves = region.demand_bps as f64 * f64::from(view.share_ppm) / 1e6;
        let spare: f64 = region
            .pathways
            .iter()
            .filter(|(id, view)| id.as_str() != self.pathway.as_str() && view.state == "HEALTHY")
            .filter_map(|(id, _)| overview.pathways.get(id))
            .map(|totals| {
                let used = f64::from(totals.utilisation_ppm.unwrap_or(0)) / 1e6;
                totals.capacity_bps as f64 * (0.95 - used).max(0.0)
            })
            .sum();
        (spare < HEADROOM * moves)
            .then(|| format!("the others have {:.0} Mbit/s to spare, {:.0} would move", spare / 1e6, moves / 1e6))
    }

    /// True if every step worked and no rule stopped it.
    async fn inject_and_watch(&mut self) -> bool {
        let mut steps = self.report.drill.inject.clone();
        steps.sort_by_key(|step| step.at_s);
        let mut steps = steps.into_iter().peekable();
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        while self.elapsed_s() < self.report.drill.duration_s as f64 {
            while let Some(step) = steps.next_if(|step| step.at_s as f64 <= self.elapsed_s()) {
                if let Err(why) = self.step(&step).await {
                    self.end(Verdict::Interrupted, why);
                    return false;
                }
            }
            tokio::select! {
                _ = tick.tick() => {}
                () = self.cancel.cancelled() => {
                    self.end(Verdict::Aborted, "stopped by an operator or by shutdown".into());
                    return false;
                }
            }
            self.observe();
            if let Some(why) = self.must_stop() {
                self.end(Verdict::Aborted, why);
                return false;
            }
        }
        true
    }

    async fn restore(&mut self) {
        for step in self.report.drill.restore.clone() {
            // Restoring is what must not fail for a passing reason.
            for attempt in 1..=5_u32 {
                match self.step(&step).await {
                    Ok(()) => break,
                    Err(why) if attempt == 5 => self.end(Verdict::Interrupted, format!("not restored: {why}")),
                    Err(_) => tokio::time::sleep(Duration::from_millis(200) * attempt).await,
                }
            }
        }
    }

    async fn await_recovery(&mut self) {
        self.drills.phase("recover");
        let restored_s = self.elapsed_s();
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            self.observe();
            if self.last_state == "HEALTHY" {
                self.report.recovered_s = Some(self.elapsed_s());
                return;
            }
            if self.elapsed_s() - restored_s > self.report.drill.recovery_s as f64 {
                self.note(format!("still {} {} s after the restore", self.last_state, self.report.drill.recovery_s));
                return;
            }
            tokio::select! {
                _ = tick.tick() => {}
                () = self.cancel.cancelled() => return,
            }
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        let method = reqwest::Method::from_bytes(step.method.as_bytes()).map_err(|error| error.to_string())?;
        let mut request = self.client.request(method, &step.url);
        if let Some(body) = &step.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        if step.service_token {
            request = request.bearer_auth(&self.drills.service_token);
        }
        let answer = request.send().await.map_err(|error| format!("{} {}: {error}", step.method, step.url))?;
        if !answer.status().is_success() {
            return Err(format!("{} {}: status {}", step.method, step.url, answer.status()));
        }
        self.note(format!("{} {} {}", step.method, step.url, step.body.as_deref().unwrap_or("")).trim().to_owned());
        Ok(())
    }

    /// Takes what the rounds say now.
    fn observe(&mut self) {
        let overview = self.overview.borrow_and_update().clone();
        let at_s = TimestampMs(overview.at_ms).since(TimestampMs(self.report.started_ms)).as_secs_f64();
        for (id, totals) in &overview.pathways {
            if let Some(utilisation) = totals.utilisation_ppm {
                let peak = self.report.utilisation_peak.entry(id.clone()).or_default();
                *peak = peak.max(f64::from(utilisation) / 1e6);
            }
        }
        let Some(region) = overview.regions.get(self.region.as_str()) else { return };
        self.report.epochs.1 = self.report.epochs.1.max(region.epoch);
        let Some(view) = region.pathways.get(self.pathway.as_str()) else { return };
        if view.state != self.last_state {
            self.note(format!("{} → {}: {}", self.last_state, view.state, view.reason));
            self.last_state.clone_from(&view.state);
        }
        if overview.at_ms <= self.report.started_ms {
            return;
        }
        if self.report.detect_s.is_none() && matches!(view.state.as_str(), "DOWN" | "DEGRADED") {
            self.report.detect_s = Some(at_s);
        }
        let gone = self.report.views_affected.saturating_sub(view.views_active) as f64;
        let share = gone / self.report.views_affected.max(1) as f64;
        if share >= 0.5 {
            self.report.leave_s_p50.get_or_insert(at_s);
        }
        if share >= 0.95 {
            self.report.leave_s_p95.get_or_insert(at_s);
        }
    }

    /// Why an abort rule says stop, if one does.
    fn must_stop(&self) -> Option<String> {
        let overview = self.overview.borrow();
        let rules = &self.report.drill.abort;
        let others = overview.pathways.iter().filter(|(id, _)| id.as_str() != self.pathway.as_str());
        for (id, totals) in others {
            let used = f64::from(totals.utilisation_ppm.unwrap_or(0)) / 1e6;
            if used > rules.utilisation_above {
                return Some(format!(
                    "{id} is at {:.0} %, above {:.0} %",
                    used * 100.0,
                    rules.utilisation_above * 100.0
                ));
            }
        }
        let views = overview.regions.get(self.region.as_str())?.views_active;
        let lost = 1.0 - views as f64 / self.views_of_region.max(1) as f64;
        (lost > rules.views_lost_above)
            .then(|| format!("the region lost {:.0} % of its {} views", lost * 100.0, self.views_of_region))
    }

    fn compare(&mut self, restored_ms: u64) {
        let history = self.drills.history.lock().unwrap_or_else(PoisonError::into_inner);
        let started = self.report.started_ms;
        let (pathway, region) = (self.pathway.as_str(), self.region.as_str());
        let treated = |p: &str, r: &str| p == pathway && r == region;
        let control = |p: &str, r: &str| p != pathway && !p.is_empty() && r == region;
        self.report.treated.before = history.sum(started.saturating_sub(BEFORE_MS), started, treated);
        self.report.treated.during = history.sum(started + 1, restored_ms, treated);
        self.report.control.before = history.sum(started.saturating_sub(BEFORE_MS), started, control);
        self.report.control.during = history.sum(started + 1, restored_ms, control);
        self.report.effect = effect(
            (self.report.treated.before, self.report.treated.during),
            (self.report.control.before, self.report.control.during),
        );
    }

    fn judge(&mut self) {
        if self.report.verdict != Verdict::Succeeded {
            return;
        }
        let expected = self.report.drill.hypothesis.clone();
        let within = |name: &str, value: Option<f64>, max: f64| match value {
            Some(value) if value <= max => Ok(()),
            Some(value) => Err(format!("{name} took {value:.1} s, expected at most {max:.1}")),
            None => Err(format!("{name} did not happen, expected within {max:.1} s")),
        };
        let checks = [
            within("detection", self.report.detect_s, expected.detect_s_max),
            within("leaving (95 %)", self.report.leave_s_p95, expected.leave_s_p95_max),
        ];
        let broken: Vec<String> = checks.into_iter().filter_map(Result::err).collect();
        if broken.is_empty() {
            self.end(Verdict::Succeeded, "every expectation held".into());
        } else {
            self.end(Verdict::Failed, broken.join("; "));
        }
    }

    fn end(&mut self, verdict: Verdict, why: String) {
        self.note(format!("{verdict:?}: {why}"));
        self.report.verdict = verdict;
        self.report.why = why;
    }

    fn note(&mut self, text: String) {
        let at_s = self.elapsed_s();
        self.report.timeline.push(Event { at_s, text });
    }

    fn elapsed_s(&self) -> f64 {
        self.drills.clock.now().since(TimestampMs(self.report.started_ms)).as_secs_f64()
    }
}
