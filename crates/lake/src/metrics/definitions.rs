//! The metrics and their formulas, in one place.

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Column.
    pub metric: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Formula over the columns of `rollup_1m` or `views`; Σ runs over rows where all parts are known.
    pub formula: &'static str,
    /// SQL views that have it (`*`: each of that name's grains).
    pub views: &'static str,
    /// Whose definition it is.
    pub source: &'static str,
}

const BOTH: &str = "metrics_*, view_metrics_*";
const ROLLUP: &str = "metrics_*";
const VIEWS: &str = "view_metrics_*";
const SCORES: &str = "view_scores, view_metrics_* (mean)";

const fn metric(
    metric: &'static str,
    name: &'static str,
    unit: &'static str,
    formula: &'static str,
    views: &'static str,
    source: &'static str,
) -> Definition {
    Definition { metric, name, unit, formula, views, source }
}

/// Every metric that the SQL views compute. `metrics_*` hold what happened in the minute or day; `view_metrics_*` hold
/// closed views by the day in which they began.
pub const DEFINITIONS: &[Definition] = &[
    metric(
        "good_view_pct",
        "good views",
        "%",
        "100 · good / views that can be judged; good: no fatal error, stall_ms ≤ 2 % of watched_ms, startup_ms ≤ 8000",
        VIEWS,
        "Spillway; after Conviva's SPI",
    ),
    metric(
        "bad_window_pct",
        "bad windows",
        "%",
        "100 · Σ windows_bad / Σ windows; bad: > 2 % stall, start > 8 s, or a fatal error of the path",
        ROLLUP,
        "Spillway",
    ),
    metric("rebuffer_pct", "rebuffering", "%", "100 · Σ stall_ms / Σ watched_ms", BOTH, "CTA-2066: stalled time %"),
    metric(
        "rebuffers_per_min",
        "rebuffer frequency",
        "1/min",
        "Σ stall_count / (Σ watched_ms / 60000)",
        BOTH,
        "Mux: rebuffer frequency",
    ),
    metric("stalls_per_view", "stalls", "1/view", "mean of stall_count", VIEWS, "CTA-2066: average stalled count"),
    metric(
        "startup_ms_median",
        "start-up, median",
        "ms",
        "quantile 0.5 of startup_ms over views that started, within 1 %",
        BOTH,
        "CTA-2066: initial start-up time",
    ),
    metric(
        "startup_ms_p95",
        "start-up, 95th percentile",
        "ms",
        "quantile 0.95 of startup_ms over views that started, within 1 %",
        BOTH,
        "CTA-2066: initial start-up time",
    ),
    metric("startup_ms_mean", "start-up, mean", "ms", "mean of startup_ms", VIEWS, "CTA-2066: average"),
    metric(
        "exit_before_start_pct",
        "exits before video start",
        "%",
        "100 · views that ended before the first frame without a fatal error / views; rollup: by end event only",
        BOTH,
        "Mux and Conviva: EBVS",
    ),
    metric(
        "start_failure_pct",
        "start failures",
        "%",
        "100 · views with a fatal error before the first frame, entitlement excepted / views",
        BOTH,
        "Mux: video startup failure %; Conviva: VSF",
    ),
    metric(
        "playback_failure_pct",
        "playback failures",
        "%",
        "100 · views with a fatal error, entitlement excepted / views",
        BOTH,
        "CTA-2066 and Mux: playback failure %",
    ),
    metric(
        "business_exception_pct",
        "business exceptions",
        "%",
        "100 · views with a fatal error of class entitlement / views",
        VIEWS,
        "Mux: business exception %",
    ),
    metric(
        "dropped_pct",
        "dropped views",
        "%",
        "100 · views without an end event / views",
        VIEWS,
        "Mux: view dropped %",
    ),
    metric(
        "avg_bitrate_kbps",
        "weighted average bitrate",
        "kbit/s",
        "Σ bits_played / Σ playing_ms",
        BOTH,
        "CTA-2066: average playback bitrate; Mux: weighted average bitrate",
    ),
    metric(
        "rendition_switches_per_min",
        "rendition switches",
        "1/min",
        "Σ (switch_up + switch_down) / (Σ playing_ms / 60000)",
        ROLLUP,
        "Spillway",
    ),
    metric(
        "rendition_switches_per_view",
        "rendition switches",
        "1/view",
        "mean of switch_up + switch_down",
        VIEWS,
        "Spillway",
    ),
    metric("pathway_switches", "pathway switches", "count", "Σ moves to the pathway from another", ROLLUP, "Spillway"),
    metric("pathway_switches_per_view", "pathway switches", "1/view", "mean of pathway_switches", VIEWS, "Spillway"),
    metric(
        "request_throughput_kbps",
        "request throughput",
        "kbit/s",
        "Σ bits / Σ request time, over good requests that were told one by one",
        ROLLUP,
        "Mux: request throughput",
    ),
    metric(
        "request_latency_ms",
        "request latency",
        "ms",
        "Σ ttfb_sum_ms / Σ requests_ok",
        ROLLUP,
        "Mux: request latency",
    ),
    metric("ttfb_ms_p95", "time to first byte, 95th percentile", "ms", "quantile 0.95 of ttfb_ms", ROLLUP, "Spillway"),
    metric(
        "throughput_kbps_median",
        "players' throughput, median",
        "kbit/s",
        "quantile 0.5 of throughput_kbps at heartbeats",
        ROLLUP,
        "CMCD: mtp",
    ),
    metric(
        "request_failure_pct",
        "failed requests",
        "%",
        "100 · Σ requests_failed / Σ (requests_ok + requests_failed)",
        ROLLUP,
        "Spillway",
    ),
    metric(
        "request_late_pct",
        "late requests",
        "%",
        "100 · Σ requests_late / Σ (requests_ok + requests_failed)",
        ROLLUP,
        "Spillway",
    ),
    metric(
        "startup_score",
        "start-up score",
        "0-100",
        "100 · 8 / (8 + startup_ms / 1000)",
        SCORES,
        "Mux: startup score",
    ),
    metric(
        "smoothness_score",
        "smoothness score",
        "0-100",
        "50 · (1 / √(1 + (stall_count / 2)²) + e^(−10 · stall_ms / watched_ms))",
        SCORES,
        "Mux: smoothness score",
    ),
    metric(
        "success_score",
        "success score",
        "0-100",
        "0 with a fatal error, 50 on an exit before start after 1 s, else 100; none on an exit within 1 s or a fatal \
         error of entitlement",
        SCORES,
        "Mux: playback success score",
    ),
    metric(
        "experience_score",
        "experience score",
        "0-100",
        "success / 100 · √(start-up · smoothness); success alone where that is below 100 and the others are unknown. \
         Picture quality is not in it: beacons do not tell the player's size",
        SCORES,
        "Spillway; Mux does not publish its own",
    ),
    metric(
        "qoe_lin",
        "QoE_lin",
        "none",
        "Σ q − 4.3 · Σ stall (s) − Σ |q − q before|; q: bitrate in Mbit/s at each heartbeat",
        "view_qoe_lin",
        "Yin 2015, Pensieve; a step here is a heartbeat, not a chunk",
    ),
];
