//! Recorded rounds decided again, twice: under the policy of that time (the base) and under another one (the new).
//!
//! The path of a recorded round, file by file: [`Replay::round`] reads it, `arm` decides and publishes as the
//! orchestrator would have, `rates` says how views fared where, `figures` adds up, [`report`] is what comes out.
//!
//! Invariant: no clock, no I/O; the time is that of the recorded rounds, and the same rows give the same report.

mod arm;
mod figures;
mod rates;
pub mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use spillway_lake::records::Round;
use spillway_model::{PathwayId, RegionId, TimestampMs};
use spillway_orchestrator_core as core;
use spillway_routing::Manifest;
use spillway_wire::manifest::{ManifestError, ManifestV1};
use spillway_wire::round::{self as wire, Heard, Taught};

use crate::record::{self, Lessons, Manifests, ShapeError};
use arm::Arm;
use figures::Figures;
use report::{Difference, Fidelity, LeftOut, Report};

/// Seconds between two rounds that count at most: after a gap nobody knows what was.
const GAP_MAX_S: f64 = 60.0;

/// Why recorded rounds can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A row that does not read.
    #[error("the round recorded at {at_ms} ms does not read: {detail}")]
    Unreadable {
        /// Which round, ms since epoch.
        at_ms: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// The configuration of that time is not one of this version.
    #[error(
        "the configuration recorded at {at_ms} ms is not valid now, name the one of that time with --base: {detail}"
    )]
    Configuration {
        /// Which round, ms since epoch.
        at_ms: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// The new deployment has nothing to do with the recorded one.
    #[error("the new configuration has none of the recorded {what} (recorded: {recorded}; configured: {configured})")]
    Foreign {
        /// `regions` or `pathways`.
        what: &'static str,
        /// Those of the recording.
        recorded: String,
        /// Those of the configuration.
        configured: String,
    },
    /// Nothing to replay.
    #[error("no round to replay: {0}")]
    Nothing(String),
}

/// Reads the configuration of that time, as it stands in a recorded row.
pub type BaseOf<'a> = Box<dyn Fn(&str) -> Result<core::Setup, String> + 'a>;

/// Two policies and what came of them so far.
pub struct Replay<'a> {
    from: TimestampMs,
    base_of: BaseOf<'a>,
    new_setup: core::Setup,
    lessons: Option<Lessons>,
    /// What was really in force.
    recorded: Option<Manifests>,
    config: Option<String>,
    /// The base decides by this configuration.
    base_config: Option<String>,
    row: Option<Row>,
    arms: Option<(Arm, Arm)>,
    figures: Figures,
    fidelity: Fidelity,
    runs: u64,
    missing: u64,
    skipped: u64,
    first: Option<TimestampMs>,
    last: Option<TimestampMs>,
}

/// Run and number of the row before.
#[derive(Clone, Copy)]
struct Row {
    started_ms: u64,
    seq: u64,
}

impl<'a> Replay<'a> {
    /// Rounds count from `from` on; rows before it only say what was in force then.
    #[must_use]
    pub fn new(from: TimestampMs, base_of: BaseOf<'a>, new_setup: core::Setup) -> Self {
        Self {
            from,
            base_of,
            new_setup,
            lessons: None,
            recorded: None,
            config: None,
            base_config: None,
            row: None,
            arms: None,
            figures: Figures::default(),
            fidelity: Fidelity::default(),
            runs: 0,
            missing: 0,
            skipped: 0,
            first: None,
            last: None,
        }
    }

    /// Decides a recorded round again. Rows come in the order in which they were decided, and of one orchestrator.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn round(&mut self, row: &Round) -> Result<(), ReplayError> {
        let restarted = self.row.is_none_or(|last| last.started_ms != row.started_ms);
        if restarted {
            (self.lessons, self.recorded, self.config) = (None, None, None);
        }
        let known = self.learn(row)?;
        let counts = row.at_ms >= self.from.0;
        if let Some(last) = self.row.filter(|_| counts) {
            let expected = if restarted { 0 } else { last.seq + 1 };
            self.missing += row.seq.saturating_sub(expected);
        }
        self.row = Some(Row { started_ms: row.started_ms, seq: row.seq });
        if counts && known {
            self.decide(row, restarted)?;
        } else if counts {
            self.skipped += 1;
        }
        let published = row.published_json.as_deref().map(|text| manifests(row, text)).transpose()?;
        if counts && known {
            self.fidelity.epochs_recorded += published.as_ref().map_or(0, |published| published.len() as u64);
        }
        if let Some(recorded) = &mut self.recorded {
            recorded.extend(published.into_iter().flatten());
        }
        if counts && known {
            self.compare(row);
        }
        Ok(())
    }

    /// Takes what the row says beside its evidence. Whether all is known that a decision needs.
    fn learn(&mut self, row: &Round) -> Result<bool, ReplayError> {
        if let Some(text) = &row.taught_json {
            let taught: Taught = wire::parse(text).map_err(|detail| unreadable(row, detail))?;
            self.lessons = Some(Lessons::try_from(taught).map_err(|error| unreadable(row, error))?);
        }
        if let Some(text) = &row.in_force_json {
            self.recorded = Some(manifests(row, text)?);
        }
        if let Some(config) = &row.config_toml {
            self.config = Some(config.clone());
        }
        Ok(self.lessons.is_some() && self.recorded.is_some() && self.config.is_some())
    }

    fn decide(&mut self, row: &Round, restarted: bool) -> Result<(), ReplayError> {
        let heard: Heard = wire::parse(&row.heard_json).map_err(|detail| unreadable(row, detail))?;
        let mut input = record::input(heard).map_err(|error: ShapeError| unreadable(row, error))?;
        let (Some(lessons), Some(recorded), Some(config)) = (&self.lessons, &self.recorded, &self.config) else {
            return Ok(());
        };
        lessons.teach(&mut input);
        let now = TimestampMs(row.at_ms);
        // A restart of the orchestrator would have been one under the new policy too.
        let begins = restarted || self.arms.is_none();
        if begins || self.base_config.as_ref() != Some(config) {
            let base =
                (self.base_of)(config).map_err(|detail| ReplayError::Configuration { at_ms: row.at_ms, detail })?;
            self.base_config = Some(config.clone());
            if let Some((base_arm, _)) = self.arms.as_mut().filter(|_| !begins) {
                // It was read again while the orchestrator ran. The new one is what it is.
                base_arm.reload(base, recorded);
                self.replay(now, &input);
                return Ok(());
            }
            self.runs += 1;
            self.arms = Some(match self.arms.take() {
                None => {
                    foreign("regions", base.regions.keys(), self.new_setup.regions.keys())?;
                    foreign("pathways", base.pathways.keys(), self.new_setup.pathways.keys())?;
                    (Arm::start(base, recorded), Arm::start(self.new_setup.clone(), recorded))
                }
                Some((base_arm, new_arm)) => {
                    (base_arm.restart(base, recorded.clone()), new_arm.restart_on_its_own(self.new_setup.clone()))
                }
            });
        }
        self.replay(now, &input);
        Ok(())
    }

    fn replay(&mut self, now: TimestampMs, input: &core::RoundInput) {
        let Some((base, new)) = &mut self.arms else { return };
        let seconds = self.last.map(|last| now.since(last).as_secs_f64().min(GAP_MAX_S));
        base.round(now, seconds, input);
        new.round(now, seconds, input);
        self.figures.round(now, seconds, input, base, new);
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// Whether the base routes as the orchestrator really did.
    fn compare(&mut self, row: &Round) {
        let (Some((base, _)), Some(recorded)) = (&self.arms, &self.recorded) else { return };
        self.fidelity.rounds += 1;
        let alike = |region: &RegionId| match (base.in_force().get(region), recorded.get(region)) {
            (Some(ours), Some(theirs)) => core::same_routing(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        match base.regions().find(|region| !alike(region)) {
            None => self.fidelity.alike += 1,
            Some(region) => {
                let words = |manifests: &Manifests| manifests.get(region).map_or("nothing".to_owned(), told);
                self.fidelity.first_difference.get_or_insert_with(|| Difference {
                    at_ms: row.at_ms,
                    region: region.to_string(),
                    replayed: words(base.in_force()),
                    recorded: words(recorded),
                });
            }
        }
    }

    /// What came of it.
    ///
    /// # Errors
    /// [`ReplayError::Nothing`] if no round could be decided again.
    pub fn finish(self) -> Result<Report, ReplayError> {
        let (Some((base, new)), Some(first), Some(last)) = (self.arms, self.first, self.last) else {
            return Err(ReplayError::Nothing(match self.skipped {
                0 => "none was recorded in the span".into(),
                skipped => format!("{skipped} were recorded in the span, none of them with what was in force"),
            }));
        };
        let mut fidelity = self.fidelity;
        fidelity.epochs_replayed = base.epochs();
        fidelity.share = fidelity.alike as f64 / fidelity.rounds.max(1) as f64;
        let left_out = self.figures.left_out(base.setup(), new.setup());
        Ok(Report {
            first_ms: first.0,
            last_ms: last.0,
            rounds: fidelity.rounds,
            rounds_missing: self.missing,
            rounds_skipped: self.skipped,
            runs: self.runs,
            fidelity,
            changed: report::changed(base.setup(), new.setup()),
            left_out,
            ..self.figures.finish(&base, &new)
        })
    }
}

fn unreadable(row: &Round, detail: impl ToString) -> ReplayError {
    ReplayError::Unreadable { at_ms: row.at_ms, detail: detail.to_string() }
}

fn manifests(row: &Round, text: &str) -> Result<Manifests, ReplayError> {
    let read: BTreeMap<String, ManifestV1> = serde_json::from_str(text).map_err(|error| unreadable(row, error))?;
    let one = |manifest: ManifestV1| -> Result<(RegionId, Manifest), ManifestError> {
        let manifest = Manifest::try_from(manifest)?;
        Ok((manifest.region.clone(), manifest))
    };
    read.into_values().map(one).collect::<Result<_, _>>().map_err(|error| unreadable(row, error))
}

fn foreign<T: Ord + ToString>(
    what: &'static str,
    recorded: impl Iterator<Item = T> + Clone,
    mut configured: impl Iterator<Item = T> + Clone,
) -> Result<(), ReplayError> {
    let list = |ids: &mut dyn Iterator<Item = T>| ids.map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
    let all = configured.clone();
    if configured.any(|id| recorded.clone().any(|other| other == id)) {
        return Ok(());
    }
    Err(ReplayError::Foreign { what, recorded: list(&mut recorded.clone()), configured: list(&mut all.clone()) })
}

/// Weights and states, for people.
fn told(manifest: &Manifest) -> String {
    let weights = crate::round::weights_by_pathway(manifest);
    let one = |(id, pathway): (&PathwayId, &spillway_routing::Pathway)| {
        let share = f64::from(weights.get(id).copied().unwrap_or(0)) / 1e4;
        format!("{id} {share:.1} % {}", pathway.state)
    };
    manifest.pathways.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl LeftOut {
    fn new(pathway: &PathwayId, region: &RegionId, of: &str, share: f64) -> Self {
        Self { pathway: pathway.to_string(), region: region.to_string(), of: of.to_owned(), windows_share: share }
    }
}
