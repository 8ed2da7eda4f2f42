//! `spillway lake files`: a table as the plain Parquet files of its newest version, for other engines.

use anyhow::Context as _;
use spillway_lake::files::table_files;
use spillway_lake::schema::TableName;

use crate::cli::lake::LakeFiles;
use crate::config::Config;

/// Prints a path or URL a line, or everything as one JSON line.
///
/// # Errors
/// A bad configuration, an unknown table, one that nobody has written to yet.
pub async fn run(arguments: &LakeFiles) -> anyhow::Result<()> {
    let root = Config::load(&arguments.config)?.lake_root()?;
    let valid = || TableName::ALL.map(TableName::as_str).join(", ");
    let name = TableName::of(&arguments.table)
        .with_context(|| format!("table {:?} is unknown (valid: {})", arguments.table, valid()))?;
    let listed = table_files(&root, name)
        .await?
        .with_context(|| format!("table {} has no version yet: nothing was written to it", name.as_str()))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&listed)?);
    } else {
        listed.files.iter().for_each(|file| println!("{}", file.path));
    }
    Ok(())
}
