//! Status, media type, and CORS on every status.

use axum::http::header;

use super::Line;
use crate::check::playlist::Kind;
use crate::check::seen::{Answer, Exchange, Object, Seen};

const HLS_TYPES: [&str; 4] =
    ["application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl"];
const DASH_TYPE: &str = "application/dash+xml";

/// Whether it is there, and what it says it is.
pub(super) fn object(object: &Object) -> Vec<Line> {
    let asked = format!("{} ({})", object.whole.asked, object.kind.name());
    let Some(answer) = object.whole.with_status(200) else {
        let valid = "200 by the pathway's own host";
        return vec![Line::fault("get", &asked, object.whole.words(), valid)];
    };
    let size = format!("200, {}{} bytes", if answer.cut { "more than " } else { "" }, answer.body.len());
    let got = match (answer.body.is_empty(), answer.hops.is_empty()) {
        (true, _) => Line::fault("get", &asked, "200 without a body", "its bytes"),
        (false, false) => {
            let came = format!("{size} after {}", answer.hops.join(", "));
            Line::warn("get", &asked, came, "an answer without redirects: each costs a round trip")
        }
        (false, true) => Line::ok("get", &asked, size),
    };
    vec![got, media_type(object, answer)]
}

fn media_type(object: &Object, answer: &Answer) -> Line {
    let given = answer.text(&header::CONTENT_TYPE).unwrap_or("none");
    let plain = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (good, valid) = match object.kind {
        Kind::Multivariant | Kind::Media { .. } => (HLS_TYPES.contains(&plain.as_str()), HLS_TYPES[0]),
        Kind::Mpd { .. } => (plain == DASH_TYPE, DASH_TYPE),
        Kind::Segment => (!plain.starts_with("text/html"), "a type of media: this looks like a page"),
    };
    let asked = &object.whole.asked;
    if good { Line::ok("media_type", asked, given) } else { Line::warn("media_type", asked, given, valid) }
}

/// CORS of all answers about an object.
pub(super) fn cors_of(object: &Object, seen: &Seen) -> Vec<Line> {
    let mut lines = vec![];
    lines.extend(object.whole.with_status(200).map(|answer| cors("cors.200", &object.whole, answer, seen)));
    if let Some(again) = &object.again {
        lines.extend(again.with_status(304).map(|answer| cors("cors.304", again, answer, seen)));
    }
    if let Some(parts) = &object.parts {
        let part = &parts.middle.exchange;
        lines.extend(part.with_status(206).map(|answer| cors("cors.206", part, answer, seen)));
        lines.extend(parts.beyond.with_status(416).map(|answer| cors("cors.416", &parts.beyond, answer, seen)));
    }
    lines
}

/// Whether a page may read an answer.
pub(super) fn cors(check: &'static str, exchange: &Exchange, answer: &Answer, seen: &Seen) -> Line {
    let asked = format!("{} from {}", exchange.asked, seen.page);
    let own = if seen.credentials {
        format!(
            "Access-Control-Allow-Origin: {} with Access-Control-Allow-Credentials: true, for players send cookies",
            seen.page
        )
    } else {
        format!("Access-Control-Allow-Origin: * (or {})", seen.page)
    };
    let given: Vec<&[u8]> =
        answer.headers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter().map(|value| value.as_bytes()).collect();
    let status = answer.status;
    let shown = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
    let value = match given.as_slice() {
        [] => return Line::fault(check, &asked, format!("{status} without Access-Control-Allow-Origin"), own),
        [value] => shown(value),
        several => {
            let all: Vec<String> = several.iter().map(|value| shown(value)).collect();
            let came = format!("{status} with {} values: {}", several.len(), all.join(", "));
            return Line::fault(check, &asked, came, format!("one value; {own}"));
        }
    };
    let came = format!("{status}, {value}");
    let allows_cookies = answer.text(&header::ACCESS_CONTROL_ALLOW_CREDENTIALS) == Some("true");
    if seen.credentials && (value == "*" || !allows_cookies) {
        let and = if allows_cookies { "" } else { " without Access-Control-Allow-Credentials" };
        return Line::fault(check, &asked, format!("{came}{and}"), own);
    }
    if value == "*" {
        return Line::ok(check, &asked, came);
    }
    if value != seen.page {
        return Line::fault(check, &asked, came, own);
    }
    let vary = answer.list(&header::VARY).unwrap_or_default().to_ascii_lowercase();
    if vary.contains("origin") || vary.contains('*') {
        Line::ok(check, &asked, came)
    } else {
        let valid = "* or Vary: Origin: caches keep it for pages of other origins, too";
        Line::warn(check, &asked, format!("{came} without Vary"), valid)
    }
}

/// Whether the playlists led to a segment.
pub(super) fn path(seen: &Seen) -> Vec<Line> {
    let last = seen.objects.iter().rfind(|object| object.kind != Kind::Segment);
    let asked = last.map_or("a playlist", |object| &object.whole.asked);
    let has_segment = seen.objects.iter().any(|object| object.kind == Kind::Segment);
    let told = match (&seen.astray, has_segment) {
        (Some(why), _) => {
            let valid = "relative URIs, so that segments come from the pathway that the playlist came from";
            vec![Line::warn("path", asked, why, valid)]
        }
        (None, _) => vec![],
    };
    let none = (!has_segment).then(|| {
        let why = "no segment was found: ranges, bytes and tokens of segments were not looked at";
        Line::untried("segment", asked, why, "--path of a segment")
    });
    told.into_iter().chain(none).collect()
}

/// What is not there must be told so, to pages too.
pub(super) fn absent(exchange: &Exchange, seen: &Seen) -> Vec<Line> {
    let asked = &exchange.asked;
    let valid = "404 (or 410)";
    let answer = match &exchange.outcome {
        Ok(answer) => answer,
        Err(why) => return vec![Line::fault("get.absent", asked, why, valid)],
    };
    let line = match answer.status {
        404 | 410 => Line::ok("get.absent", asked, answer.words()),
        401 | 403 => {
            Line::warn("get.absent", asked, answer.words(), format!("{valid}: a refusal looks like a broken signer"))
        }
        200..=299 => Line::fault("get.absent", asked, answer.words(), format!("{valid}: players take this for media")),
        _ => Line::fault("get.absent", asked, answer.words(), valid),
    };
    let is_error = (400..600).contains(&answer.status);
    [Some(line), is_error.then(|| cors("cors.404", exchange, answer, seen))].into_iter().flatten().collect()
}
