//! `events`: one row per event.

use arrow::datatypes::{DataType, Field, Fields};

use super::Column;
use super::Kind::{Bool, Float, Int, Map, Pathways, Text};

/// Columns of `events` as the WAL holds them; the table has `collector` and `wal_seq` behind. The first 32 get
/// statistics, so those that queries filter by stand first.
pub(crate) const EVENT_COLUMNS: &[Column] = &[
    ("property", Text, false, "tenant's app"),
    ("view_id", Text, false, "playback attempt"),
    ("source", Text, false, "sdk, or the CMCD target"),
    ("seq", Int, false, "number of the event within view and source"),
    ("dt", Text, false, "UTC day of event_ms; partition"),
    ("event_ms", Int, false, "event time, ms since epoch: received - (sent - created), at most received"),
    ("received_ms", Int, false, "arrival at the collector, ms since epoch"),
    ("created_ms", Int, false, "sender's wall clock at creation, ms since epoch; may be wrong"),
    ("mono_ms", Int, false, "sender's monotonic clock since the view began, ms; CMCD has none: created_ms"),
    ("type", Text, false, "event type"),
    ("state", Text, true, "player state"),
    ("content_id", Text, true, "title or asset"),
    ("stream_type", Text, true, "vod, live or ll"),
    ("format", Text, true, "hls, dash or other"),
    ("player", Text, true, "player"),
    ("player_version", Text, true, "player's version"),
    ("device_class", Text, true, "desktop, mobile, tablet, tv, stb, console or other"),
    ("region", Text, true, "routing region, from the address"),
    ("asn", Int, true, "network, from the address"),
    ("country", Text, true, "country, from the address"),
    ("pathway", Text, true, "pathway that serves now"),
    ("from_pathway", Text, true, "pathway_switch: from"),
    ("to_pathway", Text, true, "pathway_switch: to"),
    ("reason", Text, true, "pathway_switch, rendition, view_end: why"),
    ("playhead_ms", Int, true, "playhead, ms"),
    ("buffer_ms", Int, true, "buffer ahead, ms"),
    ("throughput_kbps", Int, true, "measured throughput, kbit/s"),
    ("bitrate_kbps", Int, true, "bitrate of the rendition, kbit/s"),
    ("watched_ms", Int, true, "cumulative: wall time since play request without pauses, ms"),
    ("playing_ms", Int, true, "cumulative: time the picture moved, ms"),
    ("startup_ms", Int, true, "play request to first frame, ms"),
    ("stall_count", Int, true, "cumulative: stalls"),
    ("stall_ms", Int, true, "cumulative: stalled time, an open stall included, ms"),
    ("seek_count", Int, true, "cumulative: seeks"),
    ("seek_ms", Int, true, "cumulative: time seeking, ms"),
    ("pause_ms", Int, true, "cumulative: paused time, ms"),
    ("bits_played", Int, true, "cumulative: media shown, bits"),
    ("switch_up", Int, true, "cumulative: switches to a higher rendition"),
    ("switch_down", Int, true, "cumulative: switches to a lower rendition"),
    ("dropped_frames", Int, true, "cumulative: frames not shown"),
    ("decoded_frames", Int, true, "cumulative: frames decoded"),
    ("this_stall_ms", Int, true, "stall_end: time of this stall, ms"),
    ("visible", Bool, true, "visibility: whether the player can be seen"),
    ("request_host", Text, true, "segment: host"),
    ("request_pathway", Text, true, "segment: pathway"),
    ("request_status", Int, true, "segment: HTTP status, 0 = no answer"),
    ("request_ttfb_ms", Int, true, "segment: time to first byte, ms"),
    ("request_ttlb_ms", Int, true, "segment: time to last byte, or in flight so far, ms"),
    ("request_bytes", Int, true, "segment: bytes received"),
    ("request_late", Bool, true, "segment: in flight for more than 4 s"),
    ("error_severity", Text, true, "fatal or warning"),
    ("error_class", Text, true, "path, content, drm, entitlement, ad or client"),
    ("error_code", Text, true, "player's code"),
    ("error_message", Text, true, "for people, without URL queries"),
    ("error_status", Int, true, "HTTP status of the error"),
    ("error_pathway", Text, true, "pathway of the error"),
    ("epoch", Int, true, "manifest epoch of the last steering answer"),
    ("sample_rate", Float, true, "share of views that report"),
    ("sdk", Text, true, "sender's name and version"),
    ("session_id", Text, true, "tab or app session"),
    ("title", Text, true, "content's name for people"),
    ("os", Text, true, "operating system"),
    ("browser", Text, true, "browser"),
    ("page_type", Text, true, "watch, embed, preview"),
    ("host", Text, true, "host that serves now, where the pathway was unknown"),
    ("rtt_ms", Int, true, "round trip of the previous beacon, ms"),
    ("dropped_events", Int, true, "events that the sender gave up since the view began"),
    ("pathways", Pathways, true, "cumulative counters of the view by pathway"),
    ("live_latency_ms", Int, true, "latency to live, ms"),
    ("cmcd", Map, true, "CMCD: keys that no other column holds whole, custom ones too, as text"),
];

/// Cumulative counters by pathway: the fields of one element of `pathways`.
pub(crate) const PATHWAY_FIELDS: &[(&str, &str)] = &[
    ("requests_ok", "media requests answered well"),
    ("requests_failed", "media requests failed"),
    ("requests_late", "media requests in flight for more than 4 s"),
    ("bytes", "bytes of media"),
    ("ttfb_sum_ms", "sum of times to first byte, ms"),
    ("playing_ms", "time played from it, ms"),
    ("stall_ms", "stall time that it caused, ms"),
];

pub(crate) fn pathway_struct_fields() -> Fields {
    let name = Field::new("pathway", DataType::Utf8, true);
    let counters = PATHWAY_FIELDS.iter().map(|(name, _)| Field::new(*name, DataType::Int64, true));
    std::iter::once(name).chain(counters).collect()
}
