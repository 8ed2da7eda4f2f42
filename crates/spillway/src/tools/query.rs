//! `spillway query "SQL"`: the lake, the newest rows included, or as it was.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use spillway_lake::export::{self, Shape};
use spillway_lake::{At, LakeSession, TailSource, format};

use crate::cli::Query;
use crate::config::Config;

/// The metrics, for people and programs.
const METRICS: &str = "SELECT metric, unit, formula, views, source FROM metric_definitions";

/// Prints the rows as a table, or writes them as JSON lines, CSV or Parquet while they come. A collector that does not
/// answer is named on standard error.
///
/// # Errors
/// A bad configuration, an unreadable lake, bad SQL, a file that can't be written.
pub async fn run(arguments: &Query) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let root = config.lake_root()?;
    let collector =
        TailSource::Http { url: format!("http://{}", config.collector.listen), token: config.service_token.clone() };
    // The metrics' definitions need no rows.
    let tails = if arguments.metrics { Vec::new() } else { vec![collector] };
    let sql = arguments.sql.as_deref().unwrap_or(METRICS);
    let at = At::parse(&arguments.at).map_err(|error| anyhow::anyhow!("--at: {error}"))?;
    let said = || format!("query {sql:?}");
    let session = match at.clone() {
        Some(at) => LakeSession::open_at(&root, at, sql).await.with_context(said)?,
        None => LakeSession::open(&root, tails).await?,
    };
    for warning in session.warnings() {
        eprintln!("spillway: rows not yet committed are missing: {warning}");
    }
    let said = || match &at {
        None => said(),
        Some(at) => format!("{} at {at} (vacuum removes files a day after they left their table)", said()),
    };
    if let Some(file) = &arguments.parquet {
        let rows = parquet(&session, sql, file).await.with_context(said)?;
        eprintln!("spillway: {rows} rows written to {}", file.display());
        return Ok(());
    }
    let reader = Pipe::default();
    let written = if arguments.json || arguments.csv {
        let shape = if arguments.json { Shape::Json } else { Shape::Csv };
        let rows = session.stream(sql).await.with_context(said)?;
        let out = std::io::BufWriter::new(reader.clone());
        export::write(rows, shape, out).await.map(drop).with_context(said)
    } else {
        let batches = session.query(sql).await.with_context(said)?;
        writeln!(reader.clone(), "{}", format::table(&batches)?.trim_end()).context("write to standard output")
    };
    // `… | head` has what it wants, and goes.
    if reader.is_gone() { Ok(()) } else { written }
}

/// Standard output, and whether its reader has gone.
#[derive(Clone, Default)]
struct Pipe(Arc<AtomicBool>);

impl Pipe {
    fn is_gone(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn seen<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.0.store(true, Ordering::Relaxed);
        }
        done
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.seen(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.seen(io::stdout().flush())
    }
}

/// Writes beside the file first, so that it is whole or not there.
async fn parquet(session: &LakeSession, sql: &str, file: &Path) -> anyhow::Result<u64> {
    let rows = session.stream(sql).await?;
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let out = std::fs::File::create(&part).with_context(|| format!("create {}", Path::new(&part).display()))?;
    let written = export::write(rows, Shape::Parquet, std::io::BufWriter::new(out)).await?;
    std::fs::rename(&part, file).with_context(|| format!("rename to {}", file.display()))?;
    Ok(written)
}
