//! Events as Arrow: the one place where a beacon's JSON becomes columns.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, MapBuilder, MapFieldNames,
    RecordBatch, StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field, Schema};
use spillway_wire::beacon::{Context, Counters, Event, PathwayCounters};

use crate::LakeError;
use crate::schema::{self, EVENT_COLUMNS, Kind, PATHWAY_FIELDS, TableName};
use crate::time::{DAY_MS, day_of};

/// Accepted events of one beacon, with what the collector knows about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBatch {
    /// Property of the write key.
    pub property: String,
    /// `sdk`, or the CMCD target.
    pub source: String,
    /// Arrival, ms since epoch.
    pub received_ms: u64,
    /// Region of the sender's address.
    pub region: String,
    /// Network of the sender's address.
    pub asn: Option<u32>,
    /// Country of the sender's address.
    pub country: Option<String>,
    /// Sender's name and version.
    pub sdk: String,
    /// Round trip of the previous beacon, ms.
    pub rtt_ms: Option<u64>,
    /// Events that the sender gave up, if it tells.
    pub dropped: Option<u64>,
    /// What holds for all events.
    pub ctx: Context,
    /// Events with their times.
    pub events: Vec<StampedEvent>,
}

/// An event with its time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StampedEvent {
    /// Event time, ms since epoch.
    pub event_ms: u64,
    /// The event; `pathway` is filled in from `host` where that was possible.
    pub event: Event,
    /// Latency to live, ms.
    pub live_latency_ms: Option<i64>,
    /// CMCD: keys without a column, with their values as text.
    pub cmcd: Vec<(String, String)>,
}

/// A column while it is built. As long as it has no value it only counts its nulls: most events use less than half of
/// the columns.
struct Lazy<B> {
    rows: usize,
    nulls: usize,
    builder: Option<B>,
}

/// What builds a column.
trait Cells: ArrayBuilder + Sized {
    /// Room for so many rows.
    fn with_rows(rows: usize) -> Self;
    fn append_nulls(&mut self, count: usize);
}

impl Cells for StringBuilder {
    fn with_rows(rows: usize) -> Self {
        Self::with_capacity(rows, rows * 8)
    }

    fn append_nulls(&mut self, count: usize) {
        self.append_nulls(count);
    }
}

impl Cells for Int64Builder {
    fn with_rows(rows: usize) -> Self {
        Self::with_capacity(rows)
    }

    fn append_nulls(&mut self, count: usize) {
        self.append_nulls(count);
    }
}

impl Cells for Float64Builder {
    fn with_rows(rows: usize) -> Self {
        Self::with_capacity(rows)
    }

    fn append_nulls(&mut self, count: usize) {
        self.append_nulls(count);
    }
}

impl Cells for BooleanBuilder {
    fn with_rows(rows: usize) -> Self {
        Self::with_capacity(rows)
    }

    fn append_nulls(&mut self, count: usize) {
        self.append_nulls(count);
    }
}

impl Cells for ListBuilder<StructBuilder> {
    fn with_rows(rows: usize) -> Self {
        let fields = schema::pathway_struct_fields();
        let item = Field::new("element", DataType::Struct(fields.clone()), true);
        Self::with_capacity(StructBuilder::from_fields(fields, rows), rows).with_field(item)
    }

    fn append_nulls(&mut self, count: usize) {
        (0..count).for_each(|_| self.append(false));
    }
}

impl Cells for MapBuilder<StringBuilder, StringBuilder> {
    fn with_rows(_: usize) -> Self {
        // As Delta names them.
        let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
        Self::new(Some(names), StringBuilder::new(), StringBuilder::new())
    }

    fn append_nulls(&mut self, count: usize) {
        // Fails only where keys and values differ in number.
        (0..count).for_each(|_| self.append(false).unwrap_or_default());
    }
}

impl<B: Cells> Lazy<B> {
    const fn new(rows: usize) -> Self {
        Self { rows, nulls: 0, builder: None }
    }

    fn builder(&mut self) -> &mut B {
        self.builder.get_or_insert_with(|| {
            let mut builder = B::with_rows(self.rows);
            builder.append_nulls(self.nulls);
            builder
        })
    }

    fn nulls(&mut self, count: usize) {
        match &mut self.builder {
            Some(builder) => builder.append_nulls(count),
            None => self.nulls += count,
        }
    }

    /// The column; `None` if it has no value and needs none.
    fn finish(mut self, nullable: bool) -> Option<ArrayRef> {
        if !nullable {
            self.builder();
        }
        self.builder.map(|mut builder| builder.finish())
    }
}

enum Column {
    Text(Lazy<StringBuilder>),
    Int(Lazy<Int64Builder>),
    Float(Lazy<Float64Builder>),
    Bool(Lazy<BooleanBuilder>),
    Pathways(Lazy<ListBuilder<StructBuilder>>),
    Map(Lazy<MapBuilder<StringBuilder, StringBuilder>>),
}

/// Builds the WAL's batch, beacon by beacon; a beacon's cells come in the order of the schema, each column's for all of
/// its events at once.
struct Rows {
    columns: Vec<Column>,
    at: usize,
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Rows {
    fn with_capacity(rows: usize) -> Self {
        let column = |kind: Kind| match kind {
            Kind::Text => Column::Text(Lazy::new(rows)),
            Kind::Int => Column::Int(Lazy::new(rows)),
            Kind::Float => Column::Float(Lazy::new(rows)),
            Kind::Bool => Column::Bool(Lazy::new(rows)),
            Kind::Pathways => Column::Pathways(Lazy::new(rows)),
            Kind::Map => Column::Map(Lazy::new(rows)),
            Kind::Bytes => unreachable!("events have no such column"),
        };
        Self { columns: EVENT_COLUMNS.iter().map(|(_, kind, ..)| column(*kind)).collect(), at: 0 }
    }

    fn next(&mut self) -> &mut Column {
        let at = self.at;
        self.at = (at + 1) % self.columns.len();
        &mut self.columns[at]
    }

    fn next_text(&mut self) -> &mut Lazy<StringBuilder> {
        match self.next() {
            Column::Text(column) => column,
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    fn next_int(&mut self) -> &mut Lazy<Int64Builder> {
        match self.next() {
            Column::Int(column) => column,
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    /// The same text in `rows` rows.
    fn text(&mut self, rows: usize, value: Option<&str>) {
        let column = self.next_text();
        match value {
            Some(value) => column.builder().append_value_n(value, rows),
            None => column.nulls(rows),
        }
    }

    fn texts<'a, S>(&mut self, events: &'a [S], value: impl Fn(&'a S) -> Option<&'a str>) {
        let column = self.next_text();
        for event in events {
            match value(event) {
                Some(value) => column.builder().append_value(value),
                None => column.nulls(1),
            }
        }
    }

    /// The same number in `rows` rows.
    fn int(&mut self, rows: usize, value: Option<u64>) {
        let column = self.next_int();
        match value {
            Some(value) => column.builder().append_value_n(int(value), rows),
            None => column.nulls(rows),
        }
    }

    fn ints<S>(&mut self, events: &[S], value: impl Fn(&S) -> Option<u64>) {
        self.signed(events, |event| value(event).map(int));
    }

    fn signed<S>(&mut self, events: &[S], value: impl Fn(&S) -> Option<i64>) {
        let column = self.next_int();
        for event in events {
            match value(event) {
                Some(value) => column.builder().append_value(value),
                None => column.nulls(1),
            }
        }
    }

    /// The same number in `rows` rows.
    fn float(&mut self, rows: usize, value: Option<f64>) {
        let Column::Float(column) = self.next() else { unreachable!("cells are appended in the order of the schema") };
        match value {
            Some(value) => column.builder().append_value_n(value, rows),
            None => column.nulls(rows),
        }
    }

    fn bools<S>(&mut self, events: &[S], value: impl Fn(&S) -> Option<bool>) {
        let Column::Bool(column) = self.next() else { unreachable!("cells are appended in the order of the schema") };
        for event in events {
            match value(event) {
                Some(value) => column.builder().append_value(value),
                None => column.nulls(1),
            }
        }
    }

    fn days(&mut self, events: &[StampedEvent]) {
        let column = self.next_text().builder();
        for same in events.chunk_by(|a, b| a.event_ms / DAY_MS == b.event_ms / DAY_MS) {
            column.append_value_n(day_of(same[0].event_ms), same.len());
        }
    }

    fn pathways(&mut self, events: &[StampedEvent]) {
        let Column::Pathways(column) = self.next() else {
            unreachable!("cells are appended in the order of the schema")
        };
        for stamped in events {
            if stamped.event.pathways.is_empty() {
                // No counters at all is unknown, not an empty list.
                column.nulls(1);
                continue;
            }
            let list = column.builder();
            for (pathway, counters) in &stamped.event.pathways {
                append_pathway(list.values(), pathway, counters);
            }
            list.append(true);
        }
    }

    fn maps(&mut self, events: &[StampedEvent]) -> Result<(), LakeError> {
        let Column::Map(column) = self.next() else { unreachable!("cells are appended in the order of the schema") };
        for stamped in events {
            if stamped.cmcd.is_empty() {
                column.nulls(1);
                continue;
            }
            let map = column.builder();
            for (key, value) in &stamped.cmcd {
                map.keys().append_value(key);
                map.values().append_value(value);
            }
            map.append(true)?;
        }
        Ok(())
    }

    fn append(&mut self, batch: &EventBatch) -> Result<(), LakeError> {
        let (events, ctx) = (batch.events.as_slice(), &batch.ctx);
        let rows = events.len();
        self.text(rows, Some(&batch.property));
        self.text(rows, Some(&ctx.view_id));
        self.text(rows, Some(&batch.source));
        self.ints(events, |of| Some(of.event.seq));
        self.days(events);
        self.ints(events, |of| Some(of.event_ms));
        self.int(rows, Some(batch.received_ms));
        self.ints(events, |of| Some(of.event.created_ms));
        self.ints(events, |of| Some(of.event.mono_ms));
        self.texts(events, |of| Some(&of.event.kind));
        self.texts(events, |of| of.event.state.as_deref());
        self.text(rows, Some(ctx.content_id.as_str()).filter(|content| !content.is_empty()));
        self.text(rows, ctx.stream_type.as_deref());
        self.text(rows, ctx.format.as_deref());
        self.text(rows, ctx.player.as_deref());
        self.text(rows, ctx.player_version.as_deref());
        self.text(rows, ctx.device_class.as_deref());
        self.text(rows, Some(&batch.region));
        self.int(rows, batch.asn.map(u64::from));
        self.text(rows, batch.country.as_deref());
        self.texts(events, |of| of.event.pathway.as_deref());
        self.texts(events, |of| of.event.from.as_deref());
        self.texts(events, |of| of.event.to.as_deref());
        self.texts(events, |of| of.event.reason.as_deref());
        self.signed(events, |of| of.event.playhead_ms);
        self.ints(events, |of| of.event.buffer_ms);
        self.ints(events, |of| of.event.throughput_kbps);
        self.ints(events, |of| of.event.bitrate_kbps);
        self.counters(events);
        self.ints(events, |of| of.event.stall_ms);
        self.bools(events, |of| of.event.visible);
        self.requests(events);
        self.errors(events);
        self.ints(events, |of| of.event.epoch);
        self.float(rows, ctx.sample_rate);
        self.text(rows, Some(&batch.sdk));
        self.text(rows, ctx.session_id.as_deref());
        self.text(rows, ctx.title.as_deref());
        self.text(rows, ctx.os.as_deref());
        self.text(rows, ctx.browser.as_deref());
        self.text(rows, ctx.page_type.as_deref());
        self.texts(events, |of| of.event.host.as_deref());
        self.int(rows, batch.rtt_ms);
        self.int(rows, batch.dropped);
        self.pathways(events);
        self.signed(events, |of| of.live_latency_ms);
        self.maps(events)
    }

    fn counters(&mut self, events: &[StampedEvent]) {
        let counters: [fn(&Counters) -> Option<u64>; 13] = [
            |of| of.watched_ms,
            |of| of.playing_ms,
            |of| of.startup_ms,
            |of| of.stall_count,
            |of| of.stall_ms,
            |of| of.seek_count,
            |of| of.seek_ms,
            |of| of.pause_ms,
            |of| of.bits_played,
            |of| of.switch_up,
            |of| of.switch_down,
            |of| of.dropped_frames,
            |of| of.decoded_frames,
        ];
        for value in counters {
            self.ints(events, |of| of.event.counters.as_ref().and_then(value));
        }
    }

    fn requests(&mut self, events: &[StampedEvent]) {
        self.texts(events, |of| of.event.request.as_ref()?.host.as_deref());
        self.texts(events, |of| of.event.request.as_ref()?.pathway.as_deref());
        self.ints(events, |of| of.event.request.as_ref()?.status.map(u64::from));
        self.ints(events, |of| of.event.request.as_ref()?.ttfb_ms);
        self.ints(events, |of| of.event.request.as_ref()?.ttlb_ms);
        self.ints(events, |of| of.event.request.as_ref()?.bytes);
        self.bools(events, |of| of.event.request.as_ref()?.late);
    }

    fn errors(&mut self, events: &[StampedEvent]) {
        self.texts(events, |of| Some(of.event.error.as_ref()?.severity.as_str()));
        self.texts(events, |of| Some(of.event.error.as_ref()?.class.as_str()));
        self.texts(events, |of| of.event.error.as_ref()?.code.as_deref());
        self.texts(events, |of| of.event.error.as_ref()?.message.as_deref());
        self.ints(events, |of| of.event.error.as_ref()?.status.map(u64::from));
        self.texts(events, |of| of.event.error.as_ref()?.pathway.as_deref());
    }

    fn finish(self) -> Result<RecordBatch, LakeError> {
        debug_assert_eq!(self.at, 0, "a row is unfinished");
        let schema = TableName::Events.wal_schema();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (field, column) in schema.fields().iter().zip(self.columns) {
            let nullable = field.is_nullable();
            let built = match column {
                Column::Text(column) => column.finish(nullable),
                Column::Int(column) => column.finish(nullable),
                Column::Float(column) => column.finish(nullable),
                Column::Bool(column) => column.finish(nullable),
                Column::Pathways(column) => column.finish(nullable),
                Column::Map(column) => column.finish(nullable),
            };
            if let Some(built) = built {
                fields.push(Arc::clone(field));
                columns.push(built);
            }
        }
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
    }
}

fn append_pathway(row: &mut StructBuilder, pathway: &str, counters: &PathwayCounters) {
    let values = [
        counters.requests_ok,
        counters.requests_failed,
        counters.requests_late,
        counters.bytes,
        counters.ttfb_sum_ms,
        counters.playing_ms,
        counters.stall_ms,
    ];
    debug_assert_eq!(values.len(), PATHWAY_FIELDS.len());
    if let Some(name) = row.field_builder::<StringBuilder>(0) {
        name.append_value(pathway);
    }
    for (index, value) in values.into_iter().enumerate() {
        if let Some(builder) = row.field_builder::<Int64Builder>(index + 1) {
            builder.append_option(value.map(int));
        }
    }
    row.append(true);
}

/// All events of `batches` as one Arrow batch with every column.
///
/// # Errors
/// [`LakeError::Arrow`] if the columns don't fit, which would be a fault of this module.
pub fn to_arrow<'a>(
    batches: impl IntoIterator<Item = &'a EventBatch, IntoIter: Clone>,
) -> Result<RecordBatch, LakeError> {
    schema::align(&to_wal(batches)?, &TableName::Events.wal_schema())
}

/// [`to_arrow`] without the columns that have no value, as the WAL and the tail hold it: whoever reads it aligns it.
pub(crate) fn to_wal<'a>(
    batches: impl IntoIterator<Item = &'a EventBatch, IntoIter: Clone>,
) -> Result<RecordBatch, LakeError> {
    let batches = batches.into_iter();
    let mut rows = Rows::with_capacity(batches.clone().map(|batch| batch.events.len()).sum());
    for batch in batches {
        rows.append(batch)?;
    }
    rows.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::Int64Type;
    use spillway_wire::beacon::Failure;

    use super::*;
    use crate::wal::codec;

    fn batch() -> EventBatch {
        let event = Event {
            kind: "heartbeat".into(),
            seq: 7,
            pathway: Some("cdn-a".into()),
            counters: Some(Counters { stall_ms: Some(5), decoded_frames: Some(9), ..Counters::default() }),
            pathways: BTreeMap::from([(
                "cdn-a".into(),
                PathwayCounters { bytes: Some(3), ..PathwayCounters::default() },
            )]),
            error: Some(Failure { class: "path".into(), pathway: Some("cdn-b".into()), ..Failure::default() }),
            ..Event::default()
        };
        EventBatch {
            property: "p".into(),
            source: "sdk".into(),
            dropped: Some(4),
            ctx: Context { view_id: "v".into(), page_type: Some("watch".into()), ..Context::default() },
            events: vec![
                StampedEvent {
                    event_ms: 86_400_000,
                    event,
                    live_latency_ms: Some(-3),
                    cmcd: vec![("com.example-a".into(), "1".into()), ("rtp".into(), "900".into())],
                },
                StampedEvent::default(),
            ],
            ..EventBatch::default()
        }
    }

    #[test]
    fn a_cell_stands_in_the_column_of_its_name_and_the_unknown_is_null() {
        let arrow = to_arrow([&batch()]).expect("arrow");
        let text = |name: &str| arrow.column_by_name(name).expect(name).as_string::<i32>().clone();
        let int = |name: &str| arrow.column_by_name(name).expect(name).as_primitive::<Int64Type>().clone();
        assert_eq!(text("dt").value(0), "1970-01-02");
        assert_eq!(text("pathway").value(0), "cdn-a");
        assert_eq!(text("error_pathway").value(0), "cdn-b");
        assert_eq!(text("page_type").value(0), "watch");
        assert_eq!((int("stall_ms").value(0), int("decoded_frames").value(0)), (5, 9));
        assert_eq!((int("seq").value(0), int("dropped_events").value(0)), (7, 4));
        assert!(int("watched_ms").is_null(0) && int("stall_ms").is_null(1) && text("country").is_null(0));
        let pathways = arrow.column_by_name("pathways").expect("pathways").as_list::<i32>().clone();
        assert!(pathways.is_null(1));
        let first = pathways.value(0);
        let bytes = first.as_struct().column_by_name("bytes").expect("bytes").as_primitive::<Int64Type>().clone();
        assert_eq!(bytes.value(0), 3);
        let cmcd = arrow.column_by_name("cmcd").expect("cmcd").as_map().clone();
        assert_eq!((cmcd.value_length(0), cmcd.is_null(1), int("live_latency_ms").value(0)), (2, true, -3));
        assert_eq!(cmcd.value(0).column(1).as_string::<i32>().value(1), "900");
        assert!(text("content_id").is_null(1), "an unknown title is null");
    }

    #[test]
    fn a_column_without_a_value_is_not_in_the_wal_and_reads_as_null() {
        let compact = to_wal([&batch()]).expect("wal");
        assert!(compact.column_by_name("watched_ms").is_none() && compact.column_by_name("stall_ms").is_some());
        let rows = schema::with_position(TableName::Events, &compact, "c", 7).expect("rows");
        assert_eq!(rows.schema(), TableName::Events.schema());
        assert_eq!(rows.column_by_name("watched_ms").expect("column").null_count(), 2);
        // Records of earlier versions hold every column: both mean the same.
        let mut bytes = Vec::new();
        let whole = to_arrow([&batch()]).expect("arrow");
        codec::write_ipc(std::slice::from_ref(&whole), &whole.schema(), &mut bytes).expect("ipc");
        let earlier = codec::from_ipc(&bytes).expect("ipc").remove(0);
        assert_eq!(codec::table_of(&earlier).expect("table"), TableName::Events);
        assert_eq!(schema::with_position(TableName::Events, &earlier, "c", 7).expect("rows"), rows);
    }

    #[test]
    fn a_value_that_comes_late_stands_in_its_own_row() {
        let mut batch = batch();
        batch.events.reverse();
        let arrow = to_arrow([&EventBatch::default(), &batch, &batch]).expect("arrow");
        for name in ["pathway", "stall_ms", "error_class", "pathways", "live_latency_ms", "cmcd"] {
            let column = arrow.column_by_name(name).expect(name);
            let there: Vec<bool> = (0..4).map(|row| column.is_valid(row)).collect();
            assert_eq!(there, [false, true, false, true], "{name}");
        }
        let days = arrow.column_by_name("dt").expect("dt").as_string::<i32>().clone();
        assert_eq!(days.iter().flatten().collect::<Vec<_>>(), ["1970-01-01", "1970-01-02", "1970-01-01", "1970-01-02"]);
    }
}
