//! One of our events out of a record (the mapping table of `docs/wire-protocol.md`). Pure: what a record alone says.
//!
//! What CMCD does not tell stays unknown: watched and playing time, seeks, switches, bytes. `bsa`, `bsda` and `dfa` are
//! absolute, and become cumulative counters; `bs` and `bsd` speak of the time since the last report, so they are no
//! counters: `bsd` is the time of the stall that a `stall_end` ends, and both are kept as they came.

use serde::Serialize;
use spillway_model::ContentId;
use spillway_model::limits::{CMCD_VALUE_MAX_BYTES, CONTENT_ID_MAX_CHARS, REQUEST_LATE_MS};

use super::rest::{cut, rest, without_query};
use super::{Cmcd, EventName, Identity, Measure, ObjectType, State, StreamType, StreamingFormat};
use crate::beacon::{Context, Counters, Event, Failure, Request};

/// Type of an event that beacons don't have: `ce`, `c`, `ps` without `sta`, an `e` of a version to come. `cmcd` has the
/// rest.
pub const OTHER: &str = "other";

/// An event, and what of the record has no place in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mapped {
    /// The event; `mono_ms` is the wall clock's time, the only one that CMCD has.
    pub event: Event,
    /// The view and its content; an empty `content_id` is unknown.
    pub ctx: Context,
    /// `cmcd/1` or `cmcd/2`.
    pub sdk: String,
    /// `ltc`.
    pub live_latency_ms: Option<i64>,
    /// `cdn`, which may be a pathway's id.
    pub cdn: Option<String>,
    /// Keys that no column holds whole, as text; URLs without their queries.
    pub rest: Vec<(String, String)>,
}

/// The event of `record`.
#[must_use]
pub fn to_event(record: &Cmcd, identity: &Identity) -> Mapped {
    let kind = kind(record);
    let response = (record.e == Some(EventName::Response)).then(|| request(record));
    let created_ms = record.ts_ms.unwrap_or(0);
    let counters = Counters {
        // dash.js sends a `msd` with the start itself: a start that lasts has no length yet.
        startup_ms: record.msd_ms.filter(|_| !matches!(record.sta, Some(State::Starting | State::Preloading))),
        stall_count: sum(record.bsa.as_deref()),
        stall_ms: sum(record.bsda_ms.as_deref()),
        dropped_frames: record.dfa,
        ..Counters::default()
    };
    let serving =
        response.as_ref().filter(|response| serves(record, response)).and_then(|response| response.host.clone());
    let ended = record.e == Some(EventName::State) && record.sta == Some(State::Fatal);
    let event = Event {
        kind: kind.into(),
        seq: identity.seq,
        created_ms,
        mono_ms: created_ms,
        state: record.sta.map(|state| state_name(state).to_owned()),
        playhead_ms: record.pt_ms,
        buffer_ms: buffer(record.bl_ms.as_deref()),
        throughput_kbps: record.mtp_kbps.as_deref().and_then(|all| all.iter().map(|one| one.value).max()),
        bitrate_kbps: bitrate(record).and_then(|(_, measures)| total(measures)),
        host: record.h.as_deref().map(host_text).or(serving),
        reason: (kind == "view_end").then(|| end_reason(record.sta).to_owned()),
        stall_ms: (kind == "stall_end").then(|| sum(record.bsd_ms.as_deref())).flatten(),
        visible: visible(record),
        request: response,
        error: (record.e == Some(EventName::Error) || (ended && record.ec.is_some())).then(|| failure(record)),
        counters: (counters != Counters::default()).then_some(counters),
        ..Event::default()
    };
    let (content_id, whole) = content(record.cid.as_deref());
    Mapped {
        rest: rest(record, &event, &identity.view_id, whole),
        event,
        ctx: Context {
            view_id: identity.view_id.as_str().to_owned(),
            content_id,
            stream_type: record.st.map(|st| stream_type(st).to_owned()),
            format: record.sf.map(|sf| format_name(sf).to_owned()),
            ..Context::default()
        },
        sdk: format!("cmcd/{}", record.v.unwrap_or(1)),
        live_latency_ms: record.ltc_ms,
        cdn: record.cdn.clone(),
    }
}

fn kind(record: &Cmcd) -> &'static str {
    use EventName as E;
    match record.e {
        Some(E::State) => state_kind(record),
        Some(E::Response) => "segment",
        Some(E::Time) => "heartbeat",
        Some(E::Error) if record.sta == Some(State::Fatal) => "error",
        Some(E::Error) => "warning",
        Some(E::Bitrate) => "rendition",
        Some(E::Host) => "pathway_switch",
        Some(E::Rate) => "rate",
        Some(E::Mute | E::Unmute) => "mute",
        Some(E::Background) => "visibility",
        Some(E::Expand | E::Collapse) => "resize",
        Some(E::AdBreakStart) => "ad_break_start",
        Some(E::AdBreakEnd) => "ad_break_end",
        Some(E::AdStart) => "ad_start",
        Some(E::AdEnd) => "ad_end",
        Some(E::Skip) => "ad_skip",
        Some(E::Content | E::Custom) | None => OTHER,
    }
}

fn state_kind(record: &Cmcd) -> &'static str {
    match record.sta {
        Some(State::Starting | State::Preloading) => "view_start",
        Some(State::Playing) if record.bsd_ms.is_some() => "stall_end",
        Some(State::Playing) if record.msd_ms.is_some() => "first_frame",
        Some(State::Playing) => "playing",
        Some(State::Rebuffering) => "stall_start",
        Some(State::Seeking) => "seek_start",
        Some(State::Paused | State::Waiting) => "pause",
        Some(State::Ended | State::Fatal | State::Quit) => "view_end",
        None => OTHER,
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Playing => "playing",
        State::Seeking => "seeking",
        State::Rebuffering => "stalled",
        State::Paused => "paused",
        // Nobody waits for a player that only loads ahead.
        State::Waiting | State::Preloading => "waiting",
        State::Ended | State::Quit => "ended",
        State::Fatal => "failed",
    }
}

const fn end_reason(state: Option<State>) -> &'static str {
    match state {
        Some(State::Fatal) => "error",
        Some(State::Quit) => "abort",
        _ => "ended",
    }
}

const fn stream_type(st: StreamType) -> &'static str {
    match st {
        StreamType::Vod => "vod",
        StreamType::Live => "live",
        StreamType::LowLatency => "ll",
    }
}

const fn format_name(sf: StreamingFormat) -> &'static str {
    match sf {
        StreamingFormat::Hls => "hls",
        StreamingFormat::Dash => "dash",
        _ => "other",
    }
}

/// `b` without `bg` is the way back; elsewhere the absence of `bg` says nothing.
fn visible(record: &Cmcd) -> Option<bool> {
    match record.bg {
        Some(hidden) => Some(!hidden),
        None => (record.e == Some(EventName::Background)).then_some(true),
    }
}

fn sum(measures: Option<&[Measure]>) -> Option<u64> {
    let measures = measures.filter(|all| !all.is_empty())?;
    Some(measures.iter().fold(0, |sum, one| sum.saturating_add(one.value)))
}

/// Whether a number counts for what is watched: video, audio, both in one, or not said.
pub(super) fn is_media(measure: &Measure) -> bool {
    matches!(measure.object, None | Some(ObjectType::Video | ObjectType::Audio | ObjectType::Muxed))
}

/// The shortest of audio's and video's: it ends first.
fn buffer(measures: Option<&[Measure]>) -> Option<u64> {
    measures?.iter().filter(|one| is_media(one)).map(|one| one.value).min()
}

/// What is shown, or else what is selected, or else what is known of both together.
pub(super) fn bitrate(record: &Cmcd) -> Option<(&'static str, &[Measure])> {
    let all = [("pb", &record.pb_kbps), ("br", &record.br_kbps), ("ab", &record.ab_kbps)];
    all.into_iter().find_map(|(key, measures)| Some((key, measures.as_deref()?)))
}

/// Audio and video together.
fn total(measures: &[Measure]) -> Option<u64> {
    let media: Vec<Measure> = measures.iter().copied().filter(is_media).collect();
    sum(Some(&media))
}

fn request(record: &Cmcd) -> Request {
    Request {
        host: record.url.as_deref().and_then(host_of),
        pathway: None,
        status: record.rc.and_then(|status| u16::try_from(status).ok()),
        ttfb_ms: record.ttfb_ms,
        ttlb_ms: record.ttlb_ms,
        bytes: None,
        late: record.ttlb_ms.map(|ms| ms > REQUEST_LATE_MS),
    }
}

/// Whether a good response tells who serves the view now: media or what leads to it, but no keys or captions.
fn serves(record: &Cmcd, response: &Request) -> bool {
    let good = response.status.is_some_and(|status| (200..400).contains(&status));
    good && matches!(record.ot, None | Some(ObjectType::Video | ObjectType::Muxed))
}

fn failure(record: &Cmcd) -> Failure {
    let code = record.ec.as_ref().and_then(|codes| codes.first());
    let fatal = record.sta == Some(State::Fatal);
    Failure {
        severity: if fatal { "fatal" } else { "warning" }.into(),
        class: code.map_or("client", |code| error_class(code)).into(),
        code: code.map(|code| cut(code, CMCD_VALUE_MAX_BYTES).to_owned()),
        status: record.rc.and_then(|status| u16::try_from(status).ok()),
        ..Failure::default()
    }
}

/// Class of a player's code. Codes are the application's own: those of hls.js (names), Shaka (four digits) and dash.js
/// (up to 114) are known. `path` only where nothing but the way can be at fault: no answer, or none in time. A bad
/// status is not told by the code and may as well be a right that is missing: then the object could not be had, and
/// failed requests (`rr`) tell the rest.
fn error_class(code: &str) -> &'static str {
    if let Ok(number) = code.parse::<u32>() {
        return match number {
            1002 | 1003 => "path",
            100..=114 | 6000..=6999 => "drm",
            10..=12 | 15 | 17 | 25..=29 | 31..=34 | 1000..=1999 | 2000..=2999 | 4000..=4999 => "content",
            8000..=8999 => "ad",
            _ => "client",
        };
    }
    let name = code.to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&["keysystem", "keyload"]) {
        "drm"
    } else if name.ends_with("loadtimeout") && !name.starts_with("manifest") {
        "path"
    } else if name.ends_with("loaderror") || name.ends_with("loadtimeout") || name.ends_with("parsingerror") {
        "content"
    } else {
        "client"
    }
}

/// `host` or `host:port` of an absolute URL, lower case, without user and password.
fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    (!host.is_empty()).then(|| host_text(host))
}

fn host_text(host: &str) -> String {
    cut(host, 128).to_ascii_lowercase()
}

/// `cid` as a content id, and whether it is all of it: what our ids can't hold becomes `_`.
fn content(cid: Option<&str>) -> (String, bool) {
    let Some(cid) = cid else { return (String::new(), true) };
    if ContentId::new(cid).is_ok() {
        return (cid.to_owned(), true);
    }
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._-/".contains(c) { c } else { '_' };
    let text: String = without_query(cid).chars().map(fits).take(CONTENT_ID_MAX_CHARS).collect();
    (if ContentId::new(&text).is_ok() { text } else { String::new() }, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmcd::{SenderMark, identify, parse_events};

    fn mapped(line: &str) -> Mapped {
        let record = parse_events(line.as_bytes()).expect("body").records.remove(0);
        let identity = identify(&record, SenderMark::new(b"secret", b"10.0.0.1")).expect("identity");
        to_event(&record.cmcd, &identity)
    }

    fn kind_of(keys: &str) -> String {
        mapped(&format!("{keys},ts=1700000000000,sid=\"s\",sn=4,v=2")).event.kind
    }

    #[test]
    fn every_event_has_the_type_of_the_table() {
        let table = [
            ("e=ps,sta=s", "view_start"),
            ("e=ps,sta=d", "view_start"),
            ("e=ps,sta=p,msd=640", "first_frame"),
            ("e=ps,sta=p", "playing"),
            ("e=ps,sta=p,bsd=(900),bsda=(900)", "stall_end"),
            ("e=ps,sta=r,bsa=(1)", "stall_start"),
            ("e=ps,sta=k", "seek_start"),
            ("e=ps,sta=a", "pause"),
            ("e=ps,sta=w", "pause"),
            ("e=ps,sta=e", "view_end"),
            ("e=ps,sta=q", "view_end"),
            ("e=ps,sta=f", "view_end"),
            ("e=ps", "other"),
            ("e=rr", "segment"),
            ("e=t", "heartbeat"),
            ("e=e,ec=(\"x\"),sta=f", "error"),
            ("e=e,ec=(\"x\")", "warning"),
            ("e=bc,br=(3000;v)", "rendition"),
            ("e=h,h=\"a.example\"", "pathway_switch"),
            ("e=pr,pr=2.0", "rate"),
            ("e=m", "mute"),
            ("e=um", "mute"),
            ("e=b,bg", "visibility"),
            ("e=pe", "resize"),
            ("e=pc", "resize"),
            ("e=abs", "ad_break_start"),
            ("e=abe", "ad_break_end"),
            ("e=as", "ad_start"),
            ("e=ae", "ad_end"),
            ("e=sk", "ad_skip"),
            ("e=c,cid=\"b\"", "other"),
            ("e=ce,cen=\"x\"", "other"),
            ("e=zz", "other"),
        ];
        for (keys, kind) in table {
            assert_eq!(kind_of(keys), kind, "{keys}");
        }
    }

    #[test]
    fn counters_are_those_that_are_absolute_and_the_rest_is_unknown() {
        let event = mapped("bs,bsa=(2;v 1;a),bsd=(400 500),bsda=(1400),dfa=7,e=t,msd=640,ts=1,v=2").event;
        let counters = event.counters.expect("counters");
        assert_eq!((counters.stall_count, counters.stall_ms, counters.dropped_frames), (Some(3), Some(1_400), Some(7)));
        assert_eq!((counters.startup_ms, counters.watched_ms, counters.playing_ms), (Some(640), None, None));
        assert_eq!(event.stall_ms, None, "a stall's own time is of its end only");
        assert_eq!(mapped("bsd=(400;v 500),e=ps,sta=p,ts=1,v=2").event.stall_ms, Some(900));
        assert_eq!(mapped("e=t,ts=1,v=2").event.counters, None);
        assert_eq!(mapped("e=ps,msd=9,sta=s,ts=1,v=2").event.counters, None, "dash.js: no start has ended here");
    }

    #[test]
    fn a_response_is_a_segment_of_its_host_and_loses_its_query() {
        let line = "e=rr,rc=503,ttfb=90,ttlb=4001,ts=5,url=\"https://u:p@A.example:81/x/1.m4s?token=secret#f\",v=2";
        let mapped = mapped(line);
        let request = mapped.event.request.expect("request");
        assert_eq!(
            (request.host.as_deref(), request.status, request.late),
            (Some("a.example:81"), Some(503), Some(true))
        );
        assert_eq!(mapped.event.host, None, "who failed does not serve");
        let url = mapped.rest.iter().find(|(key, _)| key == "url").expect("url");
        assert!(!url.1.contains("secret"), "{url:?}");
    }

    #[test]
    fn only_a_good_response_of_media_says_who_serves() {
        let host = |keys: &str| mapped(&format!("e=rr,{keys},ts=5,url=\"https://a.example/1.m4s\",v=2")).event.host;
        assert_eq!(host("rc=200").as_deref(), Some("a.example"));
        assert_eq!(host("rc=206,ot=v").as_deref(), Some("a.example"));
        for keys in ["rc=200,ot=k", "rc=200,ot=a", "rc=404", "rc=0", "ttfb=3"] {
            assert_eq!(host(keys), None, "{keys}");
        }
    }

    #[test]
    fn only_what_is_evidently_of_the_path_is_of_the_path() {
        let classes = [
            ("fragLoadTimeOut", "path"),
            ("1002", "path"),
            ("1003", "path"),
            ("fragLoadError", "content"),
            ("1001", "content"),
            ("manifestLoadTimeOut", "content"),
            ("27", "content"),
            ("keySystemNoAccess", "drm"),
            ("6001", "drm"),
            ("110", "drm"),
            ("bufferAppendError", "client"),
            ("my own code", "client"),
        ];
        for (code, class) in classes {
            assert_eq!(error_class(code), class, "{code}");
        }
        let error = mapped("e=ps,ec=(\"1003\"),sta=f,ts=1,v=2").event.error.expect("error");
        assert_eq!((error.severity.as_str(), error.class.as_str()), ("fatal", "path"));
    }

    #[test]
    fn keys_without_a_column_are_kept_as_text() {
        let line = "bl=(2000;v 3000;a),br=(300),com.example-who=\"a b\",cs=\"sig\",e=ce,cen=\"buy\",futurekey=(1 2),\
                    nor=(\"../2.m4s?t=1\"),pr=1.5,rtp=900,sf=s,sn=4,sta=q,ts=1,sid=\"s:1\",cid=\"a film\",v=2";
        let mapped = mapped(line);
        let rest: Vec<(&str, &str)> = mapped.rest.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [
            ("bl", "(2000;v 3000;a)"),
            ("cen", "buy"),
            ("cid", "a film"),
            ("com.example-who", "a b"),
            ("cs", "sig"),
            ("e", "ce"),
            ("futurekey", "(1 2)"),
            ("nor", "../2.m4s"),
            ("pr", "1.5"),
            ("rtp", "900"),
            ("sf", "s"),
            ("sid", "s:1"),
            ("sn", "4"),
            ("sta", "q"),
        ];
        assert_eq!(rest, expected);
        assert_eq!((mapped.event.buffer_ms, mapped.event.bitrate_kbps), (Some(2_000), Some(300)));
        assert_eq!((mapped.ctx.content_id.as_str(), mapped.ctx.format.as_deref()), ("a_film", Some("other")));
        assert!(mapped.ctx.view_id.starts_with("sid-") && mapped.ctx.view_id.len() == 36);
    }

    #[test]
    fn out_of_sight_is_told_by_bg_and_its_end_by_b_alone() {
        let visible = |keys: &str| mapped(&format!("{keys},ts=1,v=2")).event.visible;
        assert_eq!(
            [visible("bg,e=b"), visible("e=b"), visible("bg,e=t"), visible("e=t")],
            [Some(false), Some(true), Some(false), None]
        );
    }
}
