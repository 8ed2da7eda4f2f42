//! Events as Arrow: the one place where a beacon's JSON becomes columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, MapBuilder, MapFieldNames, RecordBatch,
    StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field};
use spillway_wire::beacon::{Context, Counters, Event, Failure, PathwayCounters, Request};

use crate::LakeError;
use crate::schema::{self, EVENT_COLUMNS, Kind, PATHWAY_FIELDS, TableName};
use crate::time::day_of;

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

enum Column {
    Text(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Pathways(Box<ListBuilder<StructBuilder>>),
    Map(Box<MapBuilder<StringBuilder, StringBuilder>>),
}

/// Builds the WAL's batch row by row; cells come in the order of the schema.
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
            Kind::Text => Column::Text(StringBuilder::with_capacity(rows, rows * 8)),
            Kind::Int => Column::Int(Int64Builder::with_capacity(rows)),
            Kind::Float => Column::Float(Float64Builder::with_capacity(rows)),
            Kind::Bool => Column::Bool(BooleanBuilder::with_capacity(rows)),
            Kind::Pathways => {
                let fields = schema::pathway_struct_fields();
                let item = Field::new("element", DataType::Struct(fields.clone()), true);
                let values = StructBuilder::from_fields(fields, rows);
                Column::Pathways(Box::new(ListBuilder::with_capacity(values, rows).with_field(item)))
            }
            Kind::Map => {
                // As Delta names them.
                let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
                Column::Map(Box::new(MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())))
            }
            Kind::Bytes => unreachable!("events have no such column"),
        };
        Self { columns: EVENT_COLUMNS.iter().map(|(_, kind, ..)| column(*kind)).collect(), at: 0 }
    }

    fn next(&mut self) -> &mut Column {
        let at = self.at;
        self.at = (at + 1) % self.columns.len();
        &mut self.columns[at]
    }

    fn text(&mut self, value: Option<&str>) {
        match self.next() {
            Column::Text(builder) => builder.append_option(value),
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    fn int(&mut self, value: Option<u64>) {
        self.signed(value.map(int));
    }

    fn signed(&mut self, value: Option<i64>) {
        match self.next() {
            Column::Int(builder) => builder.append_option(value),
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    fn float(&mut self, value: Option<f64>) {
        match self.next() {
            Column::Float(builder) => builder.append_option(value),
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    fn bool(&mut self, value: Option<bool>) {
        match self.next() {
            Column::Bool(builder) => builder.append_option(value),
            _ => unreachable!("cells are appended in the order of the schema"),
        }
    }

    fn pathways<'a>(&mut self, pathways: impl Iterator<Item = (&'a String, &'a PathwayCounters)>) {
        let Column::Pathways(list) = self.next() else { unreachable!("cells are appended in the order of the schema") };
        let mut any = false;
        for (pathway, counters) in pathways {
            any = true;
            append_pathway(list.values(), pathway, counters);
        }
        // No counters at all is unknown, not an empty list.
        list.append(any);
    }

    fn map(&mut self, entries: &[(String, String)]) -> Result<(), LakeError> {
        let Column::Map(map) = self.next() else { unreachable!("cells are appended in the order of the schema") };
        for (key, value) in entries {
            map.keys().append_value(key);
            map.values().append_value(value);
        }
        Ok(map.append(!entries.is_empty())?)
    }

    fn append(&mut self, batch: &EventBatch, stamped: &StampedEvent) -> Result<(), LakeError> {
        let (event, ctx) = (&stamped.event, &batch.ctx);
        self.text(Some(&batch.property));
        self.text(Some(&ctx.view_id));
        self.text(Some(&batch.source));
        self.int(Some(event.seq));
        self.text(Some(&day_of(stamped.event_ms)));
        self.int(Some(stamped.event_ms));
        self.int(Some(batch.received_ms));
        self.int(Some(event.created_ms));
        self.int(Some(event.mono_ms));
        self.text(Some(&event.kind));
        self.text(event.state.as_deref());
        self.text(Some(ctx.content_id.as_str()).filter(|content| !content.is_empty()));
        self.text(ctx.stream_type.as_deref());
        self.text(ctx.format.as_deref());
        self.text(ctx.player.as_deref());
        self.text(ctx.player_version.as_deref());
        self.text(ctx.device_class.as_deref());
        self.text(Some(&batch.region));
        self.int(batch.asn.map(u64::from));
        self.text(batch.country.as_deref());
        self.text(event.pathway.as_deref());
        self.text(event.from.as_deref());
        self.text(event.to.as_deref());
        self.text(event.reason.as_deref());
        self.signed(event.playhead_ms);
        self.int(event.buffer_ms);
        self.int(event.throughput_kbps);
        self.int(event.bitrate_kbps);
        self.counters(event.counters.as_ref().unwrap_or(&Counters::default()));
        self.int(event.stall_ms);
        self.bool(event.visible);
        self.request(event.request.as_ref().unwrap_or(&Request::default()));
        self.error(event.error.as_ref());
        self.int(event.epoch);
        self.float(ctx.sample_rate);
        self.text(Some(&batch.sdk));
        self.text(ctx.session_id.as_deref());
        self.text(ctx.title.as_deref());
        self.text(ctx.os.as_deref());
        self.text(ctx.browser.as_deref());
        self.text(ctx.page_type.as_deref());
        self.text(event.host.as_deref());
        self.int(batch.rtt_ms);
        self.int(batch.dropped);
        self.pathways(event.pathways.iter());
        self.signed(stamped.live_latency_ms);
        self.map(&stamped.cmcd)
    }

    fn counters(&mut self, counters: &Counters) {
        self.int(counters.watched_ms);
        self.int(counters.playing_ms);
        self.int(counters.startup_ms);
        self.int(counters.stall_count);
        self.int(counters.stall_ms);
        self.int(counters.seek_count);
        self.int(counters.seek_ms);
        self.int(counters.pause_ms);
        self.int(counters.bits_played);
        self.int(counters.switch_up);
        self.int(counters.switch_down);
        self.int(counters.dropped_frames);
        self.int(counters.decoded_frames);
    }

    fn request(&mut self, request: &Request) {
        self.text(request.host.as_deref());
        self.text(request.pathway.as_deref());
        self.int(request.status.map(u64::from));
        self.int(request.ttfb_ms);
        self.int(request.ttlb_ms);
        self.int(request.bytes);
        self.bool(request.late);
    }

    fn error(&mut self, error: Option<&Failure>) {
        self.text(error.map(|error| error.severity.as_str()));
        self.text(error.map(|error| error.class.as_str()));
        self.text(error.and_then(|error| error.code.as_deref()));
        self.text(error.and_then(|error| error.message.as_deref()));
        self.int(error.and_then(|error| error.status).map(u64::from));
        self.text(error.and_then(|error| error.pathway.as_deref()));
    }

    fn finish(self) -> Result<RecordBatch, LakeError> {
        debug_assert_eq!(self.at, 0, "a row is unfinished");
        let columns = self.columns.into_iter().map(|column| -> ArrayRef {
            match column {
                Column::Text(mut builder) => Arc::new(builder.finish()),
                Column::Int(mut builder) => Arc::new(builder.finish()),
                Column::Float(mut builder) => Arc::new(builder.finish()),
                Column::Bool(mut builder) => Arc::new(builder.finish()),
                Column::Pathways(mut builder) => Arc::new(builder.finish()),
                Column::Map(mut builder) => Arc::new(builder.finish()),
            }
        });
        Ok(RecordBatch::try_new(TableName::Events.wal_schema(), columns.collect())?)
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

/// All events of `batches` as one Arrow batch, as the WAL holds it.
///
/// # Errors
/// [`LakeError::Arrow`] if the columns don't fit, which would be a fault of this module.
pub fn to_arrow<'a>(
    batches: impl IntoIterator<Item = &'a EventBatch, IntoIter: Clone>,
) -> Result<RecordBatch, LakeError> {
    let batches = batches.into_iter();
    let mut rows = Rows::with_capacity(batches.clone().map(|batch| batch.events.len()).sum());
    for batch in batches {
        for event in &batch.events {
            rows.append(batch, event)?;
        }
    }
    rows.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::Int64Type;

    use super::*;

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
}
