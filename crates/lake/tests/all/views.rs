//! `views`: one row per closed view, exactly once.

use spillway_lake::jobs::views::ViewsJob;
use spillway_wire::beacon::{Counters, Failure};

use crate::jobs::{DAY_MS, rewrite_job};
use crate::support::{NOW_MS, Place};
use crate::viewing::{Player, counted, on, rows, run, run_until, store, world};

const BEGUN_MS: u64 = NOW_MS + 3_600_000;

fn heartbeats(player: &mut Player, offsets_s: std::ops::RangeInclusive<u64>) -> Vec<spillway_lake::events::EventBatch> {
    offsets_s
        .step_by(10)
        .map(|s| player.tell(s * 1_000, "heartbeat", |event| event.counters = Some(counted(s * 1_000, Some(700), 0))))
        .collect()
}

#[tokio::test]
async fn a_view_that_ends_is_a_row_with_its_counters_and_its_pathways() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", BEGUN_MS);
    player.sample_rate = Some(0.25);
    let mut told = vec![player.tell(0, "view_start", |_| ())];
    told.extend(heartbeats(&mut player, 10..=30));
    told.push(player.tell(35_000, "heartbeat", |event| {
        event.counters = Some(counted(35_000, Some(700), 700));
        event.pathway = Some("cdn-b".into());
        event.pathways = [on("cdn-a", 6, 0), on("cdn-b", 2, 700)].into();
    }));
    told.push(player.tell(36_000, "view_end", |event| event.reason = Some("ended".into())));
    store(&log, told).await;
    assert_eq!(run(&place, &ViewsJob, BEGUN_MS + 37_000).await, 1);
    let sql = "SELECT view_id, dt, revision, started_ms, ended_ms - started_ms, ended_cleanly, end_reason, started,
                      good_view, watched_ms, stall_ms, startup_ms, weight, first_pathway, last_pathway,
                      pathway_switches, events, seq_min, seq_max, seq_missing, region, asn, device_class FROM views";
    let expected = format!(
        "v,2026-01-01,1,{BEGUN_MS},36000,true,ended,true,true,35000,700,700,4.0,cdn-a,cdn-a,2,6,0,5,0,eu-a,64500,tv"
    );
    assert_eq!(rows(&place, sql).await, [expected]);
    let paths = "SELECT p['pathway'], p['requests_ok'], p['stall_ms'], p['requests_late'] IS NULL
                 FROM (SELECT unnest(pathways) AS p FROM views) ORDER BY 1";
    assert_eq!(rows(&place, paths).await, ["cdn-a,6,0,true", "cdn-b,2,700,true"]);
}

#[tokio::test]
async fn a_silent_view_closes_after_ninety_seconds_and_not_before() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", BEGUN_MS);
    store(&log, heartbeats(&mut player, 0..=20)).await;
    let last_received_ms = BEGUN_MS + 20_050;
    assert_eq!(run(&place, &ViewsJob, last_received_ms + 89_999).await, 0);
    assert_eq!(run(&place, &ViewsJob, last_received_ms + 90_000).await, 1, "nothing new came, and it closes");
    let sql = "SELECT ended_cleanly, end_reason, events FROM views";
    assert_eq!(rows(&place, sql).await, ["false,silence,3"]);
    assert_eq!(run(&place, &ViewsJob, last_received_ms + 190_000).await, 0);
}

#[tokio::test]
async fn late_events_reopen_a_view_and_readers_see_one_row() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let (mut player, mut other) = (Player::new("v", BEGUN_MS), Player::new("w", BEGUN_MS));
    store(&log, heartbeats(&mut player, 0..=20)).await;
    store(&log, heartbeats(&mut other, 0..=20)).await;
    assert_eq!(run(&place, &ViewsJob, BEGUN_MS + 200_000).await, 2);
    // Five hours later the device is online again.
    let mut late = heartbeats(&mut player, 30..=50);
    late.push(player.tell(55_000, "view_end", |event| event.reason = Some("abort".into())));
    late.iter_mut().for_each(|batch| batch.received_ms += 5 * 3_600_000);
    store(&log, late).await;
    assert_eq!(run(&place, &ViewsJob, BEGUN_MS + 5 * 3_600_000 + 60_000).await, 1);
    let sql = "SELECT view_id, revision, end_reason, watched_ms, events FROM views ORDER BY 1";
    assert_eq!(rows(&place, sql).await, ["v,2,abort,50000,7", "w,1,silence,20000,3"]);
    assert_eq!(rows(&place, "SELECT count(*) FROM views_committed").await, ["3"]);
    assert_eq!(rows(&place, "SELECT revision FROM views WHERE dt = '2026-01-01' AND view_id = 'v'").await, ["2"]);
    // Once the day is closed, the first revision goes for good.
    run(&place, &rewrite_job(), BEGUN_MS + 4 * DAY_MS).await;
    assert_eq!(rows(&place, "SELECT count(*) FROM views_committed").await, ["2"]);
    assert_eq!(rows(&place, sql).await, ["v,2,abort,50000,7", "w,1,silence,20000,3"]);
}

#[tokio::test]
async fn the_same_event_twice_is_one_event_and_no_new_revision() {
    let place = Place::new();
    let ((a, _), (b, _)) = (place.open("c1").await, place.open("c2").await);
    let mut player = Player::new("v", BEGUN_MS);
    let mut told = heartbeats(&mut player, 0..=20);
    told.push(player.tell(21_000, "view_end", |_| ()));
    store(&a, told.clone()).await;
    store(&b, told[1..3].to_vec()).await;
    assert_eq!(run(&place, &ViewsJob, BEGUN_MS + 30_000).await, 1);
    let again = told.into_iter().map(|mut batch| {
        batch.received_ms += 40_000;
        batch
    });
    store(&b, again).await;
    assert_eq!(run(&place, &ViewsJob, BEGUN_MS + 80_000).await, 0, "nothing that was not known");
    assert_eq!(rows(&place, "SELECT events, seq_missing, revision FROM views").await, ["4,0,1"]);
}

#[tokio::test]
async fn what_nobody_told_is_null_and_what_was_told_is_zero() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let (mut silent, mut zero) = (Player::new("a", BEGUN_MS), Player::new("b", BEGUN_MS));
    let counters = Counters { stall_ms: Some(0), watched_ms: Some(500), ..Counters::default() };
    store(&log, [silent.tell(0, "view_start", |event| event.pathway = None), silent.tell(5, "view_end", |_| ())]).await;
    store(&log, [zero.tell(500, "view_end", |event| event.counters = Some(counters))]).await;
    run(&place, &ViewsJob, BEGUN_MS + 1_000).await;
    let sql = "SELECT view_id, stall_ms IS NULL, stall_ms, watched_ms, startup_ms IS NULL, pathways IS NULL,
                      good_view IS NULL, exit_before_start FROM views ORDER BY 1";
    assert_eq!(rows(&place, sql).await, ["a,true,,,true,true,true,true", "b,false,0,500,true,true,true,true"]);
}

#[tokio::test]
async fn errors_tell_failures_from_exits() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for (view, started, class) in [("a", false, "path"), ("b", true, "drm"), ("c", false, "entitlement")] {
        let mut player = Player::new(view, BEGUN_MS);
        let failure =
            Failure { severity: "fatal".into(), class: class.into(), status: Some(503), ..Failure::default() };
        let startup_ms = started.then_some(400);
        let told = player.tell(2_000, "error", |event| {
            event.error = Some(failure);
            event.counters = Some(Counters { startup_ms, ..Counters::default() });
        });
        store(&log, [told]).await;
    }
    run(&place, &ViewsJob, BEGUN_MS + 200_000).await;
    let sql = "SELECT view_id, start_failure, fatal_error, exit_before_start, good_view, error_class, error_status
               FROM views ORDER BY 1";
    let expected = ["a,true,true,false,false,path,503", "b,false,true,false,false,drm,503"];
    assert_eq!(rows(&place, sql).await[..2], expected);
    let sql = "SELECT round(start_failure_pct, 2), round(playback_failure_pct, 2), round(business_exception_pct, 2)
               FROM view_metrics_day";
    assert_eq!(rows(&place, sql).await, ["33.33,66.67,33.33"]);
}

#[tokio::test]
async fn a_view_across_midnight_is_one_row_of_the_day_in_which_it_began() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", NOW_MS - 25_000);
    store(&log, heartbeats(&mut player, 0..=40)).await;
    assert_eq!(rows(&place, "SELECT count(DISTINCT dt) FROM events").await, ["2"]);
    run(&place, &ViewsJob, NOW_MS + 200_000).await;
    assert_eq!(rows(&place, "SELECT dt, watched_ms, events FROM views").await, ["2025-12-31,40000,5"]);
    // A late first event moves the begin by nothing: the monotonic clock told it already.
    let mut late = player.tell(45_000, "view_end", |_| ());
    late.received_ms += 250_000;
    store(&log, [late]).await;
    run(&place, &ViewsJob, NOW_MS + 300_000).await;
    assert_eq!(rows(&place, "SELECT dt, revision, events FROM views").await, ["2025-12-31,2,6"]);
}

#[tokio::test]
async fn a_view_that_moved_between_collectors_is_one_row() {
    let place = Place::new();
    let ((a, _), (b, _)) = (place.open("c1").await, place.open("c2").await);
    let mut player = Player::new("v", BEGUN_MS);
    let told = heartbeats(&mut player, 0..=50);
    store(&a, told[..3].to_vec()).await;
    store(&b, told[4..].to_vec()).await;
    run(&place, &ViewsJob, BEGUN_MS + 200_000).await;
    let sql = "SELECT events, seq_min, seq_max, seq_missing, watched_ms FROM views";
    assert_eq!(rows(&place, sql).await, ["5,0,5,1,50000"]);
}

#[tokio::test]
async fn a_crash_between_staging_and_commit_loses_and_doubles_nothing() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", BEGUN_MS);
    store(&log, heartbeats(&mut player, 0..=20)).await;
    let (now_ms, files) = (BEGUN_MS + 200_000, place.dir.path().join("lake/views/dt=2026-01-01"));
    let error = run_until(&place, &ViewsJob, now_ms, 1).await.expect_err("interrupted");
    assert!(error.to_string().contains("nothing of it was committed"), "{error}");
    assert_eq!(std::fs::read_dir(&files).expect("dir").count(), 1, "the file is there and nobody names it");
    assert_eq!(rows(&place, "SELECT count(*) FROM views_committed").await, ["0"]);
    assert_eq!(run(&place, &ViewsJob, now_ms).await, 1);
    assert_eq!(run(&place, &ViewsJob, now_ms).await, 0, "again at once: nothing to do");
    assert_eq!(rows(&place, "SELECT revision, events FROM views_committed").await, ["1,3"]);
}

#[tokio::test]
async fn of_two_runs_at_once_one_commits() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", BEGUN_MS);
    store(&log, heartbeats(&mut player, 0..=20)).await;
    run(&place, &ViewsJob, BEGUN_MS).await;
    let now_ms = BEGUN_MS + 200_000;
    let (a, b) = tokio::join!(run_until(&place, &ViewsJob, now_ms, 9), run_until(&place, &ViewsJob, now_ms + 1, 9));
    assert!(a.is_ok() || b.is_ok());
    assert_eq!(rows(&place, "SELECT revision FROM views_committed").await, ["1"]);
    assert_eq!(run(&place, &ViewsJob, now_ms + 5_000).await, 0);
}

#[tokio::test]
async fn many_runs_over_disordered_events_end_where_one_run_over_all_of_them_does() {
    let (steps, whole) = (Place::new(), Place::new());
    let ((a, _), (b, _), (all, _)) = (steps.open("c1").await, steps.open("c2").await, whole.open("c1").await);
    let events = world(BEGUN_MS, 30);
    let end_ms = events.last().expect("events").0 + 200_000;
    store(&all, events.iter().map(|(_, batch)| batch.clone())).await;
    let mut now_ms = BEGUN_MS;
    while now_ms < end_ms {
        let step = |parity| {
            let due = events.iter().enumerate().filter(move |(at, _)| at % 2 == parity);
            due.filter(|(_, (at_ms, _))| (now_ms..now_ms + 60_000).contains(at_ms)).map(|(_, (_, batch))| batch.clone())
        };
        store(&a, step(0)).await;
        store(&b, step(1)).await;
        now_ms += 60_000;
        run(&steps, &ViewsJob, now_ms).await;
    }
    assert_eq!(run(&whole, &ViewsJob, now_ms).await, 30);
    let sql = "SELECT * EXCEPT (revision, built_ms) FROM views ORDER BY view_id";
    let (stepwise, at_once) = (rows(&steps, sql).await, rows(&whole, sql).await);
    assert_eq!(stepwise, at_once);
    let superseded: u64 = rows(&steps, "SELECT count(*) FROM views_committed").await[0].parse().expect("number");
    assert!(superseded > 30, "some views were reopened: {superseded} rows");
}
