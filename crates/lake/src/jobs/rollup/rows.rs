//! Events out of Arrow.

use arrow::array::{Array as _, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};

use super::cells::Dimensions;
use super::fold::{EventRow, FatalRow, GROWING, RequestRow};
use crate::LakeError;
use crate::jobs::source::Cells;
use crate::jobs::views::each_pathway;

const TEXTS: [&str; 13] = [
    "property",
    "view_id",
    "source",
    "type",
    "region",
    "device_class",
    "stream_type",
    "pathway",
    "to_pathway",
    "error_severity",
    "error_class",
    "error_pathway",
    "request_pathway",
];
const INTS: [&str; 10] = [
    "seq",
    "event_ms",
    "mono_ms",
    "asn",
    "startup_ms",
    "throughput_kbps",
    "request_status",
    "request_ttfb_ms",
    "request_ttlb_ms",
    "request_bytes",
];

/// What a query must select, as SQL.
pub(super) fn selected() -> String {
    let others = ["request_late", "sample_rate", "pathways"];
    let names = TEXTS.iter().chain(&INTS).chain(&GROWING).chain(&others);
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// A batch of events, its columns found once.
pub(super) struct Events<'a> {
    pub(super) property: &'a StringArray,
    pub(super) view_id: &'a StringArray,
    texts: Vec<&'a StringArray>,
    ints: Vec<&'a Int64Array>,
    growing: Vec<&'a Int64Array>,
    request_late: &'a BooleanArray,
    sample_rate: &'a Float64Array,
    pathways: ListArray,
}

impl<'a> Events<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> Result<Self, LakeError> {
        let cells = Cells::new(batch);
        Ok(Self {
            property: cells.text("property")?,
            view_id: cells.text("view_id")?,
            texts: TEXTS.iter().map(|name| cells.text(name)).collect::<Result<_, _>>()?,
            ints: INTS.iter().map(|name| cells.int(name)).collect::<Result<_, _>>()?,
            growing: GROWING.iter().map(|name| cells.int(name)).collect::<Result<_, _>>()?,
            request_late: cells.bool("request_late")?,
            sample_rate: cells.float("sample_rate")?,
            pathways: cells.pathways("pathways")?,
        })
    }

    pub(super) fn row(&self, row: usize) -> EventRow<'a> {
        let text = |at: usize| self.texts[at].is_valid(row).then(|| self.texts[at].value(row));
        let int_of = |column: &Int64Array| column.is_valid(row).then(|| column.value(row));
        let int = |at: usize| int_of(self.ints[at]);
        let kind = text(3).unwrap_or_default();
        let fatal =
            (kind == "error" && text(9) == Some("fatal")).then(|| FatalRow { class: text(10), pathway: text(11) });
        let request = (kind == "segment").then(|| RequestRow {
            pathway: text(12),
            status: int(6),
            ttfb_ms: int(7),
            ttlb_ms: int(8),
            bytes: int(9),
            late: self.request_late.is_valid(row).then(|| self.request_late.value(row)),
        });
        let mut pathways = Vec::new();
        each_pathway(&self.pathways, row, |name, counters| pathways.push((name.to_owned(), counters)));
        EventRow {
            of: Dimensions {
                property: text(0).unwrap_or_default(),
                region: text(4),
                asn: int(3),
                device_class: text(5),
                stream_type: text(6),
            },
            source: text(2).unwrap_or_default(),
            seq: int(0).unwrap_or_default(),
            event_ms: int(1).unwrap_or_default(),
            mono_ms: int(2).unwrap_or_default(),
            kind,
            pathway: text(7),
            to_pathway: text(8),
            counters: std::array::from_fn(|at| int_of(self.growing[at])),
            startup_ms: int(4),
            throughput_kbps: int(5),
            sample_rate: self.sample_rate.is_valid(row).then(|| self.sample_rate.value(row)),
            fatal,
            request,
            pathways,
        }
    }
}
