//! Frames of real posted beacons.

use std::sync::Arc;

use serde_json::{Value, json};
use spillway_wire::frame::{Cell, Frame};

use crate::support::{Hand, Running, beacon, config, event, of, start, start_with};

/// Counters of the view and of `cdn-a`.
fn counters(watched_ms: u64, stall_ms: u64) -> Value {
    json!({
        "pathway": "cdn-a",
        "counters": {"watched_ms": watched_ms, "stall_ms": stall_ms, "startup_ms": 400, "playing_ms": watched_ms - stall_ms},
        "pathways": {"cdn-a": {
            "requests_ok": watched_ms / 1_000, "bytes": watched_ms, "ttfb_sum_ms": watched_ms / 100,
            "playing_ms": watched_ms - stall_ms, "stall_ms": stall_ms
        }}
    })
}

async fn send(running: &Running, view: &str, events: Vec<Value>) {
    let (status, body) = running.post(beacon(view, Value::Array(events))).await;
    assert_eq!((status, &body["rejected"]), (202, &json!([])), "{body}");
}

fn cell<'a>(frame: &'a Frame, pathway: &str) -> &'a Cell {
    of(frame, pathway).unwrap_or_else(|| panic!("no cell of {pathway}: {frame:?}"))
}

async fn begun(view: &str) -> (tempfile::TempDir, Running) {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    send(&running, view, vec![event("view_start", 0, json!({"state": "starting"}))]).await;
    send(&running, view, vec![event("heartbeat", 1, counters(10_000, 0))]).await;
    running.frame().await;
    (dir, running)
}

#[tokio::test]
async fn counters_become_growth_and_heartbeats_become_windows() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    send(&running, "v", vec![event("view_start", 0, json!({})), event("heartbeat", 1, counters(10_000, 0))]).await;
    let frame = running.frame().await;
    assert_eq!((frame.v, frame.kind.as_str(), frame.source.as_str()), (1, "collector", "collector-1"));
    let first = cell(&frame, "cdn-a");
    assert_eq!((first.key.region.as_str(), first.key.asn, first.key.protocol.as_str()), ("eu-a", Some(64_500), "hls"));
    assert_eq!((first.views_new, first.views_active, first.windows, first.bad_windows()), (1, 1, 1, 0));
    assert_eq!((first.requests_ok, first.bits, first.playing_ms), (10, 80_000, 10_000));
    assert_eq!((first.weight_milli, first.bad_weight_milli, first.weight_sq_micro), (1_000, 0, 1_000_000));
    assert_eq!((first.heartbeats_due, first.heartbeats_received), (1, 1));
    assert_eq!(first.ttfb_sketch.values().sum::<u64>(), 10);
    assert_eq!((frame.content[0].content.as_str(), frame.content[0].views_active), ("live/river", 1));
    // The same counters again, and a lost beacon between: only what grew counts.
    send(&running, "v", vec![event("heartbeat", 2, counters(10_000, 0)), event("heartbeat", 9, counters(25_000, 0))])
        .await;
    let next = running.frame().await;
    let grown = cell(&next, "cdn-a");
    assert!(next.seq > frame.seq);
    assert_eq!((grown.views_new, grown.requests_ok, grown.bits, grown.windows), (0, 15, 120_000, 1));
    running.stop().await;
}

#[tokio::test]
async fn a_view_first_seen_in_its_middle_sets_the_base_and_is_not_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    send(&running, "v", vec![event("heartbeat", 50, counters(500_000, 90_000))]).await;
    let first = running.frame().await;
    let base = cell(&first, "cdn-a");
    assert_eq!((base.views_active, base.views_new, base.windows, base.bits, base.stall_ms), (1, 0, 0, 0, 0));
    send(&running, "v", vec![event("heartbeat", 51, counters(510_000, 90_000))]).await;
    let next = running.frame().await;
    assert_eq!((cell(&next, "cdn-a").windows, cell(&next, "cdn-a").bits), (1, 80_000));
    running.stop().await;
}

#[tokio::test]
async fn more_than_2_percent_of_stall_is_a_bad_window_and_less_is_not() {
    let (_dir, mut running) = begun("v").await;
    send(&running, "v", vec![event("heartbeat", 2, counters(20_000, 200))]).await;
    let good = running.frame().await;
    assert_eq!((cell(&good, "cdn-a").windows, cell(&good, "cdn-a").bad_windows()), (1, 0));
    send(&running, "v", vec![event("heartbeat", 3, counters(30_000, 401))]).await;
    let bad = running.frame().await;
    assert_eq!(cell(&bad, "cdn-a").bad["stall"], 1);
    assert_eq!((cell(&bad, "cdn-a").bad_weight_milli, cell(&bad, "cdn-a").stall_ms), (1_000, 201));
    running.stop().await;
}

#[tokio::test]
async fn a_stall_belongs_to_the_pathway_that_had_it() {
    let (_dir, mut running) = begun("v").await;
    // Audio still comes from b: the stall is b's by the counters, though a serves.
    let mut more = counters(20_000, 0);
    more["counters"]["stall_ms"] = json!(3_000);
    more["pathways"]["cdn-b"] = json!({"stall_ms": 3_000});
    send(&running, "v", vec![event("heartbeat", 2, more)]).await;
    let frame = running.frame().await;
    assert_eq!(cell(&frame, "cdn-b").bad["stall"], 1);
    assert_eq!(cell(&frame, "cdn-a").windows, 0);
    running.stop().await;
}

#[tokio::test]
async fn a_switch_closes_the_old_pathways_window_and_the_next_one_is_left_out() {
    let (_dir, mut running) = begun("v").await;
    let mut switch = counters(15_000, 4_000);
    switch["from"] = json!("cdn-a");
    switch["to"] = json!("cdn-b");
    switch["pathway"] = json!("cdn-b");
    send(&running, "v", vec![event("pathway_switch", 2, switch)]).await;
    let frame = running.frame().await;
    assert_eq!(cell(&frame, "cdn-a").bad["stall"], 1, "what made it leave is the old pathway's");
    assert_eq!(cell(&frame, "cdn-b").views_active, 1);

    let on_b = |watched: u64, stall: u64| {
        let mut more = counters(watched, stall);
        more["pathway"] = json!("cdn-b");
        more["pathways"] = json!({"cdn-b": {"stall_ms": stall - 4_000, "requests_ok": watched / 1_000}});
        more
    };
    send(&running, "v", vec![event("heartbeat", 3, on_b(25_000, 6_000))]).await;
    let first = running.frame().await;
    let left_out = cell(&first, "cdn-b");
    assert_eq!((left_out.windows, left_out.windows_left_out, left_out.bad_windows()), (0, 1, 0));
    send(&running, "v", vec![event("heartbeat", 4, on_b(35_000, 6_000))]).await;
    let second = running.frame().await;
    assert_eq!((cell(&second, "cdn-b").windows, cell(&second, "cdn-b").windows_left_out), (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn failed_and_late_requests_count_at_once_once_and_also_after_a_switch() {
    let (_dir, mut running) = begun("v").await;
    send(&running, "v", vec![event("pathway_switch", 2, json!({"to": "cdn-b", "pathway": "cdn-b"}))]).await;
    let segment = |seq: u64, pathway: &str, more: Value| {
        let mut request = json!({"pathway": pathway});
        request.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        event("segment", seq, json!({"request": request, "pathway": "cdn-b"}))
    };
    let mut counted = segment(3, "cdn-b", json!({"status": 503}));
    counted["pathways"] = json!({"cdn-b": {"requests_failed": 1}});
    send(
        &running,
        "v",
        vec![
            counted,
            segment(4, "cdn-b", json!({"status": 0})),
            segment(5, "cdn-a", json!({"late": true, "ttlb_ms": 4_100})),
            segment(6, "cdn-b", json!({"status": 403})),
            segment(7, "cdn-b", json!({"status": 200})),
        ],
    )
    .await;
    let frame = running.frame().await;
    let (a, b) = (cell(&frame, "cdn-a"), cell(&frame, "cdn-b"));
    assert_eq!((b.requests_failed, b.views_failing, b.requests_late), (2, 1, 0), "a 403 says nothing of the path");
    assert_eq!((a.requests_late, a.views_late, a.requests_failed), (1, 1, 0));
    // The counter that a heartbeat brings holds the same requests, the 403 among them.
    let more =
        json!({"pathway": "cdn-b", "pathways": {"cdn-b": {"requests_failed": 3}, "cdn-a": {"requests_late": 1}}});
    send(&running, "v", vec![event("heartbeat", 8, more)]).await;
    let next = running.frame().await;
    assert_eq!((cell(&next, "cdn-b").requests_failed, cell(&next, "cdn-b").views_failing), (0, 0));
    running.stop().await;
}

#[tokio::test]
async fn only_fatal_errors_of_the_path_are_bad_windows() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    let error = |seq: u64, severity: &str, class: &str| {
        let error = json!({"severity": severity, "class": class, "code": "x"});
        event("error", seq, json!({"pathway": "cdn-a", "error": error, "state": "failed"}))
    };
    for (view, severity, class) in [("v1", "fatal", "path"), ("v2", "fatal", "drm"), ("v3", "warning", "path")] {
        send(&running, view, vec![event("view_start", 0, json!({"pathway": "cdn-a"})), error(1, severity, class)])
            .await;
    }
    let begin =
        vec![event("view_start", 0, json!({})), event("first_frame", 1, counters(900, 0)), error(2, "fatal", "path")];
    send(&running, "v4", begin).await;
    let frame = running.frame().await;
    let found = cell(&frame, "cdn-a");
    assert_eq!((found.bad["start_failure"], found.bad["fatal_error"], found.windows), (1, 1, 2));
    assert_eq!((found.views_active, found.views_new), (1, 4), "a warning ends nobody's view");
    assert_eq!(found.views_bad, 2, "also of those that are over");
    running.stop().await;
}

#[tokio::test]
async fn a_start_above_8_s_is_bad_once() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    let starting = json!({"pathway": "cdn-a", "state": "starting", "counters": {"watched_ms": 9_000, "stall_ms": 0}});
    send(&running, "v", vec![event("view_start", 0, json!({})), event("heartbeat", 1, starting)]).await;
    let frame = running.frame().await;
    assert_eq!(cell(&frame, "cdn-a").bad["slow_start"], 1);
    let mut started = counters(19_000, 0);
    started["counters"]["startup_ms"] = json!(12_000);
    send(&running, "v", vec![event("heartbeat", 2, started)]).await;
    let next = running.frame().await;
    assert_eq!((cell(&next, "cdn-a").windows, cell(&next, "cdn-a").bad_windows()), (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn silence_is_a_bad_window_once_and_then_the_view_is_closed() {
    let (_dir, mut running) = begun("v").await;
    running.clock.advance_ms(16_000);
    let missing = running.frame().await;
    assert_eq!((cell(&missing, "cdn-a").heartbeats_due, cell(&missing, "cdn-a").heartbeats_received), (1, 0));
    assert_eq!(cell(&missing, "cdn-a").views_active, 1);
    running.clock.advance_ms(10_000);
    let silent = running.frame().await;
    assert_eq!((cell(&silent, "cdn-a").bad["silence"], cell(&silent, "cdn-a").views_active), (1, 0));
    running.clock.advance_ms(10_000);
    let gone = running.frame().await;
    let expected = Cell { key: cell(&silent, "cdn-a").key.clone(), views_bad: 1, ..Cell::default() };
    assert_eq!(gone.cells, [expected], "it counts as bad for a minute");
    running.clock.advance_ms(60_000);
    assert!(running.frame().await.cells.is_empty());
    // Closed: the same view is a stranger now.
    send(&running, "v", vec![event("heartbeat", 2, counters(99_000, 50_000))]).await;
    let back = running.frame().await;
    assert_eq!((cell(&back, "cdn-a").windows, cell(&back, "cdn-a").stall_ms), (0, 0));
    running.stop().await;
}

#[tokio::test]
async fn ended_and_paused_views_may_be_silent() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    for view in ["ends", "rests"] {
        send(&running, view, vec![event("view_start", 0, json!({})), event("heartbeat", 1, counters(10_000, 0))]).await;
    }
    send(&running, "ends", vec![event("view_end", 2, json!({"reason": "abort"}))]).await;
    send(&running, "rests", vec![event("pause", 2, json!({"state": "paused"}))]).await;
    let first = running.frame().await;
    assert_eq!(cell(&first, "cdn-a").views_active, 1);
    running.clock.advance_ms(40_000);
    let resting = running.frame().await;
    assert_eq!((cell(&resting, "cdn-a").views_active, cell(&resting, "cdn-a").windows), (1, 0));
    running.clock.advance_ms(40_000);
    let frame = running.frame().await;
    assert!(of(&frame, "cdn-a").is_none_or(|cell| cell.windows == 0 && cell.views_active == 0), "{frame:?}");
    running.stop().await;
}

#[tokio::test]
async fn duplicates_and_late_history_change_no_frame() {
    let (_dir, mut running) = begun("v").await;
    send(&running, "v", vec![event("heartbeat", 1, counters(10_000, 9_000))]).await;
    let mut old = event("heartbeat", 2, counters(20_000, 9_000));
    old["created_ms"] = json!(crate::support::NOW_MS - 70_000);
    send(&running, "v", vec![old]).await;
    let frame = running.frame().await;
    assert_eq!((cell(&frame, "cdn-a").windows, cell(&frame, "cdn-a").stall_ms), (0, 0));
    send(&running, "v", vec![event("heartbeat", 3, counters(30_000, 9_000))]).await;
    let next = running.frame().await;
    assert_eq!((cell(&next, "cdn-a").windows, cell(&next, "cdn-a").bad_windows()), (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn pathways_that_nobody_configured_make_no_cells() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start_with(dir.path(), config(), Arc::new(Hand::default())).await;
    let mut forged = counters(10_000, 0);
    forged["pathway"] = json!("cdn-forged");
    forged["pathways"] = json!({"cdn-forged": {"bytes": 1_000}});
    send(&running, "v", vec![event("view_start", 0, json!({})), event("heartbeat", 1, forged)]).await;
    let frame = running.frame().await;
    assert!(frame.cells.iter().all(|cell| cell.key.pathway.is_empty()), "{frame:?}");
    running.stop().await;
}

#[tokio::test]
async fn one_network_weighs_at_most_a_twentieth_of_a_large_cell() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    let address = |n: u64| if n < 40 { format!("10.1.0.{n}") } else { format!("10.1.{n}.1") };
    for n in 0..60 {
        let events = json!([event("view_start", 0, json!({"pathway": "cdn-a"}))]);
        assert_eq!(running.post_from(beacon(&format!("v{n}"), events), &address(n)).await.0, 202);
    }
    assert_eq!(cell(&running.frame().await, "cdn-a").views_active, 60);
    for n in 0..40 {
        let failed = json!({"pathway": "cdn-a", "request": {"pathway": "cdn-a", "status": 503}});
        let events = json!([event("segment", 1, failed), event("heartbeat", 2, counters(10_000, 5_000))]);
        assert_eq!(running.post_from(beacon(&format!("v{n}"), events), &address(n)).await.0, 202);
    }
    let frame = running.frame().await;
    let found = cell(&frame, "cdn-a");
    assert_eq!((found.requests_failed, found.bad_windows()), (40, 40));
    // 5 % of 60 views are 3: as weight of the windows over all frames, and as failing views in each frame.
    assert_eq!(found.bad_weight_milli, 40 * 75);
    assert!(found.views_failing >= 3 && found.views_failing < 40, "{} views failing", found.views_failing);
    running.stop().await;
}
