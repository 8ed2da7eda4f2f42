//! Retention, vacuum and checkpoints.

use std::time::{Duration, UNIX_EPOCH};

use spillway_lake::jobs::{Checkpoint, Job as _, LakeConfig, Retain, Vacuum};
use spillway_lake::schema::TableName;
use spillway_lake::table::Table;

use super::{DAY_MS, HOUR_MS, NOON_MS, beat, rewrite_job, store, waiting};
use crate::support::Place;

fn retain(days: u32) -> Retain {
    Retain { days: [(TableName::Events, days)].into(), ..LakeConfig::default().retain() }
}

/// The real time, from a file that was just written.
fn written_ms(place: &Place) -> u64 {
    let newest =
        place.on_disk().iter().map(|path| path.metadata().and_then(|file| file.modified()).expect("time")).max();
    let age = newest.expect("a file").duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(age.as_millis()).expect("ms")
}

#[tokio::test]
async fn whole_days_go_when_their_last_moment_is_too_old() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for day in 0..4 {
        for seq in 0..2 {
            store(&log, beat(&format!("v{day}"), seq, NOON_MS + day * DAY_MS)).await;
        }
    }
    // Day 0 ends at NOON + 12 h; with 2 days of retention it goes at NOON + 60 h.
    let before = place.context(NOON_MS + 60 * HOUR_MS - 1);
    assert_eq!(retain(2).run(&before).await.expect("retain").commits, 0);
    let report = retain(2).run(&place.context(NOON_MS + 60 * HOUR_MS)).await.expect("retain");
    assert_eq!((report.commits, report.files_removed, report.rows), (1, 2, 2));
    assert_eq!(place.count("SELECT count(*) FROM events WHERE view_id = 'v0'").await, 0);
    assert_eq!(place.rows().await, 6);
    assert_eq!(retain(2).run(&place.context(NOON_MS + 60 * HOUR_MS)).await.expect("again").commits, 0);

    let report = retain(1).run(&place.context(NOON_MS + 84 * HOUR_MS)).await.expect("two days at once");
    assert_eq!((report.commits, report.rows), (1, 4));
    store(&log, beat("v9", 0, NOON_MS + 3 * DAY_MS)).await;
    assert_eq!(place.rows().await, 3);
    drop(log);
    assert_eq!(place.open("c1").await.1.committed_seq, 9, "the position outlives the rows");
}

#[tokio::test]
async fn rows_that_expired_are_told_from_rows_that_are_lost() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    store(&log, beat("v", 0, NOON_MS)).await;
    store(&log, beat("v", 1, NOON_MS + DAY_MS)).await;
    retain(1).run(&place.context(NOON_MS + 2 * DAY_MS)).await.expect("retain");
    assert_eq!(place.verified("c1").await.missing_rows, 1, "nobody said that days may go");
    let (dir, kept_from) = (place.dir.path().join("wal/c1"), [(TableName::Events, "2026-01-02".to_owned())].into());
    let wal = spillway_lake::verify::WalOf { dir: &dir, collector: "c1", kept_from: &kept_from };
    let report = spillway_lake::verify::verify(&place.root, &[wal]).await.expect("verify");
    assert_eq!((report.expired_rows, report.missing_rows, report.faults()), (1, 0, vec![]));
}

#[tokio::test]
async fn vacuum_takes_what_left_the_table_and_what_never_came_in_after_a_day() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for seq in 0..8 {
        store(&log, beat("v", seq, NOON_MS)).await;
    }
    // A crash between writing and commit.
    let table = Table::open(&place.root, TableName::Events).await.expect("table");
    log.append(beat("v", 8, NOON_MS), 100).await.expect("append");
    let rows = waiting(&place, &log).await;
    drop(table.stage(rows).await.expect("stage"));
    let now_ms = written_ms(&place);
    assert_eq!(rewrite_job().run(&place.context(now_ms)).await.expect("rewrite").files_removed, 8);
    assert_eq!(place.on_disk().len(), 10, "8 replaced, 1 never committed, 1 in the table");

    let vacuum = LakeConfig::default().vacuum();
    let early = vacuum.run(&place.context(now_ms + 23 * HOUR_MS)).await.expect("vacuum");
    assert_eq!((early.files_removed, place.on_disk().len()), (0, 10));
    let short = Vacuum { retention: Duration::ZERO, ..vacuum };
    assert_eq!(short.run(&place.context(now_ms + HOUR_MS)).await.expect("never below a day").files_removed, 0);
    let later = place.context(now_ms + 25 * HOUR_MS);
    let told = Vacuum { dry_run: true, ..vacuum }.run(&later).await.expect("dry run");
    assert_eq!((told.files_removed, place.on_disk().len()), (9, 10));
    let done = vacuum.run(&later).await.expect("vacuum");
    assert_eq!((done.files_removed, done.bytes_removed, place.on_disk().len()), (9, told.bytes_removed, 1));
    assert_eq!(vacuum.run(&later).await.expect("again").files_removed, 0);
    log.commit().await.expect("commit");
    assert_eq!((place.rows().await, place.stored(&[&log]).await), (9, 9));
}

#[tokio::test]
async fn positions_and_final_days_outlive_checkpoints_and_the_log_behind_them() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for seq in 0..6 {
        store(&log, beat("v", seq, NOON_MS)).await;
    }
    let closed = place.context(NOON_MS + 4 * DAY_MS);
    assert_eq!(rewrite_job().run(&closed).await.expect("rewrite").commits, 1);
    let now_ms = written_ms(&place);
    let job = Checkpoint { every_commits: 5, ..LakeConfig::default().checkpoint() };
    let report = job.run(&place.context(now_ms)).await.expect("checkpoint");
    assert!(report.lines[0].contains("events: checkpoint of version 7"), "{:?}", report.lines);
    assert_eq!(report.files_removed, 0, "the log stays a day");
    assert_eq!(job.run(&place.context(now_ms)).await.expect("again").lines.len(), 0);
    let report = job.run(&place.context(now_ms + 25 * HOUR_MS)).await.expect("a day later");
    assert!(report.files_removed >= 6, "{report:?}");

    drop(log);
    let (log, recovered) = place.open("c1").await;
    assert_eq!((recovered.committed_seq, recovered.replayed_rows), (6, 0));
    assert_eq!(rewrite_job().run(&closed).await.expect("still final").commits, 0);
    store(&log, beat("v", 6, NOON_MS + DAY_MS)).await;
    assert_eq!(place.rows().await, 7);
    assert_eq!(place.verified("c1").await.faults(), Vec::<String>::new());
}
