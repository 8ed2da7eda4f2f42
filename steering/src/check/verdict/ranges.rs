//! Parts of a segment, its head, and its bytes beside the origin's.

use axum::http::header;
use sha2::{Digest as _, Sha256};

use super::Line;
use crate::check::playlist::Kind;
use crate::check::seen::{Answer, Exchange, Object, Part, Parts, Seen};

/// All about the bytes of an object.
pub(super) fn object(object: &Object, seen: &Seen) -> Vec<Line> {
    let Some(whole) = object.whole.with_status(200) else { return vec![] };
    let mut lines = vec![];
    if let Some(parts) = &object.parts {
        lines.push(part("range.first", &parts.first, whole));
        lines.push(part("range.middle", &parts.middle, whole));
        lines.push(beyond(&parts.beyond, whole));
        lines.push(head(&parts.head, whole));
    }
    lines.extend(whole_at_origin(object, whole, seen));
    lines.extend(object.parts.as_ref().and_then(|parts| part_at_origin(parts, seen)));
    lines
}

/// Bytes of the whole, as the answer says or as were read.
fn length(whole: &Answer) -> u64 {
    whole.number(&header::CONTENT_LENGTH).unwrap_or(whole.body.len() as u64)
}

fn part(check: &'static str, part: &Part, whole: &Answer) -> Line {
    let asked = &part.exchange.asked;
    let range = format!("bytes {}-{}/{}", part.first, part.last, length(whole));
    let valid = format!("206 with Content-Range: {range} and these bytes");
    let fault = |came: String| Line::fault(check, asked, came, &valid);
    let answer = match &part.exchange.outcome {
        Ok(answer) if answer.status == 206 => answer,
        Ok(answer) if answer.status == 200 => {
            return fault(format!("200, the whole of {} bytes: Range is ignored", answer.body.len()));
        }
        _ => return fault(part.exchange.words()),
    };
    let given = answer.text(&header::CONTENT_RANGE).unwrap_or("none");
    let of_unknown = format!("bytes {}-{}/*", part.first, part.last);
    if given != range && given != of_unknown {
        return fault(format!("206 with Content-Range: {given}"));
    }
    let span = usize::try_from(part.first).unwrap_or(usize::MAX)..=usize::try_from(part.last).unwrap_or(usize::MAX);
    match whole.body.get(span) {
        Some(expected) if expected != &answer.body[..] => {
            fault(format!("206 with {} other bytes than the whole has there", answer.body.len()))
        }
        // Beyond what was read of the whole, the origin is asked.
        _ if answer.body.len() as u64 != part.last + 1 - part.first => {
            fault(format!("206 with {} bytes", answer.body.len()))
        }
        _ if given == of_unknown => Line::warn(check, asked, format!("206, {given}"), &valid),
        _ => Line::ok(check, asked, format!("206, {given}")),
    }
}

fn beyond(exchange: &Exchange, whole: &Answer) -> Line {
    let check = "range.beyond";
    let range = format!("bytes */{}", length(whole));
    let valid = format!("416 with Content-Range: {range}");
    match &exchange.outcome {
        Ok(answer) if answer.status == 416 => {
            let given = answer.text(&header::CONTENT_RANGE).unwrap_or("no Content-Range");
            let came = format!("416, {given}");
            if given == range {
                Line::ok(check, &exchange.asked, came)
            } else {
                Line::warn(check, &exchange.asked, came, valid)
            }
        }
        _ => Line::fault(check, &exchange.asked, exchange.words(), valid),
    }
}

fn head(exchange: &Exchange, whole: &Answer) -> Line {
    let length = length(whole);
    let valid = format!("200 with Content-Length: {length}");
    let Some(answer) = exchange.with_status(200) else {
        return Line::fault("head", &exchange.asked, exchange.words(), valid);
    };
    match answer.number(&header::CONTENT_LENGTH) {
        Some(given) if given == length => Line::ok("head", &exchange.asked, format!("200, {given} bytes")),
        Some(given) => Line::fault("head", &exchange.asked, format!("200 with Content-Length: {given}"), valid),
        None => Line::warn("head", &exchange.asked, "200 without Content-Length", valid),
    }
}

fn whole_at_origin(object: &Object, whole: &Answer, seen: &Seen) -> Option<Line> {
    let check = "origin.whole";
    let asked = &object.whole.asked;
    if seen.origin.is_none() {
        let is_segment = object.kind == Kind::Segment;
        return is_segment.then(|| Line::untried(check, asked, "no origin is known to compare with", "--origin URL"));
    }
    if whole.cut {
        return Some(Line::untried(check, asked, "too large to compare; a part of it is", ""));
    }
    let origin = object.origin.as_ref()?;
    let asked = format!("{asked} and {}", origin.asked);
    let Some(there) = origin.with_status(200).filter(|answer| !answer.cut) else {
        let came = format!("the origin: {}", origin.words());
        return Some(Line::warn(check, &asked, came, "200 from the origin, to compare with"));
    };
    Some(match (there.body == whole.body, object.kind) {
        (true, _) => {
            Line::ok(check, &asked, format!("the same {} bytes, SHA-256 {}", whole.body.len(), hash(&whole.body)))
        }
        (false, Kind::Segment) => Line::fault(check, &asked, differ(&whole.body, &there.body), "the origin's bytes"),
        (false, _) => {
            let valid = "the origin's bytes, unless this network rewrites playlists";
            Line::warn(check, &asked, differ(&whole.body, &there.body), valid)
        }
    })
}

fn part_at_origin(parts: &Parts, seen: &Seen) -> Option<Line> {
    let check = "origin.range";
    let origin = parts.origin.as_ref().filter(|_| seen.origin.is_some())?;
    // Without a part there is nothing to compare, and a line about that.
    let here = parts.middle.exchange.with_status(206)?;
    let asked = format!("{} and {}", parts.middle.exchange.asked, origin.asked);
    let span = usize::try_from(parts.middle.first).ok()?..=usize::try_from(parts.middle.last).ok()?;
    let there = match &origin.outcome {
        Ok(answer) if answer.status == 206 => Some(&answer.body[..]),
        Ok(answer) if answer.status == 200 => answer.body.get(span),
        _ => None,
    };
    let Some(there) = there else {
        let came = format!("the origin: {}", origin.words());
        return Some(Line::warn(check, &asked, came, "206 from the origin, to compare with"));
    };
    Some(if there == &here.body[..] {
        Line::ok(check, &asked, format!("the same {} bytes, SHA-256 {}", there.len(), hash(there)))
    } else {
        Line::fault(check, &asked, differ(&here.body, there), "the origin's bytes")
    })
}

fn differ(here: &[u8], there: &[u8]) -> String {
    let (ours, theirs) = (hash(here), hash(there));
    format!("{} bytes, SHA-256 {ours}; the origin's: {} bytes, {theirs}", here.len(), there.len())
}

/// The beginning of a hash: enough for people to compare.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
