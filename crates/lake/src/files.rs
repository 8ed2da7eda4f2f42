//! A table as a plain list of Parquet files, so that other engines read exactly what a query of ours would read.

use std::collections::BTreeMap;

use url::Url;

use crate::schema::TableName;
use crate::{LakeError, table};

/// The files of a table at one version.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableFiles {
    /// Table.
    pub table: &'static str,
    /// Version that is listed; files stay on the disk for as long as vacuum keeps superseded ones.
    pub version: u64,
    /// Files, by path.
    pub files: Vec<TableFile>,
}

/// A Parquet file of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct TableFile {
    /// Absolute path, or URL where the lake is not on this machine's disk.
    pub path: String,
    /// Partition columns, which the file itself does not hold.
    pub partition: BTreeMap<String, Option<String>>,
    /// Rows; `None` if the table does not tell.
    pub rows: Option<u64>,
    /// Size, bytes.
    pub bytes: u64,
}

/// The files of table `name` under `root`, as of now; `None` if nobody has made the table yet.
///
/// # Errors
/// [`LakeError::Table`].
pub async fn table_files(root: &Url, name: TableName) -> Result<Option<TableFiles>, LakeError> {
    let Some(loaded) = table::load(root, name).await? else { return Ok(None) };
    let location = table::location(root, name)?;
    let folder = location.to_file_path().ok();
    let snapshot = loaded.snapshot().map_err(LakeError::table(name.as_str()))?;
    let mut files = Vec::new();
    for file in snapshot.log_data().iter() {
        let relative = file.object_store_path();
        let path = match &folder {
            Some(folder) => folder.join(relative.as_ref()).to_string_lossy().into_owned(),
            None => format!("{}/{relative}", location.as_str().trim_end_matches('/')),
        };
        files.push(TableFile {
            path,
            partition: file.partition_values_map().into_iter().collect(),
            rows: file.num_records().map(|rows| rows as u64),
            bytes: u64::try_from(file.size()).unwrap_or(0),
        });
    }
    files.sort();
    Ok(Some(TableFiles { table: name.as_str(), version: loaded.version().unwrap_or_default(), files }))
}
