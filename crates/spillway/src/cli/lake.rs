//! `spillway lake …`: what to do with the lake.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use spillway_lake::import::{FieldMap, LogFormat};

/// `lake`.
#[derive(Debug, Args)]
pub struct Lake {
    /// What to do with it
    #[command(subcommand)]
    pub action: LakeAction,
}

/// What to do with the lake.
#[derive(Debug, Subcommand)]
pub enum LakeAction {
    /// Compare WAL and tables; exit 1 if a row is missing, doubled or out of order
    Verify(LakeVerify),
    /// Merge small files
    Compact(LakeRun),
    /// Rewrite closed days: deduplicated for good, sorted
    Rewrite(LakeRun),
    /// Remove files that no table names any more
    Vacuum(LakeVacuum),
    /// Drop days that are older than their table's retention (`[lake] retention_days`; by default events, deliveries and
    /// steers 395 days, views 760, quarantine 14, rounds 7, sums and the orchestrator's other tables 3650)
    Retain(LakeRun),
    /// Write checkpoints and remove old log entries
    Checkpoint(LakeRun),
    /// Delete every row of a view or of a viewer's session
    Forget(LakeForget),
    /// Bring access logs of CDNs or edges into `deliveries`; each log once, whatever it is called
    Import(LakeImport),
    /// List a table's Parquet files at its newest version, for other engines; one path or URL a line
    Files(LakeFiles),
}

/// `lake files`.
#[derive(Debug, Args)]
pub struct LakeFiles {
    /// Table; `views` and `rollup_1m` hold superseded revisions too
    #[arg(long, value_name = "NAME")]
    pub table: String,
    /// Configuration (TOML): its lake is read
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON line: version, and path, partition, rows and bytes of each file
    #[arg(long)]
    pub json: bool,
}

/// Which lake, and how to answer.
#[derive(Debug, Args)]
pub struct LakeRun {
    /// Configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON line
    #[arg(long)]
    pub json: bool,
    /// Wait so long for a running job to end, s
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub wait_s: u64,
}

/// `lake verify`.
#[derive(Debug, Args)]
pub struct LakeVerify {
    /// Configuration (TOML): its WAL and its lake are compared
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// WAL folder of a further collector on the same lake, by the collector's id; may be repeated
    #[arg(long = "wal", value_name = "COLLECTOR=DIR")]
    pub wals: Vec<WalArgument>,
    /// One JSON line
    #[arg(long)]
    pub json: bool,
}

/// A collector's WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalArgument {
    /// The collector's id.
    pub collector: String,
    /// Folder.
    pub dir: PathBuf,
}

impl FromStr for WalArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (collector, dir) = text
            .split_once('=')
            .filter(|(collector, dir)| !collector.is_empty() && !dir.is_empty())
            .ok_or_else(|| format!("{text:?} is not valid (valid: COLLECTOR=DIR)"))?;
        Ok(Self { collector: collector.into(), dir: dir.into() })
    }
}

/// `lake vacuum`.
#[derive(Debug, Args)]
pub struct LakeVacuum {
    /// Which lake, and how to answer
    #[command(flatten)]
    pub run: LakeRun,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Keep files for so long after they left their table, h; running queries need them
    #[arg(long, value_name = "H", default_value_t = 24, value_parser = clap::value_parser!(u64).range(24..))]
    pub retention_hours: u64,
}

/// `lake forget`.
#[derive(Debug, Args)]
pub struct LakeForget {
    /// Which lake, and how to answer
    #[command(flatten)]
    pub run: LakeRun,
    /// View (playback attempt) to forget
    #[arg(long, value_name = "ID", required_unless_present = "viewer", conflicts_with = "viewer")]
    pub view: Option<String>,
    /// Viewer to forget: the session (`session_id`) that the viewer's player reported; all its views go. There is no
    /// viewer id at rest, so each session of a viewer has to be named
    #[arg(long, value_name = "ID")]
    pub viewer: Option<String>,
    /// Only in this property (tenant's app)
    #[arg(long, value_name = "ID")]
    pub property: Option<String>,
    /// Remove the files that held the rows at once, not after 24 h; queries that run now may fail
    #[arg(long)]
    pub vacuum_now: bool,
}

/// `lake import`.
#[derive(Debug, Args)]
pub struct LakeImport {
    /// Logs, plain or gzip; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Configuration (TOML): its lake, and its tables host → pathway and address → region
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Form of the logs: cmcd-log, fastly, cloudfront or akamai
    #[arg(long, value_name = "FORMAT")]
    pub format: LogFormat,
    /// A field that these logs name otherwise: FIELD=COLUMN, for times in seconds or microseconds COLUMN:s or :us
    #[arg(long = "map", value_name = "FIELD=COLUMN")]
    pub maps: Vec<FieldMap>,
    /// Pathway of rows that tell none, by name or by host
    #[arg(long, value_name = "ID")]
    pub pathway: Option<String>,
    /// Of a hundred lines at most this many may be bad; else nothing of the log is imported
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub bad_max_percent: f64,
    /// One JSON line for each log
    #[arg(long)]
    pub json: bool,
}
