//! Privacy requests.

use std::time::UNIX_EPOCH;

use spillway_lake::EventLog;
use spillway_lake::events::EventBatch;
use spillway_lake::jobs::{Job as _, Subject, forget, vacuum_replaced};
use spillway_lake::schema::TableName;
use spillway_lake::table::Table;

use super::{DAY_MS, NOON_MS, beat, rewrite_job, store, waiting};
use crate::support::Place;

fn of_session(session: &str, view: &str, seq: u64) -> EventBatch {
    let mut batch = beat(view, seq, NOON_MS);
    batch.ctx.session_id = Some(session.into());
    batch
}

/// Views `v1` and `v2` of session `s`, `w` of session `t`, `x` of none; several in each commit.
async fn fill(log: &EventLog) {
    for seq in 0..3 {
        for (session, view) in [("s", "v1"), ("s", "v2"), ("t", "w")] {
            log.append(of_session(session, view, seq), 100).await.expect("append");
        }
        store(log, beat("x", seq, NOON_MS)).await;
    }
}

#[tokio::test]
async fn a_view_is_forgotten_and_nothing_else() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    fill(&log).await;
    let context = place.context(NOON_MS);
    let done = forget(&context, &Subject::View("v1".into()), None).await.expect("forget");
    assert_eq!((done.rows["events"], done.views, done.files), (3, 1, 3));
    assert_eq!(place.count("SELECT count(*) FROM events WHERE view_id = 'v1'").await, 0);
    assert_eq!(place.rows().await, 9);
    let again = forget(&context, &Subject::View("v1".into()), None).await.expect("again");
    assert_eq!((again.rows["events"], again.files), (0, 0));
    let report = place.verified("c1").await;
    assert_eq!((report.forgotten_rows, report.missing_rows, report.faults()), (3, 0, vec![]));
    assert_eq!(forget(&context, &Subject::View("o'brien".into()), None).await.expect("any text").rows["events"], 0);
}

#[tokio::test]
async fn a_session_is_forgotten_with_all_its_views_in_its_property() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    fill(&log).await;
    // The session's view without the session's id, as a CMCD target would tell it.
    store(&log, beat("v2", 7, NOON_MS)).await;
    let other = EventBatch { property: "other".into(), ..of_session("s", "y", 0) };
    store(&log, other).await;
    let context = place.context(NOON_MS);
    let done = forget(&context, &Subject::Session("s".into()), Some("demo")).await.expect("forget");
    assert_eq!((done.rows["events"], done.views), (7, 2));
    assert_eq!(place.rows().await, 7);
    let done = forget(&context, &Subject::Session("s".into()), None).await.expect("forget");
    assert_eq!((done.rows["events"], done.views), (1, 1));
    assert_eq!(place.count("SELECT count(*) FROM events WHERE view_id IN ('w', 'x')").await, 6);
}

#[tokio::test]
async fn what_is_left_of_a_final_day_is_final() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    fill(&log).await;
    let closed = place.context(NOON_MS + 4 * DAY_MS);
    assert_eq!(rewrite_job().run(&closed).await.expect("rewrite").commits, 1);
    assert_eq!(forget(&closed, &Subject::View("v1".into()), None).await.expect("forget").rows["events"], 3);
    assert_eq!(rewrite_job().run(&closed).await.expect("nothing to do").commits, 0);
}

#[tokio::test]
async fn rows_go_from_the_disk_at_once_and_a_commit_under_way_is_not_touched() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    fill(&log).await;
    log.append(beat("x", 3, NOON_MS), 100).await.expect("append");
    let mut table = Table::open(&place.root, TableName::Events).await.expect("table");
    let rows = waiting(&place, &log).await;
    let staged = table.stage(rows).await.expect("stage");
    let newest =
        place.on_disk().iter().map(|path| path.metadata().and_then(|file| file.modified()).expect("time")).max();
    let now = newest.expect("a file").duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let context = place.context(u64::try_from(now).expect("ms"));
    forget(&context, &Subject::View("v1".into()), None).await.expect("forget");
    let before = place.on_disk().len();
    assert_eq!(vacuum_replaced(&context).await.expect("vacuum").files_removed, 3);
    assert_eq!(place.on_disk().len(), before - 3);
    table.finish(staged, "c1", log.tail().stats().wal_seq).await.expect("finish");
    assert_eq!(place.rows().await, 10);
}

#[tokio::test]
async fn collectors_go_on_committing_while_a_view_is_forgotten() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    fill(&log).await;
    let appending = async {
        for seq in 3..15 {
            log.append(beat("x", seq, NOON_MS), 100).await.expect("append");
            // A commit that loses the race against the deletion leaves its rows in the WAL, for the next.
            let _ = log.commit().await;
        }
        while log.commit().await.expect("commit").more {}
    };
    let context = place.context(NOON_MS);
    let subject = Subject::View("v2".into());
    let (done, ()) = tokio::join!(forget(&context, &subject, None), appending);
    assert_eq!(done.expect("forget").rows["events"], 3);
    assert_eq!(place.rows().await, 21);
    assert_eq!(place.verified("c1").await.faults(), Vec::<String>::new());
}
