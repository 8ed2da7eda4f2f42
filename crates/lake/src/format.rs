//! Query results as text: a table for people, JSON lines and CSV for programs.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::LakeError;

/// A table with lines, as terminals show it.
///
/// # Errors
/// [`LakeError::Arrow`].
pub fn table(batches: &[RecordBatch]) -> Result<String, LakeError> {
    Ok(arrow::util::pretty::pretty_format_batches(batches)?.to_string())
}

/// One JSON object a line; null columns are written as `null`.
///
/// # Errors
/// [`LakeError::Arrow`].
pub fn json_lines(batches: &[RecordBatch]) -> Result<String, LakeError> {
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    Ok(text(writer.into_inner()))
}

/// CSV with a header line; lists and structs as text.
///
/// # Errors
/// [`LakeError::Arrow`].
pub fn csv(batches: &[RecordBatch]) -> Result<String, LakeError> {
    let mut writer = arrow::csv::Writer::new(Vec::new());
    for batch in batches {
        writer.write(&flat(batch)?)?;
    }
    Ok(text(writer.into_inner()))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `batch` with nested columns as text, since CSV has no nesting.
pub(crate) fn flat(batch: &RecordBatch) -> Result<RecordBatch, LakeError> {
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
        let values = (0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string()));
        columns.push(Arc::new(values.collect::<StringArray>()));
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventBatch, StampedEvent, to_arrow};
    use spillway_wire::beacon::{Event, PathwayCounters};

    #[test]
    fn every_format_writes_every_column() {
        let pathways = [("cdn-a".to_owned(), PathwayCounters { bytes: Some(7), ..PathwayCounters::default() })];
        let event = Event { pathways: pathways.into(), seq: 3, ..Event::default() };
        let batch = EventBatch {
            events: vec![StampedEvent { event_ms: 0, event, ..StampedEvent::default() }],
            ..EventBatch::default()
        };
        let rows = [to_arrow([&batch]).expect("arrow")];
        let json = json_lines(&rows).expect("json");
        assert!(json.contains(r#""seq":3"#) && json.contains(r#""country":null"#) && json.contains(r#""bytes":7"#));
        let csv = csv(&rows).expect("csv");
        assert!(csv.starts_with("property,view_id") && csv.contains("cdn-a"), "{csv}");
        assert!(table(&rows).expect("table").contains("| property |"));
    }
}
