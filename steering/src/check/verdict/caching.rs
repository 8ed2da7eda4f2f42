//! How long copies may be used, and how they are asked for again.

use axum::http::header;

use super::Line;
use crate::check::playlist::Kind;
use crate::check::seen::{Answer, Object};

/// A playlist that names variants should be read anew after this, s: so long a change of it takes.
const PLAYLIST_S: u64 = 3_600;
/// Segments of a live stream are asked for by everybody within this, s.
const LIVE_SEGMENT_S: u64 = 60;
/// Copies whose lifetime nobody tells are kept as long as caches guess.
const UNSAID: &str = "neither Cache-Control nor Expires: caches guess";

/// What an answer says of its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    Unsaid,
    /// Not to be kept, or not by a CDN.
    Never,
    /// The longest that any cache may use it, s.
    Seconds(u64),
}

/// Lifetime, age, validators of an object.
pub(super) fn object(object: &Object) -> Vec<Line> {
    let Some(answer) = object.whole.with_status(200) else { return vec![] };
    let asked = &object.whole.asked;
    let mut lines = vec![control(object.kind, answer, asked)];
    lines.extend(age(object.kind, answer, asked));
    lines.push(again(object));
    lines
}

fn lifetime(answer: &Answer) -> Lifetime {
    let given = answer.list(&header::CACHE_CONTROL).unwrap_or_default();
    let mut longest = None;
    for directive in given.split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "private" | "no-cache" => return Lifetime::Never,
            "max-age" | "s-maxage" => {
                let seconds: u64 = value.trim().trim_matches('"').parse().unwrap_or(0);
                longest = longest.max(Some(seconds));
            }
            _ => {}
        }
    }
    let date = |name| httpdate::parse_http_date(answer.text(&name)?).ok();
    let expires = || {
        answer.headers.get(header::EXPIRES)?;
        let left = date(header::EXPIRES).zip(date(header::DATE)).and_then(|(end, now)| end.duration_since(now).ok());
        Some(left.map_or(0, |left| left.as_secs()))
    };
    longest
        .or_else(expires)
        .map_or(Lifetime::Unsaid, |seconds| if seconds == 0 { Lifetime::Never } else { Lifetime::Seconds(seconds) })
}

fn control(kind: Kind, answer: &Answer, asked: &str) -> Line {
    let check = "cache.control";
    let given =
        answer.list(&header::CACHE_CONTROL).or_else(|| Some(format!("Expires: {}", answer.text(&header::EXPIRES)?)));
    let came = given.unwrap_or_else(|| UNSAID.into());
    let lifetime = lifetime(answer);
    match (kind.changes_every_s(), kind) {
        (Some(every_s), _) => {
            let valid = format!("max-age of {every_s} or less: it changes every {every_s} s");
            match lifetime {
                Lifetime::Unsaid => Line::warn(check, asked, came, valid),
                Lifetime::Seconds(seconds) if seconds > every_s => Line::fault(check, asked, came, valid),
                _ => Line::ok(check, asked, came),
            }
        }
        (None, Kind::Segment) => {
            let valid = format!("max-age of {PLAYLIST_S} or more: a segment never changes (live: {LIVE_SEGMENT_S})");
            match lifetime {
                Lifetime::Seconds(seconds) if seconds >= LIVE_SEGMENT_S => Line::ok(check, asked, came),
                _ => Line::warn(check, asked, came, valid),
            }
        }
        (None, Kind::Multivariant | Kind::Mpd { .. }) => {
            let valid = format!("max-age of {PLAYLIST_S} or less: a change of it must show");
            match lifetime {
                Lifetime::Unsaid => Line::warn(check, asked, came, valid),
                Lifetime::Seconds(seconds) if seconds > PLAYLIST_S => Line::warn(check, asked, came, valid),
                _ => Line::ok(check, asked, came),
            }
        }
        (None, Kind::Media { .. }) => match lifetime {
            Lifetime::Unsaid => Line::warn(check, asked, came, "a max-age"),
            _ => Line::ok(check, asked, came),
        },
    }
}

/// How old the copy was: of what changes, no older than one change.
fn age(kind: Kind, answer: &Answer, asked: &str) -> Option<Line> {
    let age_s = answer.number(&header::AGE)?;
    let came = format!("Age: {age_s}");
    let limit = match (kind.changes_every_s(), lifetime(answer)) {
        (Some(every_s), _) => Some((every_s, true)),
        (None, Lifetime::Seconds(seconds)) => Some((seconds, false)),
        _ => None,
    };
    Some(match limit {
        Some((every_s, true)) if age_s > every_s => Line::fault(
            "cache.age",
            asked,
            came,
            format!("{every_s} or less: viewers wait for what it does not name yet"),
        ),
        Some((seconds, false)) if age_s > seconds => {
            Line::warn("cache.age", asked, came, format!("{seconds} or less, as its Cache-Control says"))
        }
        _ => Line::ok("cache.age", asked, came),
    })
}

fn again(object: &Object) -> Line {
    let Some(again) = &object.again else {
        return Line::warn(
            "cache.validator",
            &object.whole.asked,
            "neither ETag nor Last-Modified",
            "one of them, for 304",
        );
    };
    let check = "cache.validator";
    match &again.outcome {
        Ok(answer) if answer.status == 304 => Line::ok(check, &again.asked, "304"),
        // What changes may have changed since.
        Ok(answer) if answer.status == 200 && object.kind.changes_every_s().is_some() => {
            Line::ok(check, &again.asked, "200")
        }
        Ok(answer) if answer.status == 200 => Line::warn(check, &again.asked, "200, the whole again", "304"),
        _ => Line::fault(check, &again.asked, again.words(), "304"),
    }
}
