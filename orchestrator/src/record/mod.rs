//! Records what each round went by, so that it can be decided again under another policy (`spillway backtest`).
//!
//! The round hands over its input once it is over and goes on; everything else happens beside it. A full queue or a lake
//! that is out of reach loses recordings, counted, and never holds a round up.

mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spillway_lake::records::{Record as _, Round};
use spillway_model::{RegionId, TimestampMs};
use spillway_orchestrator_core::RoundInput;
use spillway_routing::Manifest;
use spillway_wire::manifest::ManifestV1;
use spillway_wire::round::ROUND_VERSION;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use shape::ShapeError;
pub(crate) use shape::{Lessons, input};

use crate::ledger::{self, Ledger, Writer};

/// Rounds that wait to be written as text: each may be large.
const QUEUE_MAX: usize = 4;
/// A round is in the lake after so long: a replay is for afterwards, and each commit costs.
const COMMIT_EVERY: Duration = Duration::from_secs(30);
/// A row carries everything so often, in rounds: a replay begins at such a row. Five minutes.
const WHOLE_EVERY: u64 = 150;

/// Manifests by region.
pub(crate) type Manifests = BTreeMap<RegionId, Manifest>;

/// The rounds' side of the recording.
pub(crate) struct Recorder {
    over: mpsc::Sender<Over>,
    task: JoinHandle<()>,
    orchestrator: String,
    config: String,
    started: Option<TimestampMs>,
    seq: u64,
    /// The next row carries everything: a row was lost.
    again: Arc<AtomicBool>,
}

/// A round that is over.
pub(crate) struct Over {
    pub(crate) at: TimestampMs,
    pub(crate) started: TimestampMs,
    pub(crate) seq: u64,
    pub(crate) orchestrator: String,
    pub(crate) input: RoundInput,
    pub(crate) published: Manifests,
    pub(crate) whole: Option<Whole>,
}

/// What later rows leave out.
pub(crate) struct Whole {
    pub(crate) in_force: Manifests,
    pub(crate) config: String,
}

impl Recorder {
    /// Starts the recording of orchestrator `id`, whose decisions follow from `config` (TOML).
    pub(crate) fn start(root: url::Url, id: &str, config: String) -> Self {
        let (rows, writer) = ledger::start(root, format!("{id}-rounds"), COMMIT_EVERY);
        let (over, queue) = mpsc::channel(QUEUE_MAX);
        let again = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn(write(queue, rows, writer, Arc::clone(&again)));
        Self { over, task, orchestrator: id.to_owned(), config, started: None, seq: 0, again }
    }

    /// Decisions follow from `config` from the next round on: its row carries everything.
    pub(crate) fn configured(&mut self, config: String) {
        self.config = config;
        self.again.store(true, Ordering::Relaxed);
    }

    /// Call it before the round publishes: `in_force` is asked for if this row carries everything.
    pub(crate) fn before(&self, in_force: &Manifests) -> Option<Manifests> {
        let whole = self.seq.is_multiple_of(WHOLE_EVERY) || self.again.load(Ordering::Relaxed);
        whole.then(|| in_force.clone())
    }

    /// Records a round that is over. `before` is what [`Recorder::before`] said.
    pub(crate) fn record(
        &mut self,
        at: TimestampMs,
        input: RoundInput,
        before: Option<Manifests>,
        published: Manifests,
    ) {
        let (started, seq) = (*self.started.get_or_insert(at), self.seq);
        self.seq += 1;
        let carries_all = before.is_some();
        let whole = before.map(|in_force| Whole { in_force, config: self.config.clone() });
        let orchestrator = self.orchestrator.clone();
        let sent = self.over.try_send(Over { at, started, seq, orchestrator, input, published, whole });
        if sent.is_err() {
            ledger::lost::<Round>(1);
            self.again.store(true, Ordering::Relaxed);
        } else if carries_all {
            self.again.store(false, Ordering::Relaxed);
        }
    }

    /// Writes what is queued and ends.
    pub(crate) async fn close(self) {
        drop(self.over);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the last rounds may not be in the lake");
        }
    }
}

/// What the last row's texts were of: rows leave out what did not change.
#[derive(Default)]
pub(crate) struct Last(Option<RoundInput>);

impl Last {
    fn taught_as(&self, input: &RoundInput) -> bool {
        self.0.as_ref().is_some_and(|last| {
            let learned = Arc::ptr_eq(&last.learned, &input.learned) || last.learned == input.learned;
            learned && (&last.baselines, &last.bills) == (&input.baselines, &input.bills)
        })
    }

    fn keep(&mut self, input: RoundInput) {
        let RoundInput { baselines, learned, bills, .. } = input;
        self.0 = Some(RoundInput { baselines, learned, bills, ..RoundInput::default() });
    }
}

async fn write(mut queue: mpsc::Receiver<Over>, rows: Ledger<Round>, writer: Writer, again: Arc<AtomicBool>) {
    let mut last = Last::default();
    while let Some(over) = queue.recv().await {
        let whole = over.whole.is_some();
        // Large deployments have megabytes a round.
        let Ok((row, kept)) = tokio::task::spawn_blocking(move || row(over, last)).await else { break };
        last = kept;
        tracing::debug!(seq = row.seq, bytes = row.bytes(), whole, "round recorded");
        if !rows.record(row) {
            again.store(true, Ordering::Relaxed);
        }
    }
    writer.close().await;
}

/// The row of a round, and what the next one is compared with.
pub(crate) fn row(over: Over, mut last: Last) -> (Round, Last) {
    let Over { at, started, seq, orchestrator, input, published, whole } = over;
    let taught = whole.is_some() || !last.taught_as(&input);
    let row = Round {
        at_ms: at.0,
        orchestrator,
        started_ms: started.0,
        seq,
        v: u64::from(ROUND_VERSION),
        heard_json: text(&shape::heard(&input)),
        taught_json: taught.then(|| text(&shape::taught(&input))),
        in_force_json: whole.as_ref().map(|whole| by_region(&whole.in_force)),
        published_json: (!published.is_empty()).then(|| by_region(&published)),
        config_toml: whole.map(|whole| whole.config),
    };
    last.keep(input);
    (row, last)
}

fn by_region(manifests: &Manifests) -> String {
    let manifests: BTreeMap<&str, ManifestV1> =
        manifests.iter().map(|(region, manifest)| (region.as_str(), ManifestV1::from(manifest))).collect();
    text(&manifests)
}

fn text(shape: &impl serde::Serialize) -> String {
    serde_json::to_string(shape).expect("string keys only")
}
