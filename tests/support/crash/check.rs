//! The ledger against the table.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};

use super::Campaign;
use super::fleet::Collector;
use super::storage::Storage;

/// Sequences by view.
type Events = BTreeMap<String, BTreeSet<u64>>;

/// What the comparison found.
pub(super) struct Comparison {
    pub(super) acknowledged: u64,
    pub(super) stored: u64,
    pub(super) lost: Vec<String>,
    pub(super) duplicated: u64,
    pub(super) raw_duplicates: u64,
    /// Rows that are not what was sent under their sequence.
    pub(super) wrong: u64,
}

/// Compares what was acknowledged with what the table has; nothing runs any more.
pub(super) fn compare(campaign: &Campaign, storage: &Storage, collector: &Collector) -> Result<Comparison, String> {
    let path = campaign.dir.join("ledger");
    let ledger = std::fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let acknowledged = acknowledged(&ledger)?;
    let query = |sql: &str| rows(campaign, storage, collector, sql);
    let (mut stored, mut raw_duplicates) = (Events::new(), 0);
    for row in query("SELECT view_id, seq, count(*) AS copies FROM events_raw GROUP BY view_id, seq")? {
        let mut cells = row.split(',');
        let (Some(view), Some(seq), Some(copies)) = (cells.next(), number(cells.next()), number(cells.next())) else {
            return Err(format!("the query answered {row:?}"));
        };
        raw_duplicates += copies - 1;
        stored.entry(view.to_owned()).or_default().insert(seq);
    }
    let one = |sql: &str| -> Result<u64, String> {
        let answer = query(sql)?;
        number(answer.first().map(String::as_str)).ok_or_else(|| format!("the query answered {answer:?}"))
    };
    let duplicated = one("SELECT coalesce(sum(copies - 1), 0) FROM \
         (SELECT count(*) AS copies FROM events GROUP BY property, view_id, source, seq)")?;
    let wrong = one("SELECT count(*) FROM events WHERE mono_ms <> seq * 1000")?;
    let lost = missing(&acknowledged, &stored);
    Ok(Comparison {
        acknowledged: count(&acknowledged),
        stored: count(&stored),
        lost,
        duplicated,
        raw_duplicates,
        wrong,
    })
}

fn count(events: &Events) -> u64 {
    events.values().map(|seqs| seqs.len() as u64).sum()
}

fn missing(acknowledged: &Events, stored: &Events) -> Vec<String> {
    let none = BTreeSet::new();
    acknowledged
        .iter()
        .flat_map(|(view, seqs)| {
            let stored = stored.get(view).unwrap_or(&none);
            seqs.difference(stored).map(move |seq| format!("{view} {seq}"))
        })
        .collect()
}

/// Reads lines `view_id first_seq count`.
fn acknowledged(ledger: &str) -> Result<Events, String> {
    let mut events = Events::new();
    for line in ledger.lines() {
        let mut words = line.split(' ');
        let (Some(view), Some(first), Some(count)) = (words.next(), number(words.next()), number(words.next())) else {
            return Err(format!("the ledger has a line {line:?}"));
        };
        events.entry(view.to_owned()).or_default().extend(first..first + count);
    }
    Ok(events)
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.trim().parse().ok()
}

/// Rows of a query as CSV lines, without the heading.
fn rows(campaign: &Campaign, storage: &Storage, collector: &Collector, sql: &str) -> Result<Vec<String>, String> {
    let out = Command::new(&campaign.spillway)
        .args(["query", "--csv", "--config"])
        .arg(collector.config_file())
        .arg(sql)
        .envs(storage.environment())
        .output()
        .map_err(|error| format!("query: {error}"))?;
    if !out.status.success() {
        return Err(format!("query {sql:?}: {}", String::from_utf8_lossy(&out.stderr)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).lines().skip(1).map(str::to_owned).collect())
}

/// `spillway lake verify` of one collector's WAL and the tables; `clean` tells whether it was.
pub(super) fn verify(campaign: &Campaign, storage: &Storage, collector: &Collector) -> Result<Value, String> {
    let out = Command::new(&campaign.spillway)
        .args(["lake", "verify", "--json", "--config"])
        .arg(collector.config_file())
        .envs(storage.environment())
        .output()
        .map_err(|error| format!("lake verify: {error}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    let report: Value = serde_json::from_slice(out.stdout.trim_ascii()).unwrap_or(Value::Null);
    Ok(json!({ "clean": out.status.success(), "report": report, "said": said.trim() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_ledger_and_not_in_the_table_is_lost() {
        let ledger = acknowledged("a 0 20\na 20 20\nb 0 3\n").expect("a ledger");
        assert_eq!(count(&ledger), 43);
        let mut stored = ledger.clone();
        assert!(missing(&ledger, &stored).is_empty());
        stored.get_mut("a").expect("a").remove(&21);
        stored.remove("b");
        assert_eq!(missing(&ledger, &stored), ["a 21", "b 0", "b 1", "b 2"]);
    }

    #[test]
    fn a_ledger_that_is_cut_is_refused() {
        assert!(acknowledged("a 0 20\na 2").is_err());
    }
}
