//! What was decided goes into the lake, and what the lake teaches comes back: slow, and never in a round's way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spillway_lake::records::{self, Decision};
use spillway_lake::schema::TableName;
use spillway_lake::table::Table;
use spillway_lake::{LakeError, LakeSession, TailSource, baseline};
use spillway_model::{Clock, PathwayId, RegionId};
use spillway_routing::Manifest;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Decisions that wait to be written: an hour of one a second.
const QUEUE_MAX: usize = 4_096;
const COMMIT_EVERY: Duration = Duration::from_secs(10);
const LEARN_EVERY: Duration = Duration::from_secs(60);
/// Baselines rest on the last hour, but not on its newest minutes: an incident must not become normal while it lasts.
const LEARN_FROM_MS: u64 = 3_600_000;
const LEARN_UNTIL_MS: u64 = 180_000;
/// Fewer windows say nothing of what is normal.
const BASELINE_MIN_WINDOWS: u64 = 200;

type Baselines = BTreeMap<(PathwayId, RegionId), f64>;

/// Where the lake is, and how to read its newest rows.
#[derive(Clone)]
pub struct Lake {
    /// Its root.
    pub root: url::Url,
    /// Rows that are not committed yet.
    pub tails: Vec<TailSource>,
}

/// The orchestrator's side of the lake.
pub(crate) struct Decisions {
    rows: Option<mpsc::Sender<Decision>>,
    baselines: watch::Receiver<Baselines>,
    writer: JoinHandle<()>,
    learner: JoinHandle<()>,
}

impl Decisions {
    /// Starts the writer and the learner.
    pub(crate) fn start(lake: Lake, id: &str, clock: Arc<dyn Clock>) -> Self {
        let (rows, queue) = mpsc::channel(QUEUE_MAX);
        let (learned, baselines) = watch::channel(Baselines::new());
        let writer = tokio::spawn(write(lake.root.clone(), format!("{id}-decisions"), queue));
        let learner = tokio::spawn(learn(lake, learned, clock));
        Self { rows: Some(rows), baselines, writer, learner }
    }

    /// Queues a published manifest. A full queue (an unreachable lake) loses it, counted; publishing never waits.
    pub(crate) fn record(&self, manifest: &Manifest) {
        if let Some(rows) = &self.rows
            && rows.try_send(row(manifest)).is_err()
        {
            metrics::counter!("spillway_decisions_not_recorded_total").increment(1);
        }
    }

    /// Usual bad-window rates by pathway × region.
    pub(crate) fn baselines(&self) -> Baselines {
        self.baselines.borrow().clone()
    }

    /// Writes what is queued and ends.
    pub(crate) async fn close(mut self) {
        self.learner.abort();
        self.rows = None;
        if let Err(error) = self.writer.await {
            tracing::warn!(%error, "the last decisions may not be in the lake");
        }
    }
}

fn row(manifest: &Manifest) -> Decision {
    let everyone = manifest.cohorts.iter().find(|rule| rule.asn.is_none() && rule.class.is_none());
    let weights: BTreeMap<&str, u32> =
        everyone.iter().flat_map(|rule| &rule.weights_new).map(|(target, ppm)| (target.as_str(), *ppm)).collect();
    let states: BTreeMap<&str, serde_json::Value> = manifest
        .pathways
        .iter()
        .map(|(id, pathway)| (id.as_str(), json!({"state": pathway.state.as_str(), "reason": pathway.reason})))
        .collect();
    Decision {
        region: manifest.region.to_string(),
        epoch: manifest.epoch,
        issued_ms: manifest.issued.0,
        policy: manifest.policy.clone(),
        reason: everyone.map(|rule| rule.reason.clone()).unwrap_or_default(),
        shares_json: json!(weights).to_string(),
        state_json: json!(states).to_string(),
    }
}

async fn write(root: url::Url, app_id: String, mut queue: mpsc::Receiver<Decision>) {
    let mut waiting: Vec<Decision> = Vec::new();
    let mut pace = tokio::time::interval(COMMIT_EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let open = tokio::select! {
            row = queue.recv() => match row {
                Some(row) => { waiting.push(row); waiting.len() < QUEUE_MAX }
                None => false,
            },
            _ = pace.tick() => false,
        };
        if open {
            continue;
        }
        if !waiting.is_empty() {
            match append(&root, &app_id, &waiting).await {
                Ok(()) => waiting.clear(),
                Err(error) => tracing::warn!(%error, rows = waiting.len(), "decisions not written yet"),
            }
            let too_many = waiting.len().saturating_sub(QUEUE_MAX / 2);
            metrics::counter!("spillway_decisions_not_recorded_total").increment(too_many as u64);
            waiting.drain(..too_many);
        }
        if queue.is_closed() && queue.is_empty() {
            return;
        }
    }
}

async fn append(root: &url::Url, app_id: &str, rows: &[Decision]) -> Result<(), LakeError> {
    let mut table = Table::open(root, TableName::Decisions).await?;
    let version = table.committed(app_id).await?.unwrap_or(0) + 1;
    table.append(records::decisions(rows)?, app_id, version).await
}

async fn learn(lake: Lake, learned: watch::Sender<Baselines>, clock: Arc<dyn Clock>) {
    let mut pace = tokio::time::interval(LEARN_EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        match read(&lake, clock.now().0).await {
            Ok(baselines) => {
                learned.send_replace(baselines);
            }
            Err(error) => tracing::warn!(%error, "baselines not learned; the last ones stay"),
        }
    }
}

async fn read(lake: &Lake, now_ms: u64) -> Result<Baselines, LakeError> {
    let session = LakeSession::open(&lake.root, lake.tails.clone()).await?;
    let (from, until) = (now_ms.saturating_sub(LEARN_FROM_MS), now_ms.saturating_sub(LEARN_UNTIL_MS));
    let rates = baseline::baselines(&session, from, until).await?;
    Ok(rates
        .into_iter()
        .filter(|rate| rate.windows >= BASELINE_MIN_WINDOWS)
        .filter_map(|rate| {
            Some(((PathwayId::new(&rate.pathway).ok()?, RegionId::new(&rate.region).ok()?), rate.bad_rate))
        })
        .collect())
}
