//! A closed day gets its final files.

use spillway_lake::events::EventBatch;
use std::fs::File;
use std::path::PathBuf;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use spillway_lake::jobs::{Job as _, JobContext};
use spillway_lake::{LakeSession, format};

use super::{DAY_MS, NOON_MS, beat, compact, rewrite_job, store};
use crate::support::{NOW_MS, Place};

/// The moment at which the day of `NOON_MS` closes.
const CLOSED_MS: u64 = NOW_MS + 3 * DAY_MS;

#[tokio::test]
async fn repeated_events_go_for_good_and_the_first_received_stays() {
    let place = Place::new();
    let ((a, _), (b, _)) = (place.open("c1").await, place.open("c2").await);
    for seq in (0..6).rev() {
        store(&a, beat("v", seq, NOON_MS + 1_000)).await;
    }
    // Sent again to another collector; 2 and 3 were there first.
    for (seq, at_ms) in [(1, NOON_MS + 5_000), (2, NOON_MS), (3, NOON_MS)] {
        store(&b, beat("v", seq, at_ms)).await;
    }
    assert_eq!(place.verified("c1").await.duplicates, 3);
    assert_eq!(rewrite_job().run(&place.context(CLOSED_MS - 1)).await.expect("too early").commits, 0);

    let report = rewrite_job().run(&place.context(CLOSED_MS)).await.expect("rewrite");
    assert_eq!((report.commits, report.files_removed, report.files_added, report.rows), (1, 9, 1, 6));
    assert!(report.lines[0].contains("9 rows of which 3 were repeated"), "{:?}", report.lines);
    let session = LakeSession::open(&place.root, vec![]).await.expect("open");
    let rows = session.query("SELECT seq, collector FROM events_committed").await.expect("rows");
    assert_eq!(format::csv(&rows).expect("csv"), "seq,collector\n0,c1\n1,c1\n2,c2\n3,c2\n4,c1\n5,c1\n");
    for (collector, seq) in [("c1", 6), ("c2", 3)] {
        let report = place.verified(collector).await;
        assert_eq!((report.faults(), report.duplicates), (vec![], 0));
        assert_eq!(report.collectors["events"][collector].committed_seq, seq);
    }
}

#[tokio::test]
async fn a_day_is_rewritten_once_and_again_when_a_late_row_came() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    store(&log, beat("v", 0, NOON_MS)).await;
    store(&log, beat("w", 0, NOON_MS + DAY_MS)).await;
    let context = place.context(CLOSED_MS);
    assert_eq!(rewrite_job().run(&context).await.expect("rewrite").files_removed, 1, "the day after is open");
    assert_eq!(rewrite_job().run(&context).await.expect("again").commits, 0);
    assert_eq!(compact(&context).await.commits, 0);

    store(&log, beat("v", 1, NOON_MS)).await;
    let report = rewrite_job().run(&context).await.expect("once more");
    assert_eq!((report.commits, report.files_removed, report.files_added, report.rows), (1, 2, 1, 2));
    assert_eq!(rewrite_job().run(&context).await.expect("again").commits, 0);
    assert_eq!(place.rows().await, 3);
}

#[tokio::test]
async fn a_row_that_comes_while_its_day_is_rewritten_stays() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for seq in 0..4 {
        store(&log, beat("v", seq, NOON_MS)).await;
    }
    let context = place.context(CLOSED_MS);
    let late = async {
        for seq in 2..16 {
            store(&log, beat("v", seq, NOON_MS)).await;
        }
    };
    let job = rewrite_job();
    let (report, ()) = tokio::join!(job.run(&context), late);
    assert_eq!(report.expect("rewrite").commits, 1);
    assert_eq!(place.stored(&[&log]).await, 16);
    job.run(&context).await.expect("the late rows");
    assert_eq!(place.rows().await, 16);
    assert_eq!(place.verified("c1").await.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn a_day_larger_than_the_memory_is_sorted_on_the_disk() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    // Backwards, so that nothing lies sorted; each view's rows are spread over all records.
    for part in (0..20_u64).rev() {
        let events = (0..2_000_u64).rev().map(|event| {
            let mut batch = beat("v", part * 2_000 + event, NOON_MS);
            batch.events.remove(0)
        });
        let batch = EventBatch { events: events.collect(), ..beat("v", 0, NOON_MS) };
        log.append(batch, 1_000_000).await.expect("append");
    }
    while log.commit().await.expect("commit").more {}
    let memory_max_bytes = 20 << 20;
    let context = JobContext { memory_max_bytes, ..place.context(CLOSED_MS) };
    let report = rewrite_job().run(&context).await.expect("rewrite");
    assert_eq!((report.commits, report.rows), (1, 40_000));
    let modified = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).expect("time");
    let written = place.on_disk().into_iter().max_by_key(modified).expect("a file");
    let file = ParquetRecordBatchReaderBuilder::try_new(File::open(written).expect("open")).expect("parquet");
    let mut expected = 0;
    for batch in file.build().expect("rows") {
        for seq in batch.expect("batch")["seq"].as_primitive::<Int64Type>().values() {
            assert_eq!(*seq, expected);
            expected += 1;
        }
    }
    assert_eq!(expected, 40_000);
}
