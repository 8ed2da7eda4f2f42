//! Import: access logs of CDNs and edges into `deliveries`.
//!
//! `lines` reads a log line by line, however large it is; `fields` finds a format's fields in a line; `row` makes a
//! delivery of them, with the values of `values` and the CMCD of `cmcd`. The rows go in chunks into files that nobody
//! sees, and one commit at the end makes all of them part of the table. The commit is named by the hash of the log's
//! text, so a log is imported once, packed or not, whatever it is called and however often it is tried; a log with too
//! many bad lines, or half of one, is not imported at all.

mod cmcd;
mod fields;
mod format;
mod lines;
mod row;
mod values;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use arrow::array::RecordBatch;
use sha2::{Digest as _, Sha256};
use spillway_wire::delivery::Delivery;
use tokio::sync::mpsc;
use url::Url;

use crate::LakeError;
use crate::deliveries::{DeliveryBatch, to_arrow};
use crate::schema::{TableName, with_position};
use crate::table::{self, Staged, Table};

pub use format::{FieldMap, LogFormat};
use lines::Lines;
use row::{Parsed, Parser};
pub(crate) use values::time_ms;

/// Rows of one Parquet file.
const CHUNK_ROWS: usize = 100_000;
/// Line numbers told of each kind of bad line.
const FIRST_LINES: usize = 5;

/// Fills in what a log does not say (region by address, pathway by host), and takes out what must not be stored.
pub type Complete = Arc<dyn Fn(&mut Delivery) + Send + Sync>;

/// How to import.
#[derive(Clone)]
pub struct ImportOptions {
    /// Form of the log.
    pub format: LogFormat,
    /// Fields that this log names otherwise.
    pub maps: Vec<FieldMap>,
    /// Pathway of rows that tell none, by name or by host.
    pub pathway: Option<String>,
    /// Of a hundred lines at most this many may be bad.
    pub bad_max_percent: f64,
    /// Now, ms since epoch.
    pub received_ms: u64,
    /// See [`Complete`].
    pub complete: Complete,
}

/// How an import ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its rows are in the table now.
    Imported,
    /// They were there already.
    AlreadyThere,
    /// It has no row.
    #[default]
    Empty,
}

/// Bad lines of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BadLines {
    /// How many.
    pub lines: u64,
    /// Numbers of the first ones, from 1.
    pub first: Vec<u64>,
}

/// What a pathway delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Delivered {
    /// Rows.
    pub rows: u64,
    /// Requests.
    pub requests: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What was in a log, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// How it ended.
    pub outcome: Outcome,
    /// SHA-256 of the log's text.
    pub sha256: String,
    /// Lines with a request; headers and empty lines are none.
    pub lines: u64,
    /// What each pathway delivered; `unknown` where neither name nor host tells.
    pub pathways: BTreeMap<String, Delivered>,
    /// Lines that are no delivery to a client (a shield's requests), by kind.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Bad lines, by reason.
    pub rejected: BTreeMap<&'static str, BadLines>,
}

/// Why a log was not imported; nothing of it is in the table.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The log could not be read.
    #[error("read the log: {0}")]
    Read(#[from] std::io::Error),
    /// Too many bad lines: another format, most likely.
    #[error("{bad} of {lines} lines are bad ({why}); at most {max_percent} % are valid", lines = .summary.lines)]
    TooManyBad {
        /// Bad lines.
        bad: u64,
        /// Reasons with their first lines.
        why: String,
        /// What was allowed.
        max_percent: f64,
        /// What was found.
        summary: Box<Summary>,
    },
    /// The log is another one than was hashed.
    #[error("the log changed while it was read: its hash was {0} and is {1}")]
    Changed(String, String),
    /// The table failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

impl Summary {
    /// Bad lines of all kinds.
    #[must_use]
    pub fn bad_lines(&self) -> u64 {
        self.rejected.values().map(|bad| bad.lines).sum()
    }

    fn count(&mut self, row: &Delivery) {
        let of = self.pathways.entry(row.pathway.clone().unwrap_or_else(|| "unknown".into())).or_default();
        of.rows += 1;
        of.requests += row.requests;
        of.bytes += row.bytes.unwrap_or(0);
    }

    fn reject(&mut self, reason: &'static str, line: u64) {
        let bad = self.rejected.entry(reason).or_default();
        bad.lines += 1;
        if bad.first.len() < FIRST_LINES {
            bad.first.push(line);
        }
    }

    /// Reasons with counts and first lines, for people.
    #[must_use]
    pub fn told_bad(&self) -> String {
        let told = |(reason, bad): (&&str, &BadLines)| {
            let lines: Vec<String> = bad.first.iter().map(ToString::to_string).collect();
            format!("{reason}: {}, first in line {}", bad.lines, lines.join(", "))
        };
        self.rejected.iter().map(told).collect::<Vec<_>>().join("; ")
    }
}

/// The id under which the log with this hash is in the table.
fn app_id(sha256: &str) -> String {
    format!("import-{}", &sha256[..sha256.len().min(40)])
}

/// SHA-256 of a log's text, hex.
///
/// # Errors
/// What reading says.
pub fn hash_of(mut log: impl Read) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match log.read(&mut buffer)? {
            0 => return Ok(hex(hasher)),
            read => hasher.update(&buffer[..read]),
        }
    }
}

pub(crate) fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the log with this hash is in the table, so that it needs not be read again.
///
/// # Errors
/// [`LakeError::Table`].
pub async fn is_there(root: &Url, sha256: &str) -> Result<bool, LakeError> {
    let Some(table) = table::load(root, TableName::Deliveries).await? else { return Ok(false) };
    let found = table::committed(&table, &app_id(sha256)).await;
    Ok(found.map_err(LakeError::table(TableName::Deliveries.as_str()))?.is_some())
}

/// Reads `log` (its text, unpacked, whose hash is `sha256`) to the end and makes its rows part of `deliveries`. Needs
/// memory for some chunks, however long the log is.
///
/// # Errors
/// [`ImportError`]; nothing of the log is in the table then.
pub async fn import(
    root: &Url,
    log: impl Read + Send + 'static,
    sha256: &str,
    options: ImportOptions,
) -> Result<Summary, ImportError> {
    let app = app_id(sha256);
    let mut table = Table::open(root, TableName::Deliveries).await?;
    let max_percent = options.bad_max_percent;
    // One chunk is parsed while the one before is written.
    let (sender, mut chunks) = mpsc::channel(1);
    let app_of_rows = app.clone();
    let reading = tokio::task::spawn_blocking(move || read(log, &app_of_rows, &options, &sender));
    let mut staged = Staged::default();
    let mut failed = None;
    while let Some(chunk) = chunks.recv().await {
        match table.stage(chunk).await {
            Ok(files) => staged.extend(files),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    // The reader ends when nobody takes its chunks.
    drop(chunks);
    let read = reading.await.map_err(|_| LakeError::Stopped)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let mut summary = read?;
    if summary.sha256 != sha256 {
        return Err(ImportError::Changed(sha256.to_owned(), summary.sha256));
    }
    let bad = summary.bad_lines();
    if bad as f64 * 100.0 > summary.lines as f64 * max_percent {
        let why = summary.told_bad();
        return Err(ImportError::TooManyBad { bad, why, max_percent, summary: Box::new(summary) });
    }
    if summary.pathways.is_empty() {
        return Ok(summary);
    }
    let known = table.committed(&app).await?.is_some();
    table.finish(staged, &app, 1).await?;
    summary.outcome = if known { Outcome::AlreadyThere } else { Outcome::Imported };
    Ok(summary)
}

/// Parses the whole log; chunks of rows go to `chunks`.
fn read(
    log: impl Read,
    app: &str,
    options: &ImportOptions,
    chunks: &mpsc::Sender<RecordBatch>,
) -> Result<Summary, ImportError> {
    let batch = DeliveryBatch {
        source: app.to_owned(),
        batch_seq: 1,
        received_ms: options.received_ms,
        format: options.format.as_str().to_owned(),
    };
    let send = |rows: &mut Vec<(u64, Delivery)>| -> Result<bool, ImportError> {
        let arrow = with_position(TableName::Deliveries, &to_arrow(&batch, rows)?, app, 1)?;
        rows.clear();
        Ok(chunks.blocking_send(arrow).is_ok())
    };
    let mut parser = Parser::new(options);
    let mut lines = Lines::new(log);
    let mut summary = Summary::default();
    let mut rows = Vec::new();
    while let Some(line) = lines.next()? {
        let parsed = match line.text {
            Ok(text) => parser.parse(text),
            Err(reason) => Parsed::Bad(reason),
        };
        match parsed {
            Parsed::Nothing => continue,
            Parsed::Row(row) => {
                summary.count(&row);
                rows.push((line.number, *row));
            }
            Parsed::Skipped(kind) => *summary.skipped.entry(kind).or_default() += 1,
            Parsed::Bad(reason) => summary.reject(reason, line.number),
        }
        summary.lines += 1;
        if rows.len() >= CHUNK_ROWS && !send(&mut rows)? {
            return Ok(summary);
        }
    }
    if !rows.is_empty() {
        send(&mut rows)?;
    }
    summary.sha256 = lines.into_sha256();
    Ok(summary)
}
