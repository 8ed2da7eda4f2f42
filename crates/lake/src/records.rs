//! Rows of the small tables, which the orchestrator appends.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde::Deserialize;

use crate::LakeError;
use crate::schema::TableName;
use crate::time::day_of;

/// A row of `decisions`: one published epoch of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Region.
    pub region: String,
    /// Version of its manifest.
    pub epoch: u64,
    /// Published at, ms since epoch.
    pub issued_ms: u64,
    /// Policy that decided.
    pub policy: String,
    /// What changed and why, for people.
    pub reason: String,
    /// JSON: pathway to share, ppm.
    pub shares_json: String,
    /// JSON: pathway to state and reason.
    pub state_json: String,
}

/// A row of `drills`: one finished drill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drill {
    /// Drill.
    pub id: String,
    /// Ended at, ms since epoch.
    pub ended_ms: u64,
    /// JSON: the report.
    pub report_json: String,
}

/// A row of `audit`: one change by an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Changed at, ms since epoch.
    pub at_ms: u64,
    /// Process that took it.
    pub orchestrator: String,
    /// Name of the admin token.
    pub actor: String,
    /// Its role.
    pub role: String,
    /// What was done: `override.add`, `override.end`, `calm.add`, `calm.end`, `drill.start`, `drill.abort`, and,
    /// by the orchestrator itself, `canary.accept`, `canary.roll_back`.
    pub action: String,
    /// Id of what was changed.
    pub object: String,
    /// Why, in the actor's words; empty: not asked for.
    pub reason: String,
    /// JSON: what was ordered.
    pub detail_json: String,
}

/// A row of `rounds`: what one round of an orchestrator went by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Round {
    /// Time of the round, ms since epoch.
    pub at_ms: u64,
    /// Process that decided.
    pub orchestrator: String,
    /// Its first round, ms since epoch.
    pub started_ms: u64,
    /// 0, 1, 2 … of the run.
    pub seq: u64,
    /// Version of the texts.
    pub v: u64,
    /// JSON: evidence.
    pub heard_json: String,
    /// JSON: what the lake had taught; `None`: as in the row before.
    pub taught_json: Option<String>,
    /// JSON: manifests in force before the round, by region; `None`: as in the row before, and what it published.
    pub in_force_json: Option<String>,
    /// JSON: manifests that the round published, by region; `None`: none.
    pub published_json: Option<String>,
    /// TOML: the configuration's sections that decide; `None`: as in the row before.
    pub config_toml: Option<String>,
}

/// A kind of row that is appended now and then.
pub trait Record: Send + Sync + 'static {
    /// Its table.
    const TABLE: TableName;

    /// Length of its texts, bytes, where they may be large: what waits to be written is bounded by it. 0: small.
    fn bytes(&self) -> usize {
        0
    }

    /// Rows of the table.
    ///
    /// # Errors
    /// [`LakeError::Arrow`], which would be a fault of this module.
    fn to_arrow(rows: &[Self]) -> Result<RecordBatch, LakeError>
    where
        Self: Sized;
}

impl Record for Decision {
    const TABLE: TableName = TableName::Decisions;

    fn to_arrow(rows: &[Self]) -> Result<RecordBatch, LakeError> {
        decisions(rows)
    }
}

impl Record for Round {
    const TABLE: TableName = TableName::Rounds;

    fn bytes(&self) -> usize {
        let optional = [&self.taught_json, &self.in_force_json, &self.published_json, &self.config_toml];
        self.heard_json.len() + optional.into_iter().flatten().map(String::len).sum::<usize>()
    }

    fn to_arrow(rows: &[Self]) -> Result<RecordBatch, LakeError> {
        rounds(rows)
    }
}

impl Record for Change {
    const TABLE: TableName = TableName::Audit;

    fn to_arrow(rows: &[Self]) -> Result<RecordBatch, LakeError> {
        changes(rows)
    }
}

fn text<T>(rows: &[T], value: impl Fn(&T) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
}

fn optional<T>(rows: &[T], value: impl Fn(&T) -> Option<&str>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<StringArray>())
}

fn int<T>(rows: &[T], value: impl Fn(&T) -> u64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::try_from(value(row)).unwrap_or(i64::MAX))))
}

/// Rows for [`TableName::Decisions`].
///
/// # Errors
/// [`LakeError::Arrow`], which would be a fault of this module.
pub fn decisions(rows: &[Decision]) -> Result<RecordBatch, LakeError> {
    let columns = vec![
        text(rows, |row| day_of(row.issued_ms)),
        text(rows, |row| row.region.clone()),
        int(rows, |row| row.epoch),
        int(rows, |row| row.issued_ms),
        text(rows, |row| row.policy.clone()),
        text(rows, |row| row.reason.clone()),
        text(rows, |row| row.shares_json.clone()),
        text(rows, |row| row.state_json.clone()),
    ];
    Ok(RecordBatch::try_new(TableName::Decisions.schema(), columns)?)
}

/// Rows for [`TableName::Drills`].
///
/// # Errors
/// As [`decisions`].
pub fn drills(rows: &[Drill]) -> Result<RecordBatch, LakeError> {
    let columns = vec![
        text(rows, |row| day_of(row.ended_ms)),
        text(rows, |row| row.id.clone()),
        int(rows, |row| row.ended_ms),
        text(rows, |row| row.report_json.clone()),
    ];
    Ok(RecordBatch::try_new(TableName::Drills.schema(), columns)?)
}

/// Rows for [`TableName::Audit`].
///
/// # Errors
/// As [`decisions`].
pub fn changes(rows: &[Change]) -> Result<RecordBatch, LakeError> {
    let columns = vec![
        text(rows, |row| day_of(row.at_ms)),
        int(rows, |row| row.at_ms),
        text(rows, |row| row.orchestrator.clone()),
        text(rows, |row| row.actor.clone()),
        text(rows, |row| row.role.clone()),
        text(rows, |row| row.action.clone()),
        text(rows, |row| row.object.clone()),
        text(rows, |row| row.reason.clone()),
        text(rows, |row| row.detail_json.clone()),
    ];
    Ok(RecordBatch::try_new(TableName::Audit.schema(), columns)?)
}

/// Rows for [`TableName::Rounds`].
///
/// # Errors
/// As [`decisions`].
pub fn rounds(rows: &[Round]) -> Result<RecordBatch, LakeError> {
    let columns = vec![
        text(rows, |row| day_of(row.at_ms)),
        int(rows, |row| row.at_ms),
        text(rows, |row| row.orchestrator.clone()),
        int(rows, |row| row.started_ms),
        int(rows, |row| row.seq),
        int(rows, |row| row.v),
        int(rows, |row| row.bytes() as u64),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.heard_json))),
        optional(rows, |row| row.taught_json.as_deref()),
        optional(rows, |row| row.in_force_json.as_deref()),
        optional(rows, |row| row.published_json.as_deref()),
        optional(rows, |row| row.config_toml.as_deref()),
    ];
    Ok(RecordBatch::try_new(TableName::Rounds.schema(), columns)?)
}
