//! Beacon v1: what a player reports (`docs/wire-protocol.md`).
//!
//! A batch is read in two steps, so that one bad event costs only itself: the envelope with raw events, then each
//! event.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use spillway_model::ViewId;
use spillway_model::limits::{BEACON_MAX_EVENTS, EVENT_MAX_PATHWAYS, TEXT_MAX_BYTES};

/// The version that this module reads and writes.
pub const BEACON_VERSION: u32 = 1;

/// A beacon as its sender builds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beacon {
    /// 1.
    pub v: u32,
    /// Name and version of the sender.
    pub sdk: String,
    /// Sender's wall clock at sending, ms since epoch.
    pub sent_ms: u64,
    /// Round trip of the previous beacon, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u64>,
    /// Events the sender gave up since the view began.
    #[serde(default)]
    pub dropped: u64,
    /// What holds for all events.
    pub ctx: Context,
    /// Events.
    pub events: Vec<Event>,
}

/// What holds for all events of a beacon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The view.
    pub view_id: String,
    /// Tab or app session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Title or asset.
    pub content_id: String,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// `vod`, `live` or `ll`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_type: Option<String>,
    /// `hls`, `dash` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Player.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player_version: Option<String>,
    /// `desktop`, `mobile`, `tablet`, `tv`, `stb`, `console` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_class: Option<String>,
    /// Operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// `watch`, `embed`, `preview` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_type: Option<String>,
    /// Share of views that report, (0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<f64>,
}

/// Cumulative counters of a view; absent = unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Wall time since the play request without pauses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched_ms: Option<u64>,
    /// Time in which the picture moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playing_ms: Option<u64>,
    /// From play request to first frame, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_ms: Option<u64>,
    /// Stalls after the first frame, seeks excepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_count: Option<u64>,
    /// Their time, an open one included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u64>,
    /// Seeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seek_count: Option<u64>,
    /// Their time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seek_ms: Option<u64>,
    /// Paused time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
    /// Bits of media that were shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_played: Option<u64>,
    /// Switches to a higher rendition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_up: Option<u64>,
    /// Switches to a lower rendition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_down: Option<u64>,
    /// Frames decoded but not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_frames: Option<u64>,
    /// Frames decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoded_frames: Option<u64>,
}

/// Cumulative counters of a view on one pathway; absent = unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathwayCounters {
    /// Media requests answered well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_ok: Option<u64>,
    /// Media requests failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_failed: Option<u64>,
    /// Media requests in flight for more than 4 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_late: Option<u64>,
    /// Bytes of media.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Sum of times to first byte of the good requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_sum_ms: Option<u64>,
    /// Time played from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playing_ms: Option<u64>,
    /// Stall time that it caused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u64>,
}

/// One media request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Host of the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Pathway, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pathway: Option<String>,
    /// HTTP status; 0 = no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Time to first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_ms: Option<u64>,
    /// Time to last byte, or in flight so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttlb_ms: Option<u64>,
    /// Bytes received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// In flight for more than 4 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<bool>,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// `fatal` or `warning`.
    pub severity: String,
    /// `path`, `content`, `drm`, `entitlement`, `ad` or `client`; only `path` feeds health.
    pub class: String,
    /// The player's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// For people; no URL's query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// HTTP status, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Pathway, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pathway: Option<String>,
}

/// One event of a view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// One of [`EVENT_TYPES`].
    #[serde(rename = "type")]
    pub kind: String,
    /// 0, 1, 2 … per view and sender.
    pub seq: u64,
    /// Sender's wall clock at creation, ms since epoch.
    pub created_ms: u64,
    /// Monotonic ms since the view began.
    pub mono_ms: u64,
    /// Player state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Playhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playhead_ms: Option<i64>,
    /// Buffer ahead of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_ms: Option<u64>,
    /// Measured throughput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_kbps: Option<u64>,
    /// Bitrate of the rendition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_kbps: Option<u64>,
    /// Pathway that serves now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pathway: Option<String>,
    /// Host that serves now, where the pathway is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Manifest epoch of the last steering answer, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// `pathway_switch`: from where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `pathway_switch`: to where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `pathway_switch`, `rendition`, `view_end`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `stall_end`: this stall's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u64>,
    /// `visibility`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
    /// `segment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// `error`, `warning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Cumulative counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// Cumulative counters by pathway.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pathways: BTreeMap<String, PathwayCounters>,
}

/// Every event type of version 1.
pub const EVENT_TYPES: [&str; 26] = [
    "view_start",
    "play_request",
    "first_frame",
    "playing",
    "pause",
    "stall_start",
    "stall_end",
    "seek_start",
    "seek_end",
    "rendition",
    "resize",
    "pathway_switch",
    "segment",
    "error",
    "warning",
    "heartbeat",
    "rate",
    "mute",
    "visibility",
    "network",
    "ad_break_start",
    "ad_break_end",
    "ad_start",
    "ad_end",
    "ad_skip",
    "view_end",
];

/// Error classes of version 1.
pub const ERROR_CLASSES: [&str; 6] = ["path", "content", "drm", "entitlement", "ad", "client"];

/// Why a whole beacon is refused, for good; [`BeaconError::reason`] is the stable name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeaconError {
    /// No body.
    #[error("the body is empty, a JSON object is expected")]
    EmptyBody,
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    BadUtf8,
    /// Not JSON, or not of the shape.
    #[error("the body is not a beacon: {0}")]
    BadJson(String),
    /// Not version 1.
    #[error("beacon version {0} is unknown (valid: 1)")]
    UnknownVersion(u32),
    /// The context does not hold.
    #[error("ctx: {0}")]
    BadContext(String),
    /// More events than allowed.
    #[error("{0} events, at most {BEACON_MAX_EVENTS} are valid")]
    TooManyEvents(usize),
}

impl BeaconError {
    /// Stable reason name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::EmptyBody => "empty_body",
            Self::BadUtf8 => "bad_utf8",
            Self::BadJson(_) => "bad_json",
            Self::UnknownVersion(_) => "unknown_version",
            Self::BadContext(_) => "bad_context",
            Self::TooManyEvents(_) => "too_many_events",
        }
    }
}

/// A beacon as it was read: good events, and the others with index and reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Envelope; `events` holds the good ones.
    pub beacon: Beacon,
    /// The view, checked.
    pub view_id: ViewId,
    /// Indexes and stable reasons of the others.
    pub rejected: Vec<Rejected>,
    /// Their JSON in the same order, as it came, for quarantine; empty where it is longer than [`REJECTED_MAX_BYTES`].
    pub rejected_json: Vec<String>,
}

/// A refused event longer than this is garbage that nobody wants to read.
pub const REJECTED_MAX_BYTES: usize = 16 * 1024;

/// One refused event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Place in the batch, from 0.
    pub index: usize,
    /// `bad_value`, `unknown_type`, `missing_field`, `too_old` or `bad_id`.
    pub reason: String,
}

/// The 202 answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// Events that are durable now (duplicates among them).
    pub accepted: usize,
    /// The others.
    pub rejected: Vec<Rejected>,
    /// Heartbeat interval from now on, s.
    pub heartbeat_s: u32,
    /// Share of later views that should report.
    pub sample_rate: f64,
}

/// Body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Stable reason.
    pub error: String,
    /// For people: the value and what would be valid.
    pub detail: String,
}

/// The envelope, with events of which each is read, or kept as text.
#[derive(Deserialize)]
struct Envelope<E> {
    v: u32,
    #[serde(default)]
    sdk: String,
    sent_ms: u64,
    #[serde(default)]
    rtt_ms: Option<u64>,
    #[serde(default)]
    dropped: u64,
    ctx: Context,
    events: Vec<E>,
}

/// Reads a beacon's JSON.
///
/// # Errors
/// A [`BeaconError`] if the batch as a whole is unusable; single bad events are in [`Received::rejected`].
pub fn parse(body: &[u8]) -> Result<Received, BeaconError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    if body.is_empty() {
        return Err(BeaconError::EmptyBody);
    }
    let text = std::str::from_utf8(body).map_err(|_| BeaconError::BadUtf8)?;
    // Nearly every beacon is good as a whole. Only where one is not, its events are read one by one.
    if let Ok(envelope) = serde_json::from_str::<Envelope<Event>>(text)
        && envelope.events.iter().all(|event| check_event(event).is_ok())
    {
        return envelope.received(|events| Read { events, ..Read::default() });
    }
    let envelope: Envelope<&RawValue> = serde_json::from_str(text).map_err(|error| {
        // A version that we don't know may have another shape: say that rather than what is missing from ours.
        match serde_json::from_str::<Version>(text) {
            Ok(Version { v }) if v != BEACON_VERSION => BeaconError::UnknownVersion(v),
            _ => BeaconError::BadJson(error.to_string()),
        }
    })?;
    envelope.received(read_singly)
}

/// The events of a beacon, good and bad.
#[derive(Default)]
struct Read {
    events: Vec<Event>,
    rejected: Vec<Rejected>,
    rejected_json: Vec<String>,
}

fn read_singly(events: Vec<&RawValue>) -> Read {
    let mut read = Read::default();
    for (index, json) in events.into_iter().map(RawValue::get).enumerate() {
        match parse_event(json) {
            Ok(event) => read.events.push(event),
            Err(reason) => {
                read.rejected.push(Rejected { index, reason: reason.into() });
                read.rejected_json.push(if json.len() > REJECTED_MAX_BYTES { String::new() } else { json.to_owned() });
            }
        }
    }
    read
}

impl<E> Envelope<E> {
    fn received(self, read: impl FnOnce(Vec<E>) -> Read) -> Result<Received, BeaconError> {
        if self.v != BEACON_VERSION {
            return Err(BeaconError::UnknownVersion(self.v));
        }
        if self.events.len() > BEACON_MAX_EVENTS {
            return Err(BeaconError::TooManyEvents(self.events.len()));
        }
        let view_id = check_context(&self.ctx)?;
        let Read { events, rejected, rejected_json } = read(self.events);
        let beacon = Beacon {
            v: self.v,
            sdk: truncated(self.sdk, 64),
            sent_ms: self.sent_ms,
            rtt_ms: self.rtt_ms,
            dropped: self.dropped,
            ctx: self.ctx,
            events,
        };
        Ok(Received { beacon, view_id, rejected, rejected_json })
    }
}

fn check_context(ctx: &Context) -> Result<ViewId, BeaconError> {
    let bad = |error: &dyn std::fmt::Display| BeaconError::BadContext(error.to_string());
    let view_id = ViewId::new(&ctx.view_id).map_err(|e| bad(&e))?;
    spillway_model::ContentId::new(&ctx.content_id).map_err(|e| bad(&e))?;
    if let Some(rate) = ctx.sample_rate
        && !(rate > 0.0 && rate <= 1.0)
    {
        return Err(bad(&format_args!("sample_rate {rate} is not above 0 and at most 1")));
    }
    let texts = [&ctx.session_id, &ctx.title, &ctx.player, &ctx.player_version, &ctx.os, &ctx.browser, &ctx.page_type];
    if texts.into_iter().flatten().any(|text| text.len() > TEXT_MAX_BYTES) {
        return Err(bad(&format_args!("a text is longer than {TEXT_MAX_BYTES} bytes")));
    }
    Ok(view_id)
}

fn parse_event(text: &str) -> Result<Event, &'static str> {
    let event: Event = serde_json::from_str(text)
        .map_err(|error| if error.to_string().starts_with("missing field") { "missing_field" } else { "bad_value" })?;
    check_event(&event)?;
    Ok(event)
}

fn check_event(event: &Event) -> Result<(), &'static str> {
    if !EVENT_TYPES.contains(&event.kind.as_str()) {
        return Err("unknown_type");
    }
    let needs = match event.kind.as_str() {
        "segment" => event.request.is_some(),
        "error" | "warning" => event.error.is_some(),
        _ => true,
    };
    if !needs {
        return Err("missing_field");
    }
    if event.error.as_ref().is_some_and(|error| !ERROR_CLASSES.contains(&error.class.as_str())) {
        return Err("bad_value");
    }
    if !ids_hold(event) {
        return Err("bad_id");
    }
    let message = event.error.as_ref().and_then(|error| error.message.as_ref());
    let texts = [&event.state, &event.host, &event.reason];
    let long = texts.into_iter().flatten().chain(message).any(|text| text.len() > TEXT_MAX_BYTES);
    if long || event.pathways.len() > EVENT_MAX_PATHWAYS {
        return Err("bad_value");
    }
    Ok(())
}

fn ids_hold(event: &Event) -> bool {
    let ids = [&event.pathway, &event.from, &event.to];
    let of_request = event.request.as_ref().and_then(|request| request.pathway.as_ref());
    let mut names = ids.into_iter().flatten().chain(event.pathways.keys()).chain(of_request);
    names.all(|name| spillway_model::PathwayId::holds(name))
}

fn truncated(mut text: String, max: usize) -> String {
    crate::scrub::truncate(&mut text, max);
    text
}
