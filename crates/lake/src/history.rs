//! Older versions: what a table was, by version or by time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use datafusion::prelude::SessionContext;
use deltalake::DeltaTable;
use futures::TryStreamExt as _;
use url::Url;

use crate::schema::TableName;
use crate::{LakeError, table, time};

/// What a query is pinned to. Rows that were not committed then are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Every table as it was at this time, ms since epoch.
    Time(u64),
    /// The one table that the statement reads, at this version.
    Version(u64),
    /// These tables at these versions; the others as they are now.
    Tables(BTreeMap<TableName, u64>),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(ms) => f.write_str(&time::iso(*ms)),
            Self::Version(version) => write!(f, "version {version}"),
            Self::Tables(tables) => {
                let named = tables.iter().map(|(table, version)| format!("{}={version}", table.as_str()));
                f.write_str(&named.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl At {
    /// Reads `12`, `2026-01-01T00:00:00Z` (also with an offset, without zone = UTC, or a day alone = its begin), or any
    /// number of `events=12`. `None` of nothing.
    ///
    /// # Errors
    /// A sentence that names the text and what is valid.
    pub fn parse(texts: &[String]) -> Result<Option<Self>, String> {
        let bad = |text: &str, valid: &str| format!("{text:?} is not valid (valid: {valid})");
        if let [text] = texts
            && !text.contains('=')
        {
            if let Ok(version) = text.parse() {
                return Ok(Some(Self::Version(version)));
            }
            let day = time::ms_of_day(text);
            let ms = day.or_else(|| crate::import::time_ms(text).filter(|_| text.contains('-')));
            let valid = "a version, TABLE=VERSION, or a time such as 2026-01-01T00:00:00Z";
            return ms.map(|ms| Some(Self::Time(ms))).ok_or_else(|| bad(text, valid));
        }
        let mut tables = BTreeMap::new();
        for text in texts {
            let names = || TableName::ALL.map(TableName::as_str).join(", ");
            let (table, version) =
                text.split_once('=').ok_or_else(|| bad(text, "TABLE=VERSION, where --at is given more than once"))?;
            let table = TableName::of(table).ok_or_else(|| bad(table, &names()))?;
            tables.insert(table, version.parse().map_err(|_| bad(version, "the number of a version"))?);
        }
        Ok((!tables.is_empty()).then_some(Self::Tables(tables)))
    }

    /// With the table that a version is of, if `sql` reads one alone.
    pub(crate) fn of_statement(self, context: &SessionContext, sql: &str) -> Result<Self, LakeError> {
        let Self::Version(version) = self else { return Ok(self) };
        let state = context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect)?;
        let names: BTreeSet<String> =
            state.resolve_table_references(&statement)?.iter().map(|name| name.table().to_owned()).collect();
        let of = |name: &str| {
            let bare = ["_raw", "_committed", "_tail"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            TableName::of(bare)
        };
        let tables: BTreeSet<Option<TableName>> = names.iter().map(|name| of(name)).collect();
        match tables.into_iter().collect::<Vec<_>>()[..] {
            [Some(table)] => Ok(Self::Tables(BTreeMap::from([(table, version)]))),
            _ => Err(LakeError::Ambiguous { version, names: names.into_iter().collect::<Vec<_>>().join(", ") }),
        }
    }
}

/// A version that can be read, and when it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    version: u64,
    at_ms: u64,
}

/// Versions of a table whose log is kept, oldest first.
async fn kept(table: &DeltaTable) -> Result<Vec<Kept>, deltalake::DeltaTableError> {
    let log = table.log_store();
    let (mut commits, mut first_checkpoint) = (Vec::new(), None);
    let store = log.object_store(None);
    let mut listed = store.list(Some(log.log_path()));
    while let Some(entry) = listed.try_next().await? {
        let name = entry.location.filename().unwrap_or_default();
        let Some((digits, rest)) = name.split_once('.') else { continue };
        let (20, Ok(version)) = (digits.len(), digits.parse::<u64>()) else { continue };
        if rest == "json" {
            let at_ms = u64::try_from(entry.last_modified.timestamp_millis()).unwrap_or(0);
            commits.push(Kept { version, at_ms });
        } else if rest.starts_with("checkpoint") {
            first_checkpoint = Some(first_checkpoint.unwrap_or(version).min(version));
        }
    }
    commits.sort_unstable();
    // Behind the first entry that is gone nothing can be read but from a checkpoint on.
    let from = match commits.first() {
        Some(first) if first.version > 0 => first_checkpoint.unwrap_or(u64::MAX),
        _ => 0,
    };
    commits.retain(|commit| commit.version >= from);
    Ok(commits)
}

/// Table `name` as it was; `None` if it was not there.
pub(crate) async fn load(root: &Url, name: TableName, at: Option<&At>) -> Result<Option<DeltaTable>, LakeError> {
    let failed = || LakeError::table(name.as_str());
    let there = table::load(root, name).await?;
    let no_such = |wanted: String, valid: String| LakeError::NoVersion { table: name.as_str(), wanted, valid };
    let (wanted, mut there) = match (at, there) {
        (Some(At::Tables(tables)), None) if tables.contains_key(&name) => {
            return Err(no_such(format!("version {}", tables[&name]), "none, nobody has made the table yet".into()));
        }
        (None | Some(At::Version(_)), there) | (Some(_), there @ None) => return Ok(there),
        (Some(At::Tables(tables)), Some(there)) => match tables.get(&name) {
            Some(version) => (Ok(*version), there),
            None => return Ok(Some(there)),
        },
        (Some(At::Time(ms)), Some(there)) => (Err(*ms), there),
    };
    let kept = kept(&there).await.map_err(failed())?;
    let wanted_text = || match wanted {
        Ok(version) => format!("version {version}"),
        Err(ms) => time::iso(ms),
    };
    let (Some(first), Some(last)) = (kept.first(), kept.last()) else {
        return Err(no_such(wanted_text(), "none, the log of older versions was cleaned up".into()));
    };
    let told = |commit: &Kept| format!("{} ({})", commit.version, time::iso(commit.at_ms));
    let range = || format!("{} to {}", told(first), told(last));
    let version = match wanted {
        Ok(version) if (first.version..=last.version).contains(&version) => version,
        Ok(_) => return Err(no_such(wanted_text(), range())),
        Err(ms) => match kept.iter().rev().find(|commit| commit.at_ms <= ms) {
            Some(commit) => commit.version,
            None if first.version == 0 => return Ok(None),
            None => return Err(no_such(wanted_text(), range())),
        },
    };
    there.load_version(version).await.map_err(failed())?;
    Ok(Some(there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Option<At>, String> {
        At::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_version_a_time_and_tables_are_told_apart() {
        let noon = Some(At::Time(1_767_268_800_000));
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&["12"]), Ok(Some(At::Version(12))));
        for text in ["2026-01-01T12:00:00Z", "2026-01-01 12:00:00", "2026-01-01T13:00:00+01:00"] {
            assert_eq!(parse(&[text]), Ok(noon.clone()), "{text}");
        }
        assert_eq!(parse(&["2026-01-01"]), Ok(Some(At::Time(1_767_225_600_000))));
        let two = BTreeMap::from([(TableName::Events, 3), (TableName::Views, 9)]);
        assert_eq!(parse(&["events=3", "views=9"]), Ok(Some(At::Tables(two))));
        for (texts, word) in [
            (&["yesterday"][..], "a time such as"),
            (&["-3"], "a version"),
            (&["event=3"], "events, deliveries"),
            (&["events=x"], "number"),
            (&["3", "4"], "more than once"),
        ] {
            let error = parse(texts).expect_err("not valid");
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(At::Time(1_767_268_800_250).to_string(), "2026-01-01T12:00:00.250Z");
    }
}
