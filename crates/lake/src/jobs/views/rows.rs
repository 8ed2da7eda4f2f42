//! Events out of Arrow, rows of `views` into Arrow.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int64Array, Int64Builder, ListArray, ListBuilder,
    RecordBatch, StringArray, StringBuilder, StructArray, StructBuilder,
};
use arrow::datatypes::{DataType, Field, Int64Type};

use super::fold::{COUNTERS, ErrorRow, EventRow, Fatal, PathwayCounters, TEXTS, ViewRow};
use crate::LakeError;
use crate::jobs::source::{Cells, in_order};
use crate::schema::{PATHWAY_FIELDS, TableName, pathway_struct_fields};

/// Columns of `events` beside counters and texts that a view is made of.
const OTHERS: [&str; 21] = [
    "property",
    "view_id",
    "source",
    "seq",
    "event_ms",
    "received_ms",
    "mono_ms",
    "type",
    "reason",
    "pathway",
    "to_pathway",
    "asn",
    "epoch",
    "dropped_events",
    "sample_rate",
    "error_severity",
    "error_class",
    "error_code",
    "error_status",
    "error_pathway",
    "pathways",
];

/// What a query must select, as SQL.
pub(super) fn selected() -> String {
    let names = OTHERS.iter().chain(&COUNTERS).chain(&TEXTS);
    names.map(|name| format!("e.\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// A batch of events, its columns found once.
pub(super) struct Events<'a> {
    pub(super) property: &'a StringArray,
    pub(super) view_id: &'a StringArray,
    pub(super) source: &'a StringArray,
    ints: [&'a Int64Array; 4],
    kind: &'a StringArray,
    optional_texts: [&'a StringArray; 3],
    optional_ints: [&'a Int64Array; 3],
    sample_rate: &'a Float64Array,
    error_texts: [&'a StringArray; 4],
    error_status: &'a Int64Array,
    counters: Vec<&'a Int64Array>,
    texts: Vec<&'a StringArray>,
    pathways: ListArray,
}

fn text(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

fn int(column: &Int64Array, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

impl<'a> Events<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> Result<Self, LakeError> {
        let cells = Cells::new(batch);
        Ok(Self {
            property: cells.text("property")?,
            view_id: cells.text("view_id")?,
            source: cells.text("source")?,
            ints: [cells.int("seq")?, cells.int("event_ms")?, cells.int("received_ms")?, cells.int("mono_ms")?],
            kind: cells.text("type")?,
            optional_texts: [cells.text("reason")?, cells.text("pathway")?, cells.text("to_pathway")?],
            optional_ints: [cells.int("asn")?, cells.int("epoch")?, cells.int("dropped_events")?],
            sample_rate: cells.float("sample_rate")?,
            error_texts: [
                cells.text("error_severity")?,
                cells.text("error_class")?,
                cells.text("error_code")?,
                cells.text("error_pathway")?,
            ],
            error_status: cells.int("error_status")?,
            counters: COUNTERS.iter().map(|name| cells.int(name)).collect::<Result<_, _>>()?,
            texts: TEXTS.iter().map(|name| cells.text(name)).collect::<Result<_, _>>()?,
            pathways: cells.pathways("pathways")?,
        })
    }

    pub(super) fn row(&self, row: usize) -> EventRow<'a> {
        let [severity, class, code, pathway] = self.error_texts;
        let error = text(severity, row).map(|severity| ErrorRow {
            severity,
            class: text(class, row),
            code: text(code, row),
            status: int(self.error_status, row),
            pathway: text(pathway, row),
        });
        EventRow {
            seq: self.ints[0].value(row),
            event_ms: self.ints[1].value(row),
            received_ms: self.ints[2].value(row),
            mono_ms: self.ints[3].value(row),
            kind: self.kind.value(row),
            reason: text(self.optional_texts[0], row),
            pathway: text(self.optional_texts[1], row),
            to_pathway: text(self.optional_texts[2], row),
            texts: std::array::from_fn(|at| text(self.texts[at], row)),
            counters: std::array::from_fn(|at| int(self.counters[at], row)),
            asn: int(self.optional_ints[0], row),
            epoch: int(self.optional_ints[1], row),
            dropped_events: int(self.optional_ints[2], row),
            sample_rate: self.sample_rate.is_valid(row).then(|| self.sample_rate.value(row)),
            error,
        }
    }

    /// Counters by pathway of a row.
    pub(super) fn each_pathway(&self, row: usize, seen: impl FnMut(&str, PathwayCounters)) {
        each_pathway(&self.pathways, row, seen);
    }
}

/// The elements of a `pathways` cell.
pub(in crate::jobs) fn each_pathway(column: &ListArray, row: usize, mut seen: impl FnMut(&str, PathwayCounters)) {
    let Some(list) = column.is_valid(row).then(|| column.value(row)) else { return };
    let Some(elements) = list.as_any().downcast_ref::<StructArray>() else { return };
    let Some(names) = elements.column(0).as_string_opt::<i32>() else { return };
    let counters: Vec<&Int64Array> =
        elements.columns()[1..].iter().filter_map(|column| column.as_primitive_opt::<Int64Type>()).collect();
    for element in 0..elements.len() {
        let value = |at: usize| counters.get(at).and_then(|column| int(column, element));
        if let Some(name) = text(names, element) {
            seen(name, std::array::from_fn(value));
        }
    }
}

/// A row with what the table knows of it.
pub(super) struct Built {
    pub(super) row: ViewRow,
    pub(super) dt: String,
    pub(super) revision: i64,
}

fn texts<'a>(rows: &'a [Built], value: impl Fn(&'a Built) -> Option<&'a str>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<StringArray>())
}

fn ints(rows: &[Built], value: impl Fn(&Built) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Int64Array>())
}

fn bools(rows: &[Built], value: impl Fn(&Built) -> Option<bool>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<BooleanArray>())
}

fn floats(rows: &[Built], value: impl Fn(&Built) -> Option<f64>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Float64Array>())
}

fn fatal<T>(built: &Built, value: impl Fn(&Fatal) -> Option<T>) -> Option<T> {
    built.row.fatal.as_ref().and_then(value)
}

/// Rows for [`TableName::Views`].
///
/// # Errors
/// [`LakeError::Arrow`], which would be a fault of this module.
pub(super) fn to_arrow(rows: &[Built], built_ms: i64) -> Result<RecordBatch, LakeError> {
    let mut columns: HashMap<&'static str, ArrayRef> = HashMap::from([
        ("property", texts(rows, |b| Some(&b.row.property))),
        ("view_id", texts(rows, |b| Some(&b.row.view_id))),
        ("dt", texts(rows, |b| Some(&b.dt))),
        ("revision", ints(rows, |b| Some(b.revision))),
        ("started_ms", ints(rows, |b| Some(b.row.started_ms))),
        ("ended_ms", ints(rows, |b| Some(b.row.ended_ms))),
        ("ended_cleanly", bools(rows, |b| Some(b.row.ended_cleanly))),
        ("end_reason", texts(rows, |b| b.row.end_reason.as_deref())),
        ("good_view", bools(rows, |b| b.row.good_view)),
        ("started", bools(rows, |b| Some(b.row.started))),
        ("start_failure", bools(rows, |b| Some(b.row.start_failure))),
        ("fatal_error", bools(rows, |b| Some(b.row.fatal.is_some()))),
        ("exit_before_start", bools(rows, |b| Some(b.row.exit_before_start))),
        ("error_class", texts(rows, |b| b.row.fatal.as_ref()?.class.as_deref())),
        ("error_code", texts(rows, |b| b.row.fatal.as_ref()?.code.as_deref())),
        ("error_status", ints(rows, |b| fatal(b, |fatal| fatal.status))),
        ("error_pathway", texts(rows, |b| b.row.fatal.as_ref()?.pathway.as_deref())),
        ("asn", ints(rows, |b| b.row.asn)),
        ("first_pathway", texts(rows, |b| b.row.first_pathway.as_deref())),
        ("last_pathway", texts(rows, |b| b.row.last_pathway.as_deref())),
        ("last_received_ms", ints(rows, |b| Some(b.row.last_received_ms))),
        ("pathway_switches", ints(rows, |b| Some(b.row.pathway_switches))),
        ("pathways", pathways(rows)),
        ("sample_rate", floats(rows, |b| b.row.sample_rate)),
        ("weight", floats(rows, |b| Some(b.row.weight))),
        ("source", texts(rows, |b| Some(&b.row.source))),
        ("sources", ints(rows, |b| Some(b.row.sources))),
        ("epoch", ints(rows, |b| b.row.epoch)),
        ("events", ints(rows, |b| Some(b.row.events))),
        ("seq_min", ints(rows, |b| Some(b.row.seq_min))),
        ("seq_max", ints(rows, |b| Some(b.row.seq_max))),
        ("seq_missing", ints(rows, |b| Some(b.row.seq_missing))),
        ("dropped_events", ints(rows, |b| b.row.dropped_events)),
        ("built_ms", ints(rows, |_| Some(built_ms))),
    ]);
    for (at, name) in TEXTS.into_iter().enumerate() {
        columns.insert(name, texts(rows, move |b| b.row.texts[at].as_deref()));
    }
    for (at, name) in COUNTERS.into_iter().enumerate() {
        columns.insert(name, ints(rows, move |b| b.row.counters[at]));
    }
    in_order(TableName::Views, columns)
}

fn pathways(rows: &[Built]) -> ArrayRef {
    let fields = pathway_struct_fields();
    let item = Field::new("element", DataType::Struct(fields.clone()), true);
    let mut list = ListBuilder::new(StructBuilder::from_fields(fields, rows.len())).with_field(item);
    for Built { row, .. } in rows {
        for (name, counters) in &row.pathways {
            let element = list.values();
            if let Some(builder) = element.field_builder::<StringBuilder>(0) {
                builder.append_value(name);
            }
            debug_assert_eq!(counters.len(), PATHWAY_FIELDS.len());
            for (at, value) in counters.iter().enumerate() {
                if let Some(builder) = element.field_builder::<Int64Builder>(at + 1) {
                    builder.append_option(*value);
                }
            }
            element.append(true);
        }
        // No counters at all is unknown, not an empty list.
        list.append(!row.pathways.is_empty());
    }
    Arc::new(list.finish())
}
