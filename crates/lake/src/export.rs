//! Query results as they come: to JSON lines, CSV or Parquet, one batch at a time.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt as _;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::{LakeError, format, session};

/// Batches that wait for the writer.
const QUEUE_BATCHES: usize = 4;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One JSON object a line; null columns are written as `null`.
    Json,
    /// CSV with a header line; lists and structs as text.
    Csv,
    /// One Parquet file (zstd).
    Parquet,
}

/// Writes `rows` into `out` and flushes it; how many there were. The writer has a thread of its own, and the query waits
/// for it, so that no more than a few batches are in memory.
///
/// # Errors
/// [`LakeError`]: the query failed, or `out` did; some rows may be in it then.
pub async fn write(
    mut rows: SendableRecordBatchStream,
    shape: Shape,
    out: impl Write + Send + 'static,
) -> Result<u64, LakeError> {
    let schema = session::plain_text(&RecordBatch::new_empty(rows.schema()))?.schema();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<RecordBatch>(QUEUE_BATCHES);
    let writer = tokio::task::spawn_blocking(move || {
        let mut sink = Sink::new(shape, &schema, out)?;
        while let Some(batch) = receiver.blocking_recv() {
            sink.write(&batch)?;
        }
        sink.finish()
    });
    let (mut count, mut failed) = (0, None);
    while let Some(batch) = rows.next().await {
        match batch.map_err(LakeError::from).and_then(|batch| session::plain_text(&batch)) {
            Ok(batch) => {
                count += batch.num_rows() as u64;
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let written = writer.await.map_err(|_| LakeError::Stopped)?;
    match failed {
        Some(error) => Err(error),
        None => written.map(|()| count),
    }
}

enum Sink<W: Write + Send> {
    Json(arrow::json::Writer<W, arrow::json::writer::LineDelimited>),
    Csv(Box<arrow::csv::Writer<W>>),
    Parquet(Box<ArrowWriter<W>>),
}

fn parquet_failed(error: parquet::errors::ParquetError) -> LakeError {
    arrow::error::ArrowError::from(error).into()
}

impl<W: Write + Send> Sink<W> {
    fn new(shape: Shape, schema: &SchemaRef, out: W) -> Result<Self, LakeError> {
        Ok(match shape {
            Shape::Json => Self::Json(arrow::json::WriterBuilder::new().with_explicit_nulls(true).build(out)),
            Shape::Csv => {
                let mut writer = arrow::csv::Writer::new(out);
                // The header, also if no row follows.
                writer.write(&format::flat(&RecordBatch::new_empty(schema.clone()))?)?;
                Self::Csv(Box::new(writer))
            }
            Shape::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(parquet_failed)?;
                Self::Parquet(Box::new(writer))
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        match self {
            Self::Json(writer) => Ok(writer.write(batch)?),
            Self::Csv(writer) => Ok(writer.write(&format::flat(batch)?)?),
            Self::Parquet(writer) => writer.write(batch).map_err(parquet_failed),
        }
    }

    fn finish(self) -> Result<(), LakeError> {
        let flush = |mut out: W| out.flush().map_err(|error| LakeError::from(arrow::error::ArrowError::from(error)));
        match self {
            Self::Json(mut writer) => {
                writer.finish()?;
                flush(writer.into_inner())
            }
            Self::Csv(writer) => flush(writer.into_inner()),
            Self::Parquet(writer) => writer.into_inner().map_err(parquet_failed).and_then(flush),
        }
    }
}
