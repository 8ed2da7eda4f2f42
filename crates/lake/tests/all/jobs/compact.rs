//! Small files become few.

use deltalake::DeltaTableBuilder;
use spillway_lake::jobs::Job as _;

use super::{DAY_MS, NOON_MS, beat, compact, compact_job, rewrite_job, store};
use crate::support::Place;

#[tokio::test]
async fn merging_keeps_every_row_and_each_collectors_position() {
    let place = Place::new();
    let ((a, _), (b, _)) = (place.open("c1").await, place.open("c2").await);
    for seq in 0..6 {
        store(&a, beat("a", seq, NOON_MS)).await;
        store(&b, beat("b", seq, NOON_MS)).await;
    }
    let report = compact(&place.context(NOON_MS)).await;
    assert_eq!((report.commits, report.files_removed, report.files_added, report.rows), (1, 12, 1, 12));
    assert_eq!(compact(&place.context(NOON_MS)).await.commits, 0, "nothing is left to merge");
    assert_eq!(place.rows().await, 12);

    drop((a, b));
    for (collector, view) in [("c1", "a"), ("c2", "b")] {
        let (log, recovered) = place.open(collector).await;
        assert_eq!((recovered.replayed_rows, recovered.committed_seq), (0, 6));
        store(&log, beat(view, 6, NOON_MS)).await;
        let report = place.verified(collector).await;
        assert_eq!((report.faults(), report.duplicates), (vec![], 0));
    }
    assert_eq!(place.rows().await, 14);
}

#[tokio::test]
async fn collectors_go_on_committing_while_files_are_merged() {
    let place = Place::new();
    let ((a, _), (b, _)) = (place.open("c1").await, place.open("c2").await);
    let appending = async {
        for seq in 0..24 {
            store(&a, beat("a", seq, NOON_MS)).await;
            store(&b, beat("b", seq, NOON_MS)).await;
        }
    };
    let context = place.context(NOON_MS);
    let merging = async {
        let mut merged = 0;
        while merged < 24 {
            merged += compact(&context).await.files_removed;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(appending, merging);
    assert_eq!(place.rows().await, 48);
    for collector in ["c1", "c2"] {
        assert_eq!(place.verified(collector).await.faults(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn two_at_once_never_double_a_row() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for seq in 0..10 {
        store(&log, beat("v", seq, NOON_MS)).await;
    }
    // Open days for one, closed days for the other: without a lease both take the same files.
    let (now, later) = (place.context(NOON_MS), place.context(NOON_MS + 4 * DAY_MS));
    let (compaction, rewrite) = (compact_job(), rewrite_job());
    let (first, second) = tokio::join!(compaction.run(&now), rewrite.run(&later));
    assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
    for failed in [first.err(), second.err()].into_iter().flatten() {
        assert!(failed.to_string().contains("are gone by now"), "{failed}");
    }
    assert_eq!(place.rows().await, 10);
    assert_eq!(place.verified("c1").await.faults(), Vec::<String>::new());
}

/// Why jobs commit by themselves. When this fails, `deltalake` has learnt it, and its `optimize` may do.
#[tokio::test]
async fn deltalake_itself_would_commit_two_merges_of_the_same_files() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for seq in 0..4 {
        store(&log, beat("v", seq, NOON_MS)).await;
    }
    let url = place.root.join("events").expect("url");
    let load = || async { DeltaTableBuilder::from_url(url.clone()).expect("table").load().await.expect("load") };
    let (a, b) = (load().await, load().await);
    a.optimize().await.expect("the first");
    b.optimize().await.expect("the second, from the same version");
    assert_eq!(place.rows().await, 8, "each row twice");
    assert_eq!(place.verified("c1").await.doubled_rows, 4);
}

#[tokio::test]
async fn a_job_without_a_permit_changes_nothing() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for seq in 0..10 {
        store(&log, beat("v", seq, NOON_MS)).await;
    }
    let before = place.on_disk();
    let context = place.context(NOON_MS);
    context.permit.end();
    let error = compact_job().run(&context).await.expect_err("interrupted").to_string();
    assert!(error.contains("nothing of it was committed"), "{error}");
    assert_eq!(place.on_disk(), before);
    assert_eq!(compact(&place.context(NOON_MS)).await.files_removed, 10);
}
