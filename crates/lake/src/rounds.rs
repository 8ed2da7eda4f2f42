//! Recorded rounds, read back in the order in which they were decided and in parts that fit into memory.

use serde::Deserialize;

use crate::learned::{between, rows};
use crate::records::Round;
use crate::{LakeError, LakeSession};

/// A recorded round without its texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct RoundName {
    /// Process that decided.
    pub orchestrator: String,
    /// First round of its run, ms since epoch.
    pub started_ms: u64,
    /// 0, 1, 2 … of the run.
    pub seq: u64,
    /// Time of the round, ms since epoch.
    pub at_ms: u64,
    /// Length of its texts, bytes.
    pub bytes: u64,
    /// It carries everything that later rows leave out: a replay can begin here.
    pub whole: bool,
}

/// Rounds recorded from `from_ms` until before `to_ms`, of all orchestrators; each once, by process, run and number.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn names(session: &LakeSession, from_ms: u64, to_ms: u64) -> Result<Vec<RoundName>, LakeError> {
    let when = between("at_ms", from_ms, to_ms);
    let sql = format!(
        "SELECT orchestrator, started_ms, seq, at_ms, bytes, config_toml IS NOT NULL AS whole FROM rounds WHERE {when}"
    );
    let mut names: Vec<RoundName> = rows(session, &sql).await?;
    names.sort_unstable();
    names.dedup_by(|a, b| (&a.orchestrator, a.started_ms, a.seq) == (&b.orchestrator, b.started_ms, b.seq));
    Ok(names)
}

/// The rounds of `names`, which are of one orchestrator and in order, with their texts.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn read(session: &LakeSession, names: &[RoundName]) -> Result<Vec<Round>, LakeError> {
    let (Some(first), Some(last)) = (names.first(), names.last()) else { return Ok(Vec::new()) };
    let when = between("at_ms", first.at_ms, last.at_ms + 1);
    let orchestrator = first.orchestrator.replace('\'', "''");
    let sql = format!("SELECT * FROM rounds WHERE {when} AND orchestrator = '{orchestrator}'");
    let mut read: Vec<Round> = rows(session, &sql).await?;
    let name = |round: &Round| (round.started_ms, round.seq);
    read.sort_unstable_by_key(name);
    read.dedup_by_key(|round| name(round));
    read.retain(|round| (name(round) >= (first.started_ms, first.seq)) && (name(round) <= (last.started_ms, last.seq)));
    Ok(read)
}

/// Cuts `names` into parts of at most `bytes_max` each (a longer round is a part of its own).
#[must_use]
pub fn parts(names: &[RoundName], bytes_max: u64) -> Vec<&[RoundName]> {
    let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (index, name) in names.iter().enumerate() {
        if index > from && bytes + name.bytes > bytes_max {
            parts.push(&names[from..index]);
            (from, bytes) = (index, 0);
        }
        bytes += name.bytes;
    }
    if from < names.len() {
        parts.push(&names[from..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake_root;
    use crate::records;
    use crate::schema::TableName;

    const NOW_MS: u64 = 1_767_225_600_000;

    fn round(orchestrator: &str, started_ms: u64, seq: u64) -> Round {
        Round {
            at_ms: NOW_MS + started_ms + seq * 2_000,
            orchestrator: orchestrator.into(),
            started_ms,
            seq,
            v: 1,
            heard_json: format!("{{\"v\":1,\"text\":\"a 'quoted' \\\"{seq}\\\" \u{1f3de}\"}}"),
            config_toml: (seq == 0).then(|| "[policy]\nhold_s = 3\n".into()),
            ..Round::default()
        }
    }

    #[tokio::test]
    async fn rounds_come_back_in_order_and_once() {
        let dir = tempfile::tempdir().expect("dir");
        let root = lake_root(dir.path().to_str().expect("utf-8")).expect("root");
        let mut all: Vec<Round> = (0..5).map(|seq| round("o'1", 0, seq)).collect();
        all.extend((0..3).map(|seq| round("o'1", 20_000, seq)));
        let mut stored = all.clone();
        stored.reverse();
        stored.push(all[2].clone());
        stored.push(round("o2", 0, 0));
        for (version, rows) in stored.chunks(4).enumerate() {
            let rows = records::rounds(rows).expect("rows");
            crate::append(&root, TableName::Rounds, rows, "o", version as u64 + 1).await.expect("append");
        }
        let session = LakeSession::open(&root, vec![]).await.expect("open");
        let names = super::names(&session, 0, NOW_MS * 2).await.expect("names");
        let own: Vec<RoundName> = names.iter().filter(|name| name.orchestrator == "o'1").cloned().collect();
        assert_eq!((names.len(), own.len()), (9, 8));
        assert_eq!(
            own.iter().map(|name| name.whole).collect::<Vec<_>>()[..6],
            [true, false, false, false, false, true]
        );
        assert_eq!(read(&session, &own).await.expect("read"), all);
        assert_eq!(read(&session, &own[1..4]).await.expect("read"), all[1..4]);
        assert_eq!(super::names(&session, 0, NOW_MS).await.expect("names"), []);
        let bytes = own[0].bytes + own[1].bytes;
        assert_eq!(parts(&own, bytes).iter().map(|part| part.len()).sum::<usize>(), 8);
        assert_eq!(parts(&own, bytes)[0].len(), 2);
        assert_eq!(parts(&own, 1).len(), 8);
    }
}
