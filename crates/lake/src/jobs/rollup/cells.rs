//! Cells of the rollup: sums and sketches by minute and dimensions, and their rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

use crate::LakeError;
use crate::functions::Sketch;
use crate::jobs::source::{binary, in_order};
use crate::schema::TableName;
use crate::time::day_of;

/// Length of a cell, ms.
pub(super) const MINUTE_MS: i64 = 60_000;

/// Sums that are null where nothing is known, as `rollup_1m` names them.
pub(super) const SUMS: [&str; 14] = [
    "watched_ms",
    "playing_ms",
    "stall_ms",
    "stall_count",
    "bits_played",
    "switch_up",
    "switch_down",
    "requests_ok",
    "requests_failed",
    "requests_late",
    "bytes",
    "ttfb_sum_ms",
    "timed_bytes",
    "timed_ms",
];
pub(super) const PLAYING: usize = 1;
pub(super) const STALL: usize = 2;
pub(super) const OK: usize = 7;
pub(super) const FAILED: usize = 8;
pub(super) const LATE: usize = 9;
pub(super) const BYTES: usize = 10;
pub(super) const TTFB: usize = 11;
pub(super) const TIMED_BYTES: usize = 12;
pub(super) const TIMED: usize = 13;

/// Dimensions of an event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dimensions<'a> {
    pub(super) property: &'a str,
    pub(super) region: Option<&'a str>,
    pub(super) asn: Option<i64>,
    pub(super) device_class: Option<&'a str>,
    pub(super) stream_type: Option<&'a str>,
}

/// What is counted in a cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) events: i64,
    pub(super) views_attempted: i64,
    pub(super) views_attempted_weight: f64,
    pub(super) views_started: i64,
    pub(super) start_failures: i64,
    pub(super) playback_failures: i64,
    pub(super) exits_before_start: i64,
    pub(super) pathway_switches: i64,
    pub(super) windows: i64,
    pub(super) windows_bad: i64,
    pub(super) windows_weight: f64,
    pub(super) sums: [Option<i64>; SUMS.len()],
    pub(super) startup_ms: Sketch,
    pub(super) ttfb_ms: Sketch,
    pub(super) throughput_kbps: Sketch,
}

impl Cell {
    /// Adds to a sum, which is known from now on.
    pub(super) fn add(&mut self, sum: usize, value: i64) {
        self.sums[sum] = Some(self.sums[sum].unwrap_or(0).saturating_add(value));
    }
}

/// Texts by number, so that a key is small.
#[derive(Default)]
struct Names {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let name: Arc<str> = name.into();
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", |name| name)
    }
}

/// Minute, property, pathway, region, network, device class, stream type.
type Key = (i64, u32, Option<u32>, Option<u32>, Option<i64>, Option<u32>, Option<u32>);

/// Cells of the minutes that are wanted.
pub(super) struct Cells {
    names: Names,
    cells: BTreeMap<Key, Cell>,
    /// Begins of minutes, ms since epoch.
    wanted: std::collections::BTreeSet<i64>,
}

impl Cells {
    pub(super) fn new(wanted: std::collections::BTreeSet<i64>) -> Self {
        Self { names: Names::default(), cells: BTreeMap::new(), wanted }
    }

    /// The cell of an event at `event_ms` on `pathway`; `None` if its minute is not wanted.
    pub(super) fn cell(&mut self, event_ms: i64, of: &Dimensions<'_>, pathway: Option<&str>) -> Option<&mut Cell> {
        let minute_ms = event_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
        if !self.wanted.contains(&minute_ms) {
            return None;
        }
        let mut number = |name: Option<&str>| name.map(|name| self.names.number(name));
        let (pathway, region) = (number(pathway), number(of.region));
        let (device_class, stream_type) = (number(of.device_class), number(of.stream_type));
        let key = (minute_ms, self.names.number(of.property), pathway, region, of.asn, device_class, stream_type);
        Some(self.cells.entry(key).or_default())
    }

    /// Rows of `rollup_1m`, `rows_max` at a time.
    pub(super) fn rows(&self, revision: i64, rows_max: usize) -> impl Iterator<Item = Result<RecordBatch, LakeError>> {
        let all: Vec<(&Key, &Cell)> = self.cells.iter().collect();
        let mut from = 0;
        std::iter::from_fn(move || {
            let rows = all.get(from..all.len().min(from + rows_max)).filter(|rows| !rows.is_empty())?;
            from += rows.len();
            Some(self.to_arrow(rows, revision))
        })
    }

    fn to_arrow(&self, rows: &[(&Key, &Cell)], revision: i64) -> Result<RecordBatch, LakeError> {
        let text = |value: fn(&Key) -> Option<u32>| -> ArrayRef {
            let names = rows.iter().map(|(key, _)| value(key).map(|number| self.names.name(number)));
            Arc::new(names.collect::<StringArray>())
        };
        let int = |value: fn(&Cell) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, cell)| value(cell))))
        };
        let float = |value: fn(&Cell) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, cell)| value(cell))))
        };
        let sketch = |value: fn(&Cell) -> &Sketch| -> ArrayRef {
            Arc::new(binary(rows.iter().map(|(_, cell)| value(cell).to_bytes())))
        };
        let minutes = rows.iter().map(|(key, _)| key.0);
        let days = minutes.clone().map(|minute_ms| day_of(u64::try_from(minute_ms).unwrap_or(0)));
        let mut columns: HashMap<&'static str, ArrayRef> = HashMap::from([
            ("dt", Arc::new(StringArray::from_iter_values(days)) as ArrayRef),
            ("minute_ms", Arc::new(Int64Array::from_iter_values(minutes))),
            ("revision", Arc::new(Int64Array::from_value(revision, rows.len()))),
            ("property", text(|key| Some(key.1))),
            ("pathway", text(|key| key.2)),
            ("region", text(|key| key.3)),
            ("asn", Arc::new(rows.iter().map(|(key, _)| key.4).collect::<Int64Array>())),
            ("device_class", text(|key| key.5)),
            ("stream_type", text(|key| key.6)),
            ("events", int(|cell| cell.events)),
            ("views_attempted", int(|cell| cell.views_attempted)),
            ("views_attempted_weight", float(|cell| cell.views_attempted_weight)),
            ("views_started", int(|cell| cell.views_started)),
            ("start_failures", int(|cell| cell.start_failures)),
            ("playback_failures", int(|cell| cell.playback_failures)),
            ("exits_before_start", int(|cell| cell.exits_before_start)),
            ("pathway_switches", int(|cell| cell.pathway_switches)),
            ("windows", int(|cell| cell.windows)),
            ("windows_bad", int(|cell| cell.windows_bad)),
            ("windows_weight", float(|cell| cell.windows_weight)),
            ("startup_ms_sketch", sketch(|cell| &cell.startup_ms)),
            ("ttfb_ms_sketch", sketch(|cell| &cell.ttfb_ms)),
            ("throughput_kbps_sketch", sketch(|cell| &cell.throughput_kbps)),
        ]);
        for (at, name) in SUMS.into_iter().enumerate() {
            columns.insert(name, Arc::new(rows.iter().map(|(_, cell)| cell.sums[at]).collect::<Int64Array>()));
        }
        in_order(TableName::Rollup1m, columns)
    }
}
