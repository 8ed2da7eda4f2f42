//! Faults between WAL and table are found.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use spillway_lake::schema::TableName;
use spillway_lake::table::Table;
use spillway_lake::verify::{WalOf, verify};

use crate::jobs::waiting;
use crate::support::{Place, append};

#[tokio::test]
async fn rows_that_a_table_claims_and_lacks_are_counted() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..3).await;
    let mut table = Table::open(&place.root, TableName::Events).await.expect("table");
    table.append(RecordBatch::new_empty(TableName::Events.schema()), "c1", 2).await.expect("a lie");
    let report = place.verified("c1").await;
    assert_eq!((report.missing_rows, report.pending_rows, report.wal_rows), (2, 1, 3));
    assert_eq!(report.faults(), ["2 rows that a table says it has are missing"]);
}

#[tokio::test]
async fn rows_above_the_commit_and_rows_stored_twice_are_counted() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..3).await;
    let rows = waiting(&place, &log).await;
    let mut table = Table::open(&place.root, TableName::Events).await.expect("table");
    table.append(rows.clone(), "c1", 1).await.expect("two rows too many");
    let report = place.verified("c1").await;
    assert_eq!((report.ahead_rows, report.collectors["events"]["c1"].last_wal_seq), (2, 3));
    table.append(rows, "c1", 3).await.expect("again");
    let report = place.verified("c1").await;
    assert_eq!((report.ahead_rows, report.doubled_rows, report.duplicates), (0, 3, 3));
    assert_eq!(report.faults(), ["3 rows are there twice"]);
}

#[tokio::test]
async fn a_segment_that_is_gone_leaves_a_gap() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..1).await;
    log.commit().await.expect("commit");
    append(&log, "v", 1..3).await;
    drop(log);
    let (log, _) = place.open("c1").await;
    append(&log, "v", 3..4).await;
    assert_eq!(place.verified("c1").await.gaps, 0);
    let segments = std::fs::read_dir(place.dir.path().join("wal/c1")).expect("dir").flatten().map(|entry| entry.path());
    let mut segments: Vec<_> = segments.filter(|path| !path.ends_with("lock")).collect();
    segments.sort();
    std::fs::remove_file(&segments[0]).expect("remove");
    let report = place.verified("c1").await;
    assert_eq!((report.gaps, report.pending_rows), (2, 1));
    assert_eq!(report.faults(), ["2 WAL sequences are missing"]);
}

#[tokio::test]
async fn the_wals_of_several_collectors_are_compared_together() {
    let place = Place::new();
    let ((a, _), (b, _)) = (place.open("c1").await, place.open("c2").await);
    append(&a, "v", 0..4).await;
    append(&b, "w", 0..3).await;
    a.commit().await.expect("commit");
    append(&a, "v", 4..6).await;
    b.commit().await.expect("commit");
    let kept_from = BTreeMap::new();
    let dirs = ["c1", "c2"].map(|collector| (collector, place.dir.path().join("wal").join(collector)));
    let wals = dirs.each_ref().map(|(collector, dir)| WalOf { dir, collector, kept_from: &kept_from });
    let report = verify(&place.root, &wals).await.expect("verify");
    assert_eq!(report.faults(), Vec::<String>::new());
    assert_eq!((report.wal_rows, report.pending_rows, report.committed_rows), (9, 2, 7));
    // What one of them claims and lacks is found, whichever comes first.
    let mut table = Table::open(&place.root, TableName::Events).await.expect("table");
    table.append(RecordBatch::new_empty(TableName::Events.schema()), "c1", 6).await.expect("a lie");
    for wals in [wals, [wals[1], wals[0]]] {
        let report = verify(&place.root, &wals).await.expect("verify");
        assert_eq!((report.missing_rows, report.pending_rows), (2, 0));
    }
}
