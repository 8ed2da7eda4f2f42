//! `spillway query "SQL"`: the lake, the newest rows included.

use anyhow::Context as _;
use spillway_lake::{LakeSession, TailSource, format};

use crate::cli::Query;
use crate::config::Config;

/// Prints the rows as a table, JSON lines or CSV. A collector that does not answer is named on standard error.
///
/// # Errors
/// A bad configuration, an unreadable lake, bad SQL.
pub async fn run(arguments: &Query) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    let root = config.lake_root()?;
    let collector =
        TailSource::Http { url: format!("http://{}", config.collector.listen), token: config.service_token.clone() };
    let session = LakeSession::open(&root, vec![collector]).await?;
    for warning in session.warnings() {
        eprintln!("spillway: rows not yet committed are missing: {warning}");
    }
    let batches = session.query(&arguments.sql).await.with_context(|| format!("query {:?}", arguments.sql))?;
    let text = if arguments.json {
        format::json_lines(&batches)?
    } else if arguments.csv {
        format::csv(&batches)?
    } else {
        format::table(&batches)?
    };
    println!("{}", text.trim_end());
    Ok(())
}
