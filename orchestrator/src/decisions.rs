//! What was decided goes into the lake, and what the lake teaches comes back: slow, and never in a round's way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spillway_lake::records::Decision;
use spillway_lake::{LakeError, LakeSession, TailSource, baseline};
use spillway_model::{Clock, PathwayId, RegionId};
use spillway_routing::Manifest;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ledger::{self, Ledger, Writer};

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
    rows: Ledger<Decision>,
    baselines: watch::Receiver<Baselines>,
    writer: Writer,
    learner: JoinHandle<()>,
}

impl Decisions {
    /// Starts the writer and the learner.
    pub(crate) fn start(lake: Lake, id: &str, clock: Arc<dyn Clock>) -> Self {
        let (rows, writer) = ledger::start(lake.root.clone(), format!("{id}-decisions"), COMMIT_EVERY);
        let (learned, baselines) = watch::channel(Baselines::new());
        let learner = tokio::spawn(learn(lake, learned, clock));
        Self { rows, baselines, writer, learner }
    }

    /// Queues a published manifest. A full queue (an unreachable lake) loses it, counted; publishing never waits.
    pub(crate) fn record(&self, manifest: &Manifest) {
        self.rows.record(row(manifest));
    }

    /// Usual bad-window rates by pathway × region.
    pub(crate) fn baselines(&self) -> Baselines {
        self.baselines.borrow().clone()
    }

    /// Writes what is queued and ends.
    pub(crate) async fn close(self) {
        self.learner.abort();
        self.writer.close().await;
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
