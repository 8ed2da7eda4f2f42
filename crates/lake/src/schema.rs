//! The tables: columns with type, unit (in the name) and description (`comment` in the field's metadata, as Delta and
//! Spark have it). Columns are only ever added, and all but the key may be null, so that old files stay readable.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use crate::LakeError;

/// A table of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableName {
    /// One row per event.
    Events,
    /// One row per published epoch and region.
    Decisions,
    /// One row per drill report.
    Drills,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    Float,
    Bool,
    Pathways,
}

/// (name, kind, nullable, description).
type Column = (&'static str, Kind, bool, &'static str);

use Kind::{Bool, Float, Int, Pathways, Text};

/// Columns of `events` as the WAL holds them; [`events`] has `collector` and `wal_seq` behind. The first 32 get
/// statistics, so those that queries filter by stand first.
pub(crate) const EVENT_COLUMNS: &[Column] = &[
    ("property", Text, false, "tenant's app"),
    ("view_id", Text, false, "playback attempt"),
    ("source", Text, false, "sdk, or the CMCD target"),
    ("seq", Int, false, "number of the event within view and source"),
    ("dt", Text, false, "UTC day of event_ms; partition"),
    ("event_ms", Int, false, "event time, ms since epoch: received - (sent - created), at most received"),
    ("received_ms", Int, false, "arrival at the collector, ms since epoch"),
    ("created_ms", Int, false, "sender's wall clock at creation, ms since epoch; may be wrong"),
    ("mono_ms", Int, false, "sender's monotonic clock since the view began, ms"),
    ("type", Text, false, "event type"),
    ("state", Text, true, "player state"),
    ("content_id", Text, true, "title or asset"),
    ("stream_type", Text, true, "vod, live or ll"),
    ("format", Text, true, "hls, dash or other"),
    ("player", Text, true, "player"),
    ("player_version", Text, true, "player's version"),
    ("device_class", Text, true, "desktop, mobile, tablet, tv, stb, console or other"),
    ("region", Text, true, "routing region, from the address"),
    ("asn", Int, true, "network, from the address"),
    ("country", Text, true, "country, from the address"),
    ("pathway", Text, true, "pathway that serves now"),
    ("from_pathway", Text, true, "pathway_switch: from"),
    ("to_pathway", Text, true, "pathway_switch: to"),
    ("reason", Text, true, "pathway_switch, rendition, view_end: why"),
    ("playhead_ms", Int, true, "playhead, ms"),
    ("buffer_ms", Int, true, "buffer ahead, ms"),
    ("throughput_kbps", Int, true, "measured throughput, kbit/s"),
    ("bitrate_kbps", Int, true, "bitrate of the rendition, kbit/s"),
    ("watched_ms", Int, true, "cumulative: wall time since play request without pauses, ms"),
    ("playing_ms", Int, true, "cumulative: time the picture moved, ms"),
    ("startup_ms", Int, true, "play request to first frame, ms"),
    ("stall_count", Int, true, "cumulative: stalls"),
    ("stall_ms", Int, true, "cumulative: stalled time, an open stall included, ms"),
    ("seek_count", Int, true, "cumulative: seeks"),
    ("seek_ms", Int, true, "cumulative: time seeking, ms"),
    ("pause_ms", Int, true, "cumulative: paused time, ms"),
    ("bits_played", Int, true, "cumulative: media shown, bits"),
    ("switch_up", Int, true, "cumulative: switches to a higher rendition"),
    ("switch_down", Int, true, "cumulative: switches to a lower rendition"),
    ("dropped_frames", Int, true, "cumulative: frames not shown"),
    ("decoded_frames", Int, true, "cumulative: frames decoded"),
    ("this_stall_ms", Int, true, "stall_end: time of this stall, ms"),
    ("visible", Bool, true, "visibility: whether the player can be seen"),
    ("request_host", Text, true, "segment: host"),
    ("request_pathway", Text, true, "segment: pathway"),
    ("request_status", Int, true, "segment: HTTP status, 0 = no answer"),
    ("request_ttfb_ms", Int, true, "segment: time to first byte, ms"),
    ("request_ttlb_ms", Int, true, "segment: time to last byte, or in flight so far, ms"),
    ("request_bytes", Int, true, "segment: bytes received"),
    ("request_late", Bool, true, "segment: in flight for more than 4 s"),
    ("error_severity", Text, true, "fatal or warning"),
    ("error_class", Text, true, "path, content, drm, entitlement, ad or client"),
    ("error_code", Text, true, "player's code"),
    ("error_message", Text, true, "for people, without URL queries"),
    ("error_status", Int, true, "HTTP status of the error"),
    ("error_pathway", Text, true, "pathway of the error"),
    ("epoch", Int, true, "manifest epoch of the last steering answer"),
    ("sample_rate", Float, true, "share of views that report"),
    ("sdk", Text, true, "sender's name and version"),
    ("session_id", Text, true, "tab or app session"),
    ("title", Text, true, "content's name for people"),
    ("os", Text, true, "operating system"),
    ("browser", Text, true, "browser"),
    ("page_type", Text, true, "watch, embed, preview"),
    ("host", Text, true, "host that serves now, where the pathway was unknown"),
    ("rtt_ms", Int, true, "round trip of the previous beacon, ms"),
    ("dropped_events", Int, true, "events that the sender gave up since the view began"),
    ("pathways", Pathways, true, "cumulative counters of the view by pathway"),
];

const WAL_COLUMNS: &[Column] =
    &[("collector", Text, false, "collector that stored the row"), ("wal_seq", Int, false, "its WAL sequence")];

const DECISION_COLUMNS: &[Column] = &[
    ("dt", Text, false, "UTC day of issued_ms; partition"),
    ("region", Text, false, "routing region"),
    ("epoch", Int, false, "version of the region's manifest"),
    ("issued_ms", Int, false, "published at, ms since epoch"),
    ("policy", Text, true, "policy that decided"),
    ("reason", Text, true, "what changed and why, for people"),
    ("shares_json", Text, true, "JSON: pathway to share, ppm"),
    ("state_json", Text, true, "JSON: pathway to state and reason"),
];

const DRILL_COLUMNS: &[Column] = &[
    ("dt", Text, false, "UTC day of ended_ms; partition"),
    ("id", Text, false, "drill"),
    ("ended_ms", Int, false, "ended at, ms since epoch"),
    ("report_json", Text, true, "JSON: the report"),
];

/// Cumulative counters by pathway: the fields of one element of `pathways`.
pub(crate) const PATHWAY_FIELDS: &[(&str, &str)] = &[
    ("requests_ok", "media requests answered well"),
    ("requests_failed", "media requests failed"),
    ("requests_late", "media requests in flight for more than 4 s"),
    ("bytes", "bytes of media"),
    ("ttfb_sum_ms", "sum of times to first byte, ms"),
    ("playing_ms", "time played from it, ms"),
    ("stall_ms", "stall time that it caused, ms"),
];

fn comment(text: &str) -> HashMap<String, String> {
    HashMap::from([("comment".to_owned(), text.to_owned())])
}

pub(crate) fn pathway_struct_fields() -> Fields {
    let name = Field::new("pathway", DataType::Utf8, true);
    let counters = PATHWAY_FIELDS.iter().map(|(name, _)| Field::new(*name, DataType::Int64, true));
    std::iter::once(name).chain(counters).collect()
}

fn field((name, kind, nullable, description): &Column) -> Field {
    let data_type = match kind {
        Text => DataType::Utf8,
        Int => DataType::Int64,
        Float => DataType::Float64,
        Bool => DataType::Boolean,
        // `element` is what Delta calls a list's item.
        Pathways => DataType::List(Arc::new(Field::new("element", DataType::Struct(pathway_struct_fields()), true))),
    };
    Field::new(*name, data_type, *nullable).with_metadata(comment(description))
}

fn schema(parts: &[&[Column]]) -> SchemaRef {
    let fields: Vec<Field> = parts.iter().flat_map(|part| part.iter()).map(field).collect();
    Arc::new(Schema::new(fields))
}

impl TableName {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Events, Self::Decisions, Self::Drills];

    /// Name in SQL and folder under the root.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Decisions => "decisions",
            Self::Drills => "drills",
        }
    }

    /// Its columns.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Events => events(),
            Self::Decisions => schema(&[DECISION_COLUMNS]),
            Self::Drills => schema(&[DRILL_COLUMNS]),
        }
    }
}

/// Columns of `events`, with the collector and WAL sequence of each row.
#[must_use]
pub fn events() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema(&[EVENT_COLUMNS, WAL_COLUMNS]));
    Arc::clone(&SCHEMA)
}

/// Columns of `events` as a WAL record holds them: without descriptions, which would be most of a small record.
pub(crate) fn wal_events() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let plain = EVENT_COLUMNS.iter().map(|column| field(column).with_metadata(HashMap::new()));
        let table = HashMap::from([("table".to_owned(), "events".to_owned())]);
        Arc::new(Schema::new_with_metadata(plain.collect::<Vec<_>>(), table))
    });
    Arc::clone(&SCHEMA)
}

/// Brings `batch`, written with another version of `schema`, to `schema`: by name, absent columns null.
///
/// # Errors
/// If a column has another type, or one that must not be null is missing.
pub fn align(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, LakeError> {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), batch.num_rows()),
        })
        .collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_described_and_named_once() {
        for table in TableName::ALL {
            let schema = table.schema();
            let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
            assert!(schema.fields().iter().all(|field| !field.metadata()["comment"].is_empty()));
        }
    }
}
