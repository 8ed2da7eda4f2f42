//! How far a collector's records are in their tables, asked at the start.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use crate::LakeError;
use crate::schema::TableName;
use crate::table::{self, Table};

/// The tables have so long to answer at the start.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the tables answered.
pub(super) struct Reach {
    /// Those that are going to be committed to, open.
    pub(super) tables: BTreeMap<TableName, Table>,
    /// WAL sequence that each table has.
    pub(super) committed: BTreeMap<TableName, u64>,
}

impl Reach {
    /// Asks all tables that collectors feed, and makes `events` where there is none.
    ///
    /// # Errors
    /// [`LakeError`], also [`LakeError::Unanswered`] after 10 s.
    pub(super) async fn ask(root: &Url, collector: &str) -> Result<Self, LakeError> {
        let asked = tokio::time::timeout(PATIENCE, Self::ask_all(root, collector)).await;
        asked.unwrap_or_else(|_| Err(LakeError::Unanswered { root: root.to_string(), patience_s: PATIENCE.as_secs() }))
    }

    async fn ask_all(root: &Url, collector: &str) -> Result<Self, LakeError> {
        let mut tables = BTreeMap::from([(TableName::Events, Table::open(root, TableName::Events).await?)]);
        let mut committed = BTreeMap::new();
        for name in TableName::FED {
            let seq = match (tables.get_mut(&name), table::load(root, name).await?) {
                (Some(table), _) => table.committed(collector).await?,
                (None, Some(table)) => {
                    table::committed(&table, collector).await.map_err(LakeError::table(name.as_str()))?
                }
                (None, None) => None,
            };
            committed.insert(name, seq.unwrap_or(0));
        }
        Ok(Self { tables, committed })
    }

    /// Nothing is known. The first commit to each table finds out, and appends nothing that is there already.
    pub(super) const fn unknown() -> Self {
        Self { tables: BTreeMap::new(), committed: BTreeMap::new() }
    }
}
