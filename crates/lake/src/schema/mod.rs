//! The tables: columns with type, unit (in the name) and description (`comment` in the field's metadata, as Delta and
//! Spark have it). Columns are only ever added, and all but the key may be null, so that old files stay readable.

mod audit;
mod deliveries;
mod events;
mod orchestrator;
mod quarantine;
mod rollup;
mod steers;
mod views;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

pub(crate) use events::{EVENT_COLUMNS, PATHWAY_FIELDS, pathway_struct_fields};

use crate::LakeError;

/// A table of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableName {
    /// One row per event.
    Events,
    /// One row per delivery of an edge or a CDN.
    Deliveries,
    /// One row per sampled steering answer.
    Steers,
    /// One row per refused event that is worth a look.
    Quarantine,
    /// One row per published epoch and region.
    Decisions,
    /// One row per drill report.
    Drills,
    /// One row per change by an operator.
    Audit,
    /// One row per round of an orchestrator: what it went by.
    Rounds,
    /// One row per closed view and revision.
    Views,
    /// Parts of ratios and sketches by minute.
    Rollup1m,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the tables to come have bytes")]
pub(crate) enum Kind {
    Text,
    Int,
    Float,
    Bool,
    /// Opaque bytes: a sketch.
    Bytes,
    /// Text by text.
    Map,
    Pathways,
}

/// (name, kind, nullable, description).
pub(crate) type Column = (&'static str, Kind, bool, &'static str);

use Kind::{Int, Text};

/// What each row of a table that collectors feed has behind its own columns.
const WAL_COLUMNS: &[Column] =
    &[("collector", Text, false, "collector that stored the row"), ("wal_seq", Int, false, "its WAL sequence")];

fn comment(text: &str) -> HashMap<String, String> {
    HashMap::from([("comment".to_owned(), text.to_owned())])
}

/// Entries of a map, as Delta names them.
pub(crate) fn map_type() -> DataType {
    let entries = [Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries.into_iter().collect()), false)), false)
}

fn field((name, kind, nullable, description): &Column) -> Field {
    let data_type = match kind {
        Kind::Text => DataType::Utf8,
        Kind::Int => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::Bool => DataType::Boolean,
        Kind::Bytes => DataType::Binary,
        Kind::Map => map_type(),
        // `element` is what Delta calls a list's item.
        Kind::Pathways => {
            DataType::List(Arc::new(Field::new("element", DataType::Struct(pathway_struct_fields()), true)))
        }
    };
    Field::new(*name, data_type, *nullable).with_metadata(comment(description))
}

impl TableName {
    /// Every table.
    pub const ALL: [Self; 10] = [
        Self::Events,
        Self::Deliveries,
        Self::Steers,
        Self::Quarantine,
        Self::Decisions,
        Self::Drills,
        Self::Audit,
        Self::Rounds,
        Self::Views,
        Self::Rollup1m,
    ];
    /// Tables that collectors feed from their WAL.
    pub const FED: [Self; 4] = [Self::Events, Self::Deliveries, Self::Steers, Self::Quarantine];

    /// Name in SQL and folder under the root.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Deliveries => "deliveries",
            Self::Steers => "steers",
            Self::Quarantine => "quarantine",
            Self::Decisions => "decisions",
            Self::Drills => "drills",
            Self::Audit => "audit",
            Self::Rounds => "rounds",
            Self::Views => "views",
            Self::Rollup1m => "rollup_1m",
        }
    }

    /// What names a row for good: two rows with the same values are one that was sent twice, and reading shows one.
    /// `dt` is in it so that a filter on it reaches the partitions. Empty: no row is ever sent twice, or it does not
    /// matter.
    #[must_use]
    pub const fn key(self) -> &'static [&'static str] {
        match self {
            Self::Events => &["dt", "property", "view_id", "source", "seq"],
            Self::Deliveries => &["dt", "source", "batch_seq", "row"],
            Self::Steers => &["dt", "node", "batch_seq", "row"],
            Self::Quarantine
            | Self::Decisions
            | Self::Drills
            | Self::Audit
            | Self::Rounds
            | Self::Views
            | Self::Rollup1m => &[],
        }
    }

    /// The table of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == name)
    }

    pub(crate) const fn own_columns(self) -> &'static [Column] {
        match self {
            Self::Events => EVENT_COLUMNS,
            Self::Deliveries => deliveries::DELIVERY_COLUMNS,
            Self::Steers => steers::STEER_COLUMNS,
            Self::Quarantine => quarantine::QUARANTINE_COLUMNS,
            Self::Decisions => orchestrator::DECISION_COLUMNS,
            Self::Drills => orchestrator::DRILL_COLUMNS,
            Self::Audit => audit::AUDIT_COLUMNS,
            Self::Rounds => orchestrator::ROUND_COLUMNS,
            Self::Views => views::VIEW_COLUMNS,
            Self::Rollup1m => rollup::ROLLUP_COLUMNS,
        }
    }

    /// Its columns; those of a fed table with collector and WAL sequence behind.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<HashMap<TableName, SchemaRef>> = LazyLock::new(|| {
            let schema = |table: TableName| {
                let wal: &[Column] = if TableName::FED.contains(&table) { WAL_COLUMNS } else { &[] };
                let fields: Vec<Field> = table.own_columns().iter().chain(wal).map(field).collect();
                Arc::new(Schema::new(fields))
            };
            TableName::ALL.into_iter().map(|table| (table, schema(table))).collect()
        });
        Arc::clone(&SCHEMAS[&self])
    }

    /// Its columns as a WAL record holds them: without descriptions, which would be most of a small record.
    pub(crate) fn wal_schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<HashMap<TableName, SchemaRef>> = LazyLock::new(|| {
            let schema = |table: TableName| {
                let plain = table.own_columns().iter().map(|column| field(column).with_metadata(HashMap::new()));
                let name = HashMap::from([("table".to_owned(), table.as_str().to_owned())]);
                Arc::new(Schema::new_with_metadata(plain.collect::<Vec<_>>(), name))
            };
            TableName::ALL.into_iter().map(|table| (table, schema(table))).collect()
        });
        Arc::clone(&SCHEMAS[&self])
    }
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

/// A WAL's batch of `table` as rows of the table: aligned, and with its position behind.
///
/// # Errors
/// As [`align`].
pub(crate) fn with_position(
    table: TableName,
    batch: &RecordBatch,
    collector: &str,
    seq: u64,
) -> Result<RecordBatch, LakeError> {
    let rows = batch.num_rows();
    let mut columns = align(batch, &table.wal_schema())?.columns().to_vec();
    columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(collector, rows))));
    columns.push(Arc::new(Int64Array::from_value(i64::try_from(seq).unwrap_or(i64::MAX), rows)));
    Ok(RecordBatch::try_new(table.schema(), columns)?)
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
            assert!(
                table.key().iter().all(|name| schema.field_with_name(name).is_ok_and(|field| !field.is_nullable()))
            );
        }
    }

    #[test]
    fn the_position_is_added_behind() {
        let plain = RecordBatch::new_empty(TableName::Events.wal_schema());
        let rows = with_position(TableName::Events, &plain, "c1", 42).expect("position");
        assert_eq!(rows.schema(), TableName::Events.schema());
        assert_eq!(rows.schema().fields().last().map(|field| field.name().as_str()), Some("wal_seq"));
    }
}
