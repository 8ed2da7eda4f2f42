//! `rollup_1m`: parts of ratios by minute, and mergeable sketches.
//!
//! A sketch is a DDSketch (logarithmic mapping, relative error 0.01, 2048 bins) in the binary form that sketches-java's
//! `DDSketchWithExactSummaryStatistics` writes; `dd_merge`, `dd_quantile` and `dd_count` read it.

use super::Column;
use super::Kind::{Bytes, Float, Int, Text};

/// Columns of `rollup_1m`. Every sum is null where nothing of it is known.
pub(crate) const ROLLUP_COLUMNS: &[Column] = &[
    ("dt", Text, false, "UTC day of minute_ms; partition"),
    ("minute_ms", Int, false, "begin of the minute of the events' time, ms since epoch"),
    ("revision", Int, false, "time of the run that wrote the minute, ms since epoch; a minute's highest one holds"),
    ("property", Text, false, "tenant's app"),
    ("pathway", Text, true, "pathway that served; null: not known"),
    ("region", Text, true, "routing region"),
    ("asn", Int, true, "network"),
    ("device_class", Text, true, "desktop, mobile, tablet, tv, stb, console or other"),
    ("stream_type", Text, true, "vod, live or ll"),
    ("events", Int, false, "distinct events"),
    ("views_attempted", Int, false, "views that began"),
    ("views_attempted_weight", Float, false, "the same, each 1 / sample_rate"),
    ("views_started", Int, false, "views whose first frame came"),
    ("start_failures", Int, false, "fatal errors before the first frame, entitlement excepted"),
    ("playback_failures", Int, false, "fatal errors after the first frame, entitlement excepted"),
    ("exits_before_start", Int, false, "end events before the first frame and without a fatal error"),
    ("watched_ms", Int, true, "wall time without pauses, ms"),
    ("playing_ms", Int, true, "time the picture moved, ms"),
    ("stall_ms", Int, true, "stalled time, ms; of the pathway that caused it"),
    ("stall_count", Int, true, "stalls"),
    ("bits_played", Int, true, "media shown, bits"),
    ("switch_up", Int, true, "switches to a higher rendition"),
    ("switch_down", Int, true, "switches to a lower rendition"),
    ("pathway_switches", Int, false, "moves to this pathway from another"),
    ("windows", Int, false, "windows: a view's time between two heartbeats, at most 60 s, on one pathway"),
    ("windows_bad", Int, false, "windows with > 2 % stall, a start > 8 s or a fatal error of the path"),
    ("windows_weight", Float, false, "windows, each 1 / sample_rate"),
    ("requests_ok", Int, true, "media requests answered well"),
    ("requests_failed", Int, true, "media requests failed"),
    ("requests_late", Int, true, "media requests in flight for more than 4 s"),
    ("bytes", Int, true, "bytes of media"),
    ("ttfb_sum_ms", Int, true, "sum of times to first byte of requests_ok, ms"),
    ("timed_bytes", Int, true, "bytes of good requests that were told one by one, with their time"),
    ("timed_ms", Int, true, "time of these requests, first to last byte and before, ms"),
    ("startup_ms_sketch", Bytes, true, "DDSketch (alpha 0.01): play request to first frame, ms"),
    ("ttfb_ms_sketch", Bytes, true, "DDSketch (alpha 0.01): time to first byte, mean between two heartbeats, ms"),
    ("throughput_kbps_sketch", Bytes, true, "DDSketch (alpha 0.01): throughput at heartbeats, kbit/s"),
];
