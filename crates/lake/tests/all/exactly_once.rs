//! Crashes at every point between the acknowledgement and the trim.

use std::collections::BTreeMap;

use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::operations::create::CreateBuilder;
use spillway_lake::LakeSession;
use spillway_lake::schema::TableName;
use spillway_lake::table::Table;
use spillway_lake::verify::{WalOf, verify};

use crate::support::{Place, append};

fn parquet_files(place: &Place) -> usize {
    let mut open = vec![place.dir.path().join("lake/events")];
    let mut files = 0;
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("dir").flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "parquet") {
                files += 1;
            }
        }
    }
    files
}

#[tokio::test]
async fn acknowledged_events_survive_a_crash_before_any_commit() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..5).await;
    drop(log);
    let (log, recovered) = place.open("c1").await;
    assert_eq!((recovered.replayed_rows, recovered.committed_seq), (5, 0));
    assert_eq!(place.stored(&[&log]).await, 5);
    while log.commit().await.expect("commit").more {}
    assert_eq!(place.stored(&[]).await, 5);
}

#[tokio::test]
async fn a_crash_between_parquet_and_commit_stores_each_event_once() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..5).await;
    let rows = arrow::compute::concat_batches(
        &TableName::Events.schema(),
        &log.tail().batches(TableName::Events).expect("tail"),
    )
    .expect("concat");
    let table = Table::open(&place.root, TableName::Events).await.expect("table");
    table.stage(rows).await.expect("stage");
    drop((log, table));
    assert_eq!(parquet_files(&place), 1, "the file is there and nobody names it");

    let (log, recovered) = place.open("c1").await;
    assert_eq!(recovered.replayed_rows, 5);
    log.commit().await.expect("commit");
    assert_eq!(place.stored(&[&log]).await, 5);
    let report = verify(&place.root, &[]).await.expect("verify");
    assert_eq!((report.committed_rows, report.duplicates), (5, 0));
}

#[tokio::test]
async fn a_crash_between_commit_and_trim_stores_each_event_once() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..5).await;
    let rows = arrow::compute::concat_batches(
        &TableName::Events.schema(),
        &log.tail().batches(TableName::Events).expect("tail"),
    )
    .expect("concat");
    let mut table = Table::open(&place.root, TableName::Events).await.expect("table");
    table.append(rows.clone(), "c1", log.tail().stats().wal_seq).await.expect("append");
    assert_eq!(place.stored(&[&log]).await, 5, "table and tail overlap now");
    drop(log);

    let (log, recovered) = place.open("c1").await;
    assert_eq!((recovered.replayed_rows, recovered.wal.records), (0, 5));
    assert_eq!(log.commit().await.expect("commit").rows, 0);
    table.append(rows, "c1", recovered.committed_seq).await.expect("the same version again");
    append(&log, "v", 5..6).await;
    log.commit().await.expect("commit");
    let (dir, kept_from) = (place.dir.path().join("wal/c1"), BTreeMap::new());
    let wal = WalOf { dir: &dir, collector: "c1", kept_from: &kept_from };
    let report = verify(&place.root, &[wal]).await.expect("verify");
    assert_eq!((report.committed_rows, report.duplicates), (6, 0));
    assert_eq!(report.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn a_commit_that_reaches_the_table_after_the_restart_is_not_repeated() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..3).await;
    let rows = arrow::compute::concat_batches(
        &TableName::Events.schema(),
        &log.tail().batches(TableName::Events).expect("tail"),
    )
    .expect("concat");
    let reached = log.tail().stats().wal_seq;
    drop(log);
    let (log, recovered) = place.open("c1").await;
    assert_eq!((recovered.replayed_rows, recovered.committed_seq), (3, 0));
    append(&log, "v", 3..4).await;
    // What the killed process had sent.
    let mut table = Table::open(&place.root, TableName::Events).await.expect("table");
    table.append(rows, "c1", reached).await.expect("append");

    while log.commit().await.expect("commit").more {}
    let report = verify(&place.root, &[]).await.expect("verify");
    assert_eq!((report.committed_rows, report.duplicates), (4, 0));
    assert_eq!(log.tail().stats().pending_rows, 0);
}

#[tokio::test]
async fn what_comes_during_a_commit_waits_for_the_next_one() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..3).await;
    let (report, ()) = tokio::join!(log.commit(), append(&log, "v", 3..4));
    let report = report.expect("commit");
    assert_eq!((report.rows, report.more), (3, false));
    assert_eq!(log.tail().stats().pending_rows, 1);
}

#[tokio::test]
async fn sequences_go_on_above_the_table_when_the_wal_is_lost() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..3).await;
    log.commit().await.expect("commit");
    drop(log);
    std::fs::remove_dir_all(place.dir.path().join("wal")).expect("remove");
    let (log, recovered) = place.open("c1").await;
    assert_eq!(recovered.committed_seq, 3);
    append(&log, "v", 3..4).await;
    assert_eq!(log.tail().stats().wal_seq, 4);
    log.commit().await.expect("commit");
    assert_eq!(place.stored(&[]).await, 4);
}

#[tokio::test]
async fn two_collectors_share_one_table() {
    let place = Place::new();
    let ((a, _), (b, _)) = tokio::join!(place.open("c1"), place.open("c2"));
    for round in 0..3 {
        append(&a, "a", round * 4..round * 4 + 4).await;
        append(&b, "b", round * 4..round * 4 + 4).await;
        let (first, second) = tokio::join!(a.commit(), b.commit());
        assert_eq!((first.expect("a").rows, second.expect("b").rows), (4, 4));
    }
    append(&a, "a", 12..13).await;
    assert_eq!(place.stored(&[&a, &b]).await, 25);
    assert_eq!(verify(&place.root, &[]).await.expect("verify").committed_rows, 24);
}

#[tokio::test]
async fn a_second_process_with_the_same_id_is_refused() {
    let place = Place::new();
    let (_log, _) = place.open("c1").await;
    let error = place.try_open("c1").await.err().expect("refused").to_string();
    assert!(error.contains("in use"), "{error}");
}

#[tokio::test]
async fn an_older_table_gets_the_columns_that_came_since() {
    let place = Place::new();
    let new = ["cmcd", "live_latency_ms"];
    let columns: StructType = TableName::Events.schema().as_ref().try_into_kernel().expect("columns");
    let old = columns.fields().filter(|column| !new.contains(&column.name().as_str())).cloned();
    let folder = place.dir.path().join("lake/events");
    std::fs::create_dir_all(&folder).expect("folder");
    let made = CreateBuilder::new().with_location(folder.to_str().expect("path")).with_columns(old);
    made.with_partition_columns(["dt"]).await.expect("an older table");

    let (log, _) = place.open("c1").await;
    append(&log, "v", 0..5).await;
    log.commit().await.expect("commit");
    assert_eq!(place.stored(&[]).await, 5);
    let session = LakeSession::open(&place.root, Vec::new()).await.expect("session");
    let known = "SELECT count(*) FROM events WHERE live_latency_ms IS NULL AND wal_seq > 0 AND cmcd IS NULL";
    assert_eq!(session.count(known).await.expect("count"), 5);
}
