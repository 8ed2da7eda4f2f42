//! What can go wrong in the lake.

use std::path::{Path, PathBuf};

/// Why the lake could not do it.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The file system failed.
    #[error("access {path}: {source}")]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A WAL segment has a bad record with good ones behind it: not a torn end but damage.
    #[error(
        "wal segment {path} is corrupt at byte {offset}: {detail}; good records follow it. \
         Restore the file, or start once with skip_corrupt to set it aside"
    )]
    Corrupt {
        /// Which segment.
        path: PathBuf,
        /// Where the bad record begins.
        offset: u64,
        /// What is wrong with it.
        detail: String,
    },
    /// Another process has the WAL open.
    #[error("wal directory {0} is in use by another process")]
    Locked(PathBuf),
    /// A root that is no URL of a lake.
    #[error("lake root {0:?} is not valid (valid: an absolute path, a file:// URL, or s3://bucket/prefix)")]
    BadRoot(String),
    /// The Delta table failed.
    #[error("table {table}: {source}")]
    Table {
        /// Which table.
        table: String,
        /// What the table said.
        source: Box<deltalake::DeltaTableError>,
    },
    /// The tables did not answer in time.
    #[error("the tables under {root} did not answer within {patience_s} s")]
    Unanswered {
        /// Root of the lake.
        root: String,
        /// How long they had, s.
        patience_s: u64,
    },
    /// The query failed.
    #[error("query: {0}")]
    Query(#[from] Box<datafusion::error::DataFusionError>),
    /// Arrow data does not fit.
    #[error("arrow data: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A WAL record that a reader would take for damage.
    #[error("a wal record of {0} bytes, at most {max} are valid", max = crate::wal::codec::PAYLOAD_MAX_BYTES)]
    RecordTooLong(usize),
    /// A WAL record for a table that this version does not know.
    #[error("a wal record is for table {0:?}, which this version does not know; start the version that wrote it")]
    UnknownTable(String),
    /// A job has lost its lease, or the process stops.
    #[error("the job was interrupted: its lease is lost or the process stops; nothing of it was committed")]
    Interrupted,
    /// Others changed the files that a job was to replace.
    #[error("table {table}: files that were to be replaced are gone by now; the job is done again at its next turn")]
    Raced {
        /// Which table.
        table: String,
    },
    /// More than a bound allows.
    #[error("more than {max} {what}; at most {max} are valid")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// A version or time that a table does not have (any more).
    #[error("table {table} has no {wanted} (valid: {valid})")]
    NoVersion {
        /// Which table.
        table: &'static str,
        /// What was asked for.
        wanted: String,
        /// What there is.
        valid: String,
    },
    /// A version without a table, and a statement that does not read just one.
    #[error(
        "version {version} is of one table, and the statement reads {names} (valid: TABLE=VERSION for each table, or a \
         time)"
    )]
    Ambiguous {
        /// The version.
        version: u64,
        /// What the statement reads.
        names: String,
    },
    /// The store of the lease failed.
    #[error("lease of the lake's jobs: {0}")]
    Lease(String),
    /// The writer thread is gone.
    #[error("the wal writer has stopped")]
    Stopped,
}

impl LakeError {
    /// Whether the tables may be reachable later, without anybody changing the configuration.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Table { .. } | Self::Unanswered { .. })
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn table(table: &str) -> impl FnOnce(deltalake::DeltaTableError) -> Self + '_ {
        move |source| Self::Table { table: table.to_owned(), source: Box::new(source) }
    }
}

impl From<datafusion::error::DataFusionError> for LakeError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Self::Query(Box::new(error))
    }
}
