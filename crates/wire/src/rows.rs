//! Batches of rows that roles post to a collector (`/v1/deliveries`, `/v1/steers`): NDJSON or a JSON array.
//!
//! The batch's name stands in the query (`?v=1&source=own-eu-1&seq=17`): the same source, sequence and rows posted
//! again are stored once. A source counts its batches up; it may go on anywhere above after a restart.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use spillway_model::NodeId;
use spillway_model::limits::SERVICE_ROWS_MAX;

use crate::beacon::Rejected;

/// The version that this module reads and writes.
pub const ROWS_VERSION: u32 = 1;

/// Name of a batch: the query of its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchName {
    /// 1.
    pub v: u32,
    /// Who sends: an id of 1 to 64 characters, the sender's own for good.
    pub source: String,
    /// Number of the batch; a repetition has the same.
    pub seq: u64,
}

/// The 202 answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsStored {
    /// Rows that are durable now.
    pub accepted: usize,
    /// The others: index and `bad_value`, `missing_field`, `bad_id` or `too_old`.
    pub rejected: Vec<Rejected>,
    /// The batch had come before; nothing was stored again.
    pub duplicate: bool,
}

/// Why a whole batch is refused; [`RowsError::reason`] is the stable name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// No row.
    #[error("the body is empty, JSON lines or a JSON array of rows are expected")]
    EmptyBody,
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    BadUtf8,
    /// Neither lines nor an array of JSON.
    #[error("the body is neither JSON lines nor a JSON array: {0}")]
    BadJson(String),
    /// Not version 1.
    #[error("version {0} of rows is unknown (valid: 1)")]
    UnknownVersion(u32),
    /// The source is no id.
    #[error("source: {0}")]
    BadSource(String),
    /// More rows than allowed.
    #[error("more than {SERVICE_ROWS_MAX} rows")]
    TooManyRows,
}

impl RowsError {
    /// Stable reason name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::EmptyBody => "empty_body",
            Self::BadUtf8 => "bad_utf8",
            Self::BadJson(_) => "bad_json",
            Self::UnknownVersion(_) => "unknown_version",
            Self::BadSource(_) => "bad_source",
            Self::TooManyRows => "too_many_rows",
        }
    }
}

impl BatchName {
    /// Checks version and source.
    ///
    /// # Errors
    /// [`RowsError::UnknownVersion`], [`RowsError::BadSource`].
    pub fn check(&self) -> Result<(), RowsError> {
        if self.v != ROWS_VERSION {
            return Err(RowsError::UnknownVersion(self.v));
        }
        NodeId::new(&self.source).map(|_| ()).map_err(|error| RowsError::BadSource(error.to_string()))
    }
}

/// Path and query under which a collector takes batch `seq` of `source` for `table` (`deliveries`, `steers`). An id needs
/// no escapes.
#[must_use]
pub fn target(table: &str, source: &NodeId, seq: u64) -> String {
    format!("/v1/{table}?v={ROWS_VERSION}&source={source}&seq={seq}")
}

/// Rows that the body of a 202 says were refused.
#[must_use]
pub fn rejected_rows(answer: &[u8]) -> usize {
    serde_json::from_slice::<RowsStored>(answer).map_or(0, |stored| stored.rejected.len())
}

/// Rows as they were read: the good ones with their index, and the others with index and reason.
#[derive(Clone, Debug, PartialEq)]
pub struct RowsReceived<T> {
    /// Good rows.
    pub rows: Vec<(usize, T)>,
    /// The others.
    pub rejected: Vec<Rejected>,
}

/// A row that can be checked by itself.
pub trait Row: DeserializeOwned {
    /// Whether its values hold.
    ///
    /// # Errors
    /// The stable reason.
    fn check(&self) -> Result<(), &'static str>;
}

/// Reads a body. An empty line is none.
///
/// # Errors
/// A [`RowsError`] if the body as a whole is unusable; single bad rows are in [`RowsReceived::rejected`].
pub fn parse<T: Row>(body: &[u8]) -> Result<RowsReceived<T>, RowsError> {
    let text = std::str::from_utf8(body).map_err(|_| RowsError::BadUtf8)?.trim();
    if text.is_empty() {
        return Err(RowsError::EmptyBody);
    }
    let mut out = RowsReceived { rows: Vec::new(), rejected: Vec::new() };
    if text.starts_with('[') {
        let rows: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| RowsError::BadJson(error.to_string()))?;
        if rows.is_empty() {
            return Err(RowsError::EmptyBody);
        }
        if rows.len() > SERVICE_ROWS_MAX {
            return Err(RowsError::TooManyRows);
        }
        rows.into_iter().enumerate().for_each(|(index, row)| out.push(index, row.get()));
        return Ok(out);
    }
    if !text.starts_with('{') {
        return Err(RowsError::BadJson("it begins with neither { nor [".into()));
    }
    for (index, line) in text.lines().filter(|line| !line.trim().is_empty()).enumerate() {
        if index >= SERVICE_ROWS_MAX {
            return Err(RowsError::TooManyRows);
        }
        out.push(index, line);
    }
    Ok(out)
}

impl<T: Row> RowsReceived<T> {
    fn push(&mut self, index: usize, text: &str) {
        let read = serde_json::from_str::<T>(text)
            .map_err(|error| if error.to_string().starts_with("missing field") { "missing_field" } else { "bad_value" })
            .and_then(|row| row.check().map(|()| row));
        match read {
            Ok(row) => self.rows.push((index, row)),
            Err(reason) => self.rejected.push(Rejected { index, reason: reason.into() }),
        }
    }
}
