//! The round: observe → decide → publish → tell, every two seconds, at its own pace; no request triggers it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spillway_bus::Bus as _;
use spillway_lake::records::Change;
use spillway_model::{PathwayId, RegionId, TimestampMs};
use spillway_orchestrator_core::{self as core, Engine, RoundOutput};
use spillway_routing::Manifest;
use spillway_service::Deploys;
use spillway_wire::overview::{LogLine, Note, OVERVIEW_TOPIC, Overview, PathwayTotals, PathwayView, RegionView};
use tokio::sync::{mpsc, watch};

use crate::canary::Trial;
use crate::capacity::Feeds;
use crate::commits;
use crate::decisions::Decisions;
use crate::directives;
use crate::learn::Learner;
use crate::observe::Ears;
use crate::orders::Standing;
use crate::publish::{PublishError, Publisher};
use crate::record::{Manifests, Recorder};
use crate::reload::{Ask, Configured};
use crate::shell::Shell;

/// Lines that pages show.
const LOG_MAX: usize = 50;

/// State that lasts from round to round.
pub(crate) struct Rounds {
    pub(crate) shell: Arc<Shell>,
    pub(crate) engine: Engine,
    pub(crate) ears: Ears,
    pub(crate) publisher: Publisher,
    pub(crate) decisions: Decisions,
    pub(crate) learner: Learner,
    pub(crate) trial: Trial,
    pub(crate) feeds: Feeds,
    /// `None`: rounds are not recorded.
    pub(crate) recorder: Option<Recorder>,
    pub(crate) overview: watch::Sender<Overview>,
    pub(crate) published: BTreeMap<RegionId, Manifest>,
    pub(crate) standing: Standing,
    pub(crate) log: VecDeque<LogLine>,
    /// In force.
    pub(crate) configured: Configured,
    /// Puts another deployment in force.
    pub(crate) deploys: Deploys,
    asks: mpsc::Receiver<Ask>,
    /// Counts publications: mirrors wait for it.
    publications: watch::Sender<u64>,
}

/// What stands beside a round: where decisions and recordings go, what teaches, what is tried, what CDNs publish.
pub(crate) struct Aides {
    pub(crate) decisions: Decisions,
    pub(crate) learner: Learner,
    pub(crate) trial: Trial,
    pub(crate) feeds: Feeds,
    /// `None`: rounds are not recorded.
    pub(crate) recorder: Option<Recorder>,
}

/// What rounds go by, and how that changes.
pub(crate) struct Configuration {
    pub(crate) configured: Configured,
    pub(crate) deploys: Deploys,
    pub(crate) asks: mpsc::Receiver<Ask>,
}

impl Rounds {
    pub(crate) fn new(
        shell: Arc<Shell>,
        engine: Engine,
        ears: Ears,
        publisher: Publisher,
        aides: Aides,
        configuration: Configuration,
        overview: watch::Sender<Overview>,
    ) -> Self {
        let (published, log) = (BTreeMap::new(), VecDeque::new());
        let Aides { decisions, learner, trial, feeds, recorder } = aides;
        let Configuration { configured, deploys, asks } = configuration;
        Self {
            shell,
            engine,
            ears,
            publisher,
            decisions,
            learner,
            trial,
            feeds,
            recorder,
            overview,
            published,
            standing: Standing::default(),
            log,
            configured,
            deploys,
            asks,
            publications: watch::Sender::new(0),
        }
    }

    /// Changes with every publication.
    pub(crate) fn publications(&self) -> watch::Receiver<u64> {
        self.publications.subscribe()
    }

    /// Takes over what is in force, so that a restart does not move anybody; `folder`: where a manifest by hand may be.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn adopt(&mut self, folder: Option<&Path>) -> Result<(), PublishError> {
        for region in self.configured.deployment.regions.keys() {
            if let Some(folder) = folder {
                self.publisher.catch_up(region, folder).await?;
            }
            if let Some(manifest) = self.publisher.current(region).await? {
                tracing::info!(%region, epoch = manifest.epoch, "going on from the manifest in force");
                self.engine.adopt(&manifest);
                self.published.insert(region.clone(), manifest);
            }
        }
        Ok(())
    }

    /// Rounds until shutdown.
    pub(crate) async fn run(mut self, every: Duration) {
        let mut pace = tokio::time::interval(every);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ask = tokio::select! {
                _ = pace.tick() => None,
                () = self.shell.wake.notified() => None,
                Some(ask) = self.asks.recv() => Some(ask),
                () = self.shell.shutdown.cancelled() => break,
            };
            let Some(ask) = ask else {
                self.round().await;
                continue;
            };
            if let Some(answer) = self.reload(ask).await {
                self.round().await;
                answer.send();
            }
        }
        if let Some(recorder) = self.recorder {
            recorder.close().await;
        }
        self.decisions.close().await;
    }

    async fn round(&mut self) {
        let now = self.shell.clock.now();
        let begun = self.shell.clock.monotonic();
        let mut input = self.ears.hear(now, &self.configured.deployment, &self.shell.loads);
        self.standing.read(&self.shell.store, now).await;
        self.standing.order(now, &self.configured.deployment, &mut input);
        self.learner.teach(&mut input);
        input.limits = self.feeds.limits();
        input.drill = self.shell.drills.note();
        self.trial.begin(now, &mut self.engine);
        let output = self.engine.round(now, &input);
        let measured = |plan: &core::RegionPlan| plan.good.values().any(Option::is_some);
        self.trial.measure(&output.regions.iter().filter(|(_, plan)| measured(plan)).map(|(id, _)| id).collect());
        if let Some(judged) = self.trial.take(now, output.canary.as_ref()) {
            self.shell.changes.record(Change { orchestrator: self.shell.id.clone(), ..judged });
        }
        for entry in &output.log {
            let region = entry.region.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::info!(region, text = entry.text, "decision");
            self.log.push_back(LogLine { at_ms: now.0, region, text: entry.text.clone() });
        }
        while self.log.len() > LOG_MAX {
            self.log.pop_front();
        }
        let before = self.recorder.as_ref().and_then(|recorder| recorder.before(&self.published));
        let published = self.publish(&output).await;
        self.trial.save(&self.shell.store).await;
        let commits = commits::notes(self.engine.setup(), &input.bills);
        let notes = self.standing.notes(now).chain(self.trial.note()).chain(commits).collect();
        self.tell(now, &output, notes).await;
        if let Some(recorder) = &mut self.recorder {
            recorder.record(now, input, before, published);
        }
        metrics::histogram!("spillway_round_seconds").record((self.shell.clock.monotonic() - begun).as_secs_f64());
    }

    /// Publishes what routes differently from what is in force, or has held for half its time, and says what it was; a
    /// failure leaves in force what is, and is counted.
    async fn publish(&mut self, output: &RoundOutput) -> Manifests {
        let mut published = Manifests::new();
        for (region, plan) in &output.regions {
            let manifest = match self.published.get(region) {
                Some(current) if core::same_routing(current, &plan.manifest) => {
                    let issued = plan.manifest.issued;
                    if issued.0 < current.issued.0.midpoint(current.valid_until.0) {
                        continue;
                    }
                    // The same once more, before its time is over: nobody moves.
                    Manifest { issued, ..current.clone() }
                }
                _ => plan.manifest.clone(),
            };
            match self.publisher.publish(manifest).await {
                Ok(manifest) => {
                    metrics::counter!("spillway_manifests_published_total").increment(1);
                    self.decisions.record(&manifest);
                    published.insert(region.clone(), manifest.clone());
                    self.published.insert(region.clone(), manifest);
                }
                Err(error) => {
                    metrics::counter!("spillway_manifests_not_published_total").increment(1);
                    tracing::error!(%region, %error, "manifest not published; the last one stays in force");
                }
            }
        }
        self.publisher.tend_keys(self.shell.clock.now()).await;
        if !published.is_empty() {
            self.publications.send_modify(|count| *count += 1);
        }
        self.shell.readiness.set(self.published.len() == self.configured.deployment.regions.len());
        published
    }

    async fn tell(&mut self, now: TimestampMs, output: &RoundOutput, notes: Vec<Note>) {
        let overview = Overview {
            v: 1,
            at_ms: now.0,
            regions: output.regions.iter().map(|(id, plan)| (id.to_string(), self.region_view(id, plan))).collect(),
            pathways: output.pathways.iter().map(|(id, totals)| (id.to_string(), self.totals(id, totals))).collect(),
            log: self.log.iter().cloned().collect(),
            telemetry_ppm: output.telemetry.0,
            devices: self.ears.coverage.tell(now),
            notes,
        };
        let known = directives::Known {
            now,
            deployment: &self.configured.deployment,
            overview: &overview,
            reports: &self.shell.loads.all(),
            prewarm: self.standing.prewarm().collect(),
            prewarm_top: self.configured.config.prewarm_top,
            redirect: self.configured.config.redirect_new_sessions,
        };
        self.shell.directives.send_replace(known.directives());
        let message = serde_json::to_vec(&overview).expect("string keys only");
        self.overview.send_replace(overview);
        self.shell.bus.publish(OVERVIEW_TOPIC, message.into()).await;
    }

    fn totals(&self, id: &PathwayId, totals: &core::PathwayTotals) -> PathwayTotals {
        let config = self.configured.deployment.pathways.get(id);
        PathwayTotals {
            kind: spillway_service::deployment::kind_of(id).to_string(),
            utilisation_ppm: totals.utilisation.map(|share| share.0),
            capacity_bps: totals.capacity.0,
            price_usd_per_gb: config.map_or(0.0, |config| config.price_usd_per_gb),
            reported_ms: self.shell.loads.last(id).map(|at| at.0),
        }
    }

    fn region_view(&self, id: &RegionId, plan: &core::RegionPlan) -> RegionView {
        let manifest = &plan.manifest;
        let weights = weights_by_pathway(manifest);
        let pathways = manifest.pathways.iter().map(|(id, pathway)| {
            let view = PathwayView {
                state: pathway.state.to_string(),
                reason: pathway.reason.clone(),
                since_ms: pathway.since.0,
                weight_ppm: weights.get(id).copied().unwrap_or(0),
                share_ppm: plan.shares.get(id).map_or(0, |share| share.0),
                views_active: plan.views.get(id).copied().unwrap_or(0),
                good_ppm: plan.good.get(id).copied().flatten().map(|share| share.0),
                probe: match plan.probes.get(id).copied().flatten() {
                    Some(true) => "ok".into(),
                    Some(false) => "bad".into(),
                    None => "none".into(),
                },
            };
            (id.to_string(), view)
        });
        RegionView {
            epoch: self.published.get(id).map_or(0, |current| current.epoch),
            mode: manifest.modes.first().map(|rule| rule.mode.to_string()).unwrap_or_default(),
            views_active: plan.views_active,
            demand_bps: plan.demand.0,
            max_bitrate_kbps: manifest.max_bitrate_kbps.first().map(|(_, kbps)| *kbps),
            pathways: pathways.collect(),
            verdicts: plan.verdicts.clone(),
        }
    }
}

/// Planned share of new views by pathway, groups spread over their nodes: of the cohort that fits all.
pub(crate) fn weights_by_pathway(manifest: &Manifest) -> BTreeMap<PathwayId, u32> {
    let mut out = BTreeMap::new();
    let everyone = manifest.cohorts.iter().find(|rule| rule.asn.is_none() && rule.class.is_none());
    for (target, weight) in everyone.into_iter().flat_map(|rule| &rule.weights_new) {
        match target {
            spillway_routing::Target::Pathway(id) => *out.entry(id.clone()).or_default() += weight,
            spillway_routing::Target::Group(id) => {
                for (node, share) in manifest.groups.get(id).into_iter().flat_map(|group| &group.nodes) {
                    let of_node = u64::from(*weight) * u64::from(*share) / 1_000_000;
                    *out.entry(node.clone()).or_default() += u32::try_from(of_node).unwrap_or(u32::MAX);
                }
            }
        }
    }
    out
}
