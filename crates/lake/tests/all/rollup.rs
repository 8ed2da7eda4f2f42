//! `rollup_1m`: sums that agree with the events, minute by minute.

use spillway_lake::LakeSession;
use spillway_lake::baseline::baselines;
use spillway_lake::jobs::rollup::RollupJob;
use spillway_lake::jobs::views::ViewsJob;

use crate::jobs::{DAY_MS, rewrite_job};
use crate::support::{NOW_MS, Place};
use crate::viewing::{Player, counted, on, rows, run, run_until, store, world};

const BEGUN_MS: u64 = NOW_MS + 3_600_000;

async fn whole_world() -> Place {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let events = world(BEGUN_MS, 40);
    let end_ms = events.last().expect("events").0 + 300_000;
    store(&log, events.into_iter().map(|(_, batch)| batch)).await;
    run(&place, &RollupJob, end_ms).await;
    run(&place, &ViewsJob, end_ms).await;
    place
}

#[tokio::test]
async fn its_sums_are_those_of_the_events() {
    let place = whole_world().await;
    let rollup = "SELECT sum(events), sum(watched_ms), sum(stall_count), sum(bits_played), sum(views_attempted),
                         sum(views_started), dd_count(dd_merge(startup_ms_sketch)),
                         dd_count(dd_merge(throughput_kbps_sketch)) FROM rollup_1m";
    let direct = "SELECT sum(n), sum(watched_ms), sum(stall_count), sum(bits_played), count(*), count(startup_ms),
                         count(startup_ms) AS sketched, sum(beats)
                  FROM (SELECT count(*) AS n, max(watched_ms) AS watched_ms, max(stall_count) AS stall_count,
                               max(bits_played) AS bits_played, max(startup_ms) AS startup_ms,
                               sum(CASE WHEN throughput_kbps IS NOT NULL THEN 1 ELSE 0 END) AS beats
                        FROM events GROUP BY view_id)";
    assert_eq!(rows(&place, rollup).await, rows(&place, direct).await);
    let of_views = "SELECT sum(watched_ms), sum(stall_count) FROM views";
    assert_eq!(
        rows(&place, "SELECT sum(watched_ms), sum(stall_count) FROM rollup_1m").await,
        rows(&place, of_views).await
    );
}

#[tokio::test]
async fn its_minutes_are_the_growth_of_counters_in_them() {
    let place = whole_world().await;
    let direct = "SELECT event_ms / 60000 * 60000 AS minute_ms, sum(grown) FROM (
                    SELECT event_ms, watched_ms - coalesce(lag(watched_ms) OVER (PARTITION BY view_id ORDER BY seq), 0)
                           AS grown FROM events WHERE watched_ms IS NOT NULL)
                  GROUP BY 1 ORDER BY 1";
    let rollup = "SELECT minute_ms, sum(watched_ms) FROM rollup_1m WHERE watched_ms IS NOT NULL GROUP BY 1 ORDER BY 1";
    let (found, expected) = (rows(&place, rollup).await, rows(&place, direct).await);
    assert!(expected.len() > 5, "{expected:?}");
    assert_eq!(found, expected);
}

#[tokio::test]
async fn its_windows_are_those_that_baselines_are_learned_from() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    for (view, pathway) in [("a", "cdn-a"), ("b", "cdn-b"), ("c", "cdn-a")] {
        let mut player = Player::new(view, BEGUN_MS);
        let told = (0..12_u64).map(|beat| {
            let stall_ms = if view == "c" { beat * 300 } else { 900 * (beat / 5) };
            player.tell(beat * 10_000, "heartbeat", |event| {
                event.pathway = Some(if beat > 8 { "cdn-c" } else { pathway }.into());
                event.counters = Some(counted(beat * 10_000, (beat > 0).then_some(9_000), stall_ms));
            })
        });
        store(&log, told.collect::<Vec<_>>()).await;
    }
    run(&place, &RollupJob, BEGUN_MS + 900_000).await;
    let session = LakeSession::open(&place.root, vec![]).await.expect("open");
    let learned = baselines(&session, 0, u64::MAX >> 1).await.expect("baselines");
    let expected: Vec<String> =
        learned.iter().map(|b| format!("{},{},{:.0}", b.pathway, b.windows, b.bad_rate * b.windows as f64)).collect();
    let sql =
        "SELECT pathway, sum(windows), sum(windows_bad) FROM rollup_1m GROUP BY 1 HAVING sum(windows) > 0 ORDER BY 1";
    assert_eq!(rows(&place, sql).await, expected);
    assert_eq!(expected, ["cdn-a,16,10", "cdn-b,8,2", "cdn-c,6,4"]);
}

#[tokio::test]
async fn many_runs_over_disordered_events_end_where_one_run_over_all_of_them_does() {
    let (steps, whole) = (Place::new(), Place::new());
    let ((a, _), (all, _)) = (steps.open("c1").await, whole.open("c1").await);
    let events = world(BEGUN_MS, 30);
    let end_ms = events.last().expect("events").0 + 200_000;
    store(&all, events.iter().map(|(_, batch)| batch.clone())).await;
    let mut now_ms = BEGUN_MS;
    while now_ms < end_ms {
        let due = events.iter().filter(|(at_ms, _)| (now_ms..now_ms + 60_000).contains(at_ms));
        store(&a, due.map(|(_, batch)| batch.clone())).await;
        now_ms += 60_000;
        run(&steps, &RollupJob, now_ms).await;
    }
    run(&whole, &RollupJob, now_ms).await;
    let sql = "SELECT * EXCEPT (revision, startup_ms_sketch, ttfb_ms_sketch, throughput_kbps_sketch),
                      dd_quantile(ttfb_ms_sketch, 0.5), dd_count(startup_ms_sketch), dd_quantile(throughput_kbps_sketch, 0.9)
               FROM rollup_1m ORDER BY minute_ms, pathway";
    assert_eq!(rows(&steps, sql).await, rows(&whole, sql).await);
    let rewritten = "SELECT count(DISTINCT minute_ms), count(DISTINCT revision * 10000 + minute_ms / 60000 % 10000)
                     FROM rollup_1m_committed";
    let counts = rows(&steps, rewritten).await;
    let (minutes, built) = counts[0].split_once(',').expect("two");
    assert!(built.parse::<u64>().expect("built") > minutes.parse().expect("minutes"), "late events: {counts:?}");

    // Once the day is closed, what newer revisions replaced goes for good.
    run(&steps, &rewrite_job(), now_ms + 4 * DAY_MS).await;
    assert_eq!(rows(&steps, rewritten).await, [format!("{minutes},{minutes}")]);
    assert_eq!(rows(&steps, sql).await, rows(&whole, sql).await);
}

#[tokio::test]
async fn what_happened_counts_for_the_pathway_that_did_it() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", BEGUN_MS);
    let mut told = vec![player.tell(0, "view_start", |_| ())];
    for beat in 1..=3_u64 {
        told.push(player.tell(beat * 10_000, "heartbeat", |event| {
            event.counters = Some(counted(beat * 10_000, Some(500), beat * 100));
            event.pathways = [on("cdn-a", beat * 3, 0), on("cdn-b", 1, beat * 100)].into();
        }));
    }
    store(&log, told).await;
    run(&place, &RollupJob, BEGUN_MS + 600_000).await;
    let sql = "SELECT pathway, sum(watched_ms), sum(stall_ms), sum(requests_ok), sum(bytes), sum(ttfb_sum_ms),
                      sum(requests_late), dd_count(dd_merge(ttfb_ms_sketch)) FROM rollup_1m GROUP BY 1 ORDER BY 1";
    let expected = ["cdn-a,30000,0,9,9000000,360,,9", "cdn-b,,300,1,1000000,40,,1"];
    assert_eq!(rows(&place, sql).await, expected);
}

#[tokio::test]
async fn a_minute_waits_until_it_is_settled_and_a_rerun_does_nothing() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let begun_ms = BEGUN_MS;
    let mut player = Player::new("v", begun_ms);
    let told: Vec<_> = (0..=6)
        .map(|beat| {
            player.tell(beat * 10_000, "heartbeat", |event| event.counters = Some(counted(beat * 10_000, None, 0)))
        })
        .collect();
    store(&log, told).await;
    assert_eq!(run(&place, &RollupJob, begun_ms + 149_999).await, 0);
    assert_eq!(run(&place, &RollupJob, begun_ms + 150_000).await, 1);
    assert_eq!(run(&place, &RollupJob, begun_ms + 150_000).await, 0);
    assert_eq!(run(&place, &RollupJob, begun_ms + 210_000).await, 1);
    assert_eq!(rows(&place, "SELECT sum(watched_ms), sum(events) FROM rollup_1m").await, ["60000,7"]);
}

#[tokio::test]
async fn a_crash_between_staging_and_commit_loses_and_doubles_nothing() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", BEGUN_MS);
    store(&log, [player.tell(10_000, "heartbeat", |event| event.counters = Some(counted(10_000, None, 0)))]).await;
    assert!(run_until(&place, &RollupJob, BEGUN_MS + 600_000, 1).await.is_err());
    assert_eq!(rows(&place, "SELECT count(*) FROM rollup_1m_committed").await, ["0"]);
    assert_eq!(run(&place, &RollupJob, BEGUN_MS + 600_000).await, 1);
    assert_eq!(rows(&place, "SELECT count(*), sum(watched_ms) FROM rollup_1m_committed").await, ["1,10000"]);
}
