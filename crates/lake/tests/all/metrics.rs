//! Metrics against worked examples.

use spillway_lake::LakeSession;
use spillway_lake::jobs::rollup::RollupJob;
use spillway_lake::jobs::views::ViewsJob;
use spillway_lake::metrics::DEFINITIONS;
use spillway_wire::beacon::{Counters, PathwayCounters, Request};

use crate::support::{NOW_MS, Place};
use crate::viewing::{Player, rows, run, store};

const BEGUN_MS: u64 = NOW_MS + 3_600_000;

#[tokio::test]
async fn bitrate_is_weighted_by_time_and_requests_by_their_size_and_number() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", BEGUN_MS);
    let mut told = vec![player.tell(0, "view_start", |_| ())];
    // 40 Mbit in 4 s, 2 s and 2 s: 15 Mbit/s.
    for ttlb_ms in [4_000, 2_000, 2_000] {
        let request = Request {
            status: Some(200),
            bytes: Some(5_000_000),
            ttlb_ms: Some(ttlb_ms),
            pathway: Some("cdn-a".into()),
            ..Request::default()
        };
        told.push(player.tell(9_000, "segment", |event| event.request = Some(request)));
    }
    // One minute at 1 Mbit/s and two at 2: 1.67. Times to first byte 100, 200, 100, 75 and 150 ms: 125.
    for (minute, bits, requests, ttfb_sum_ms) in
        [(1, 60_000_000, 2, 300), (2, 180_000_000, 4, 475), (3, 300_000_000, 5, 625)]
    {
        told.push(player.tell(minute * 60_000, "heartbeat", |event| {
            event.counters = Some(Counters {
                watched_ms: Some(minute * 60_000),
                playing_ms: Some(minute * 60_000),
                bits_played: Some(bits),
                ..Counters::default()
            });
            let counters = PathwayCounters {
                requests_ok: Some(requests),
                ttfb_sum_ms: Some(ttfb_sum_ms),
                playing_ms: Some(minute * 60_000),
                ..PathwayCounters::default()
            };
            event.pathways = [("cdn-a".to_owned(), counters)].into();
        }));
    }
    store(&log, told).await;
    run(&place, &RollupJob, BEGUN_MS + 900_000).await;
    run(&place, &ViewsJob, BEGUN_MS + 900_000).await;
    let sql = "SELECT round(avg_bitrate_kbps, 2), request_throughput_kbps, request_latency_ms, rebuffer_pct IS NULL
               FROM metrics_day_pathway WHERE dt = '2026-01-01' AND pathway = 'cdn-a'";
    assert_eq!(rows(&place, sql).await, ["1666.67,15000.0,125.0,true"]);
    assert_eq!(rows(&place, "SELECT round(avg_bitrate_kbps, 2) FROM view_metrics_day").await, ["1666.67"]);
}

#[tokio::test]
async fn scores_are_those_of_the_worked_examples() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    // View, start-up, stalls, stalled, watched.
    let examples = [
        ("a", 400, 1, 5_000, 305_000),
        ("b", 2_000, 4, 60_000, 1_260_000),
        ("c", 8_000, 0, 0, 100_000),
        ("d", 20_000, 0, 0, 100_000),
    ];
    for (view, startup_ms, stall_count, stall_ms, watched_ms) in examples {
        let mut player = Player::new(view, BEGUN_MS);
        let counters = Counters {
            startup_ms: Some(startup_ms),
            stall_count: Some(stall_count),
            stall_ms: Some(stall_ms),
            watched_ms: Some(watched_ms),
            ..Counters::default()
        };
        store(&log, [player.tell(watched_ms, "view_end", |event| event.counters = Some(counters))]).await;
    }
    for (view, watched_ms) in [("e", 999), ("f", 1_000)] {
        let counters = Counters { watched_ms: Some(watched_ms), ..Counters::default() };
        let mut player = Player::new(view, BEGUN_MS);
        store(&log, [player.tell(watched_ms, "view_end", |event| event.counters = Some(counters))]).await;
    }
    run(&place, &ViewsJob, BEGUN_MS + 2_000_000).await;
    let sql = "SELECT view_id, round(startup_score, 2), round(smoothness_score, 2), success_score, good_view,
                      round(experience_score, 2) FROM view_scores ORDER BY 1";
    let expected = [
        "a,95.24,87.16,100.0,true,91.11",
        "b,80.0,53.42,100.0,false,65.37",
        "c,50.0,100.0,100.0,true,70.71",
        "d,28.57,100.0,100.0,false,53.45",
        "e,,,,,",
        "f,,,50.0,,50.0",
    ];
    assert_eq!(rows(&place, sql).await, expected);
    let sql = "SELECT views, good_view_pct, round(rebuffer_pct, 4), round(exit_before_start_pct, 2), stalls_per_view
               FROM view_metrics_day";
    // 65 s of 1765 s: a ratio of sums; two of four that can be judged are good; nulls are in no mean.
    assert_eq!(rows(&place, sql).await, ["6,50.0,3.6827,33.33,1.25"]);
}

#[tokio::test]
async fn qoe_lin_is_that_of_the_worked_example() {
    let place = Place::new();
    let (log, _) = place.open("c1").await;
    let mut player = Player::new("v", BEGUN_MS);
    let steps = [(750, 0), (750, 0), (1_850, 500), (1_850, 500)];
    let told: Vec<_> = steps
        .into_iter()
        .zip(1_u64..)
        .map(|((kbps, stall_ms), step)| {
            player.tell(step * 10_000, "heartbeat", |event| {
                event.bitrate_kbps = Some(kbps);
                event.counters = Some(Counters { stall_ms: Some(stall_ms), ..Counters::default() });
            })
        })
        .collect();
    store(&log, told).await;
    let sql = "SELECT view_id, steps, round(qoe_lin, 6) FROM view_qoe_lin";
    assert_eq!(rows(&place, sql).await, ["v,4,1.95"]);
}

#[tokio::test]
async fn every_definition_has_its_column_and_every_percentage_its_definition() {
    let place = Place::new();
    let session = LakeSession::open(&place.root, vec![]).await.expect("open");
    let views = ["metrics_minute_pathway", "view_metrics_day_pathway", "view_scores", "view_qoe_lin"];
    let mut columns = Vec::new();
    for view in views {
        let sql = format!("SELECT column_name FROM information_schema.columns WHERE table_name = '{view}'");
        columns.extend(rows(&place, &sql).await);
    }
    for definition in DEFINITIONS {
        assert!(columns.iter().any(|column| column == definition.metric), "{}", definition.metric);
    }
    for column in columns.iter().filter(|column| column.ends_with("_pct") || column.ends_with("_score")) {
        assert!(DEFINITIONS.iter().any(|definition| definition.metric == column), "{column}");
    }
    let listed = session.count("SELECT count(*) FROM metric_definitions").await.expect("count");
    assert_eq!(listed, DEFINITIONS.len() as u64);
}
