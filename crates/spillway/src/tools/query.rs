//! `spillway query "SQL"`: the lake, the newest rows included.

use std::path::Path;

use anyhow::Context as _;
use spillway_lake::export::{self, Shape};
use spillway_lake::{LakeSession, TailSource, format};

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
    let session = LakeSession::open(&root, tails).await?;
    for warning in session.warnings() {
        eprintln!("spillway: rows not yet committed are missing: {warning}");
    }
    let sql = arguments.sql.as_deref().unwrap_or(METRICS);
    let said = || format!("query {sql:?}");
    if let Some(file) = &arguments.parquet {
        let rows = parquet(&session, sql, file).await.with_context(said)?;
        eprintln!("spillway: {rows} rows written to {}", file.display());
    } else if arguments.json || arguments.csv {
        let shape = if arguments.json { Shape::Json } else { Shape::Csv };
        let rows = session.stream(sql).await.with_context(said)?;
        let out = std::io::BufWriter::new(std::io::stdout());
        export::write(rows, shape, out).await.with_context(said)?;
    } else {
        let batches = session.query(sql).await.with_context(said)?;
        println!("{}", format::table(&batches)?.trim_end());
    }
    Ok(())
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
