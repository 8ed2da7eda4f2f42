//! Refused events as rows of `quarantine`.

use arrow::array::RecordBatch;

use crate::LakeError;
use crate::cells::Cells;
use crate::schema::TableName;
use crate::time::day_of;

/// Refused events of one beacon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantined {
    /// Property of the write key.
    pub property: String,
    /// Arrival, ms since epoch.
    pub received_ms: u64,
    /// The view.
    pub view_id: Option<String>,
    /// `sdk`, or the CMCD target.
    pub source: String,
    /// Sender's name and version.
    pub sdk: String,
    /// The events.
    pub events: Vec<QuarantinedEvent>,
}

/// One refused event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuarantinedEvent {
    /// Place in its beacon.
    pub row: usize,
    /// Stable reason.
    pub reason: String,
    /// Its text, scrubbed.
    pub raw: Option<String>,
}

/// The rows, as the WAL holds them.
///
/// # Errors
/// [`LakeError::Arrow`], which would be a fault of this module.
pub fn to_arrow(batch: &Quarantined) -> Result<RecordBatch, LakeError> {
    let day = day_of(batch.received_ms);
    let mut cells = Cells::new(TableName::Quarantine);
    for event in &batch.events {
        cells.text(Some(&batch.property));
        cells.text(Some(&day));
        cells.int(Some(batch.received_ms));
        cells.text(Some(&event.reason));
        cells.text(batch.view_id.as_deref());
        cells.text(Some(&batch.source));
        cells.text(Some(&batch.sdk));
        cells.int(Some(event.row as u64));
        cells.text(event.raw.as_deref());
    }
    cells.finish()
}
