//! What an MPD says of segments for several representations at once, and what follows from it for one.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Level, PLACE};

/// A `SegmentTemplate` or `SegmentList`, with what it has from those around it.
#[derive(Clone)]
pub(super) struct Template {
    pub media: Option<String>,
    /// Of a list, in its order, the last ones.
    pub urls: Option<Arc<[Option<String>]>>,
    /// So many URLs of the list came before those.
    pub urls_left_out: u64,
    pub init: Option<String>,
    pub timescale: u64,
    pub first: u64,
    pub duration: Option<u64>,
    /// How much earlier than complete a segment may be asked for, ms.
    pub early_ms: u64,
    pub timeline: Option<Vec<Run>>,
}

/// An `S`: so many segments of one length.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub at: Option<u64>,
    pub duration: u64,
    /// -1: up to the next one.
    pub repeat: i64,
}

impl Default for Template {
    /// What holds where nothing is said.
    fn default() -> Self {
        Self {
            media: None,
            urls: None,
            urls_left_out: 0,
            init: None,
            timescale: 1,
            first: 1,
            duration: None,
            early_ms: 0,
            timeline: None,
        }
    }
}

impl Template {
    pub(super) fn ms(&self, ticks: u64) -> u64 {
        u64::try_from(u128::from(ticks) * 1000 / u128::from(self.timescale.max(1))).unwrap_or(u64::MAX)
    }

    /// What an element says, in the place of what is said around it.
    pub(super) fn of(level: &Level) -> Self {
        let outer = level.template.clone().unwrap_or_default();
        let number = |name| level.attribute(name).and_then(|text| text.trim().parse::<u64>().ok());
        let text = |name| level.attribute(name).map(str::to_owned);
        let early_ms = level.attribute("availabilityTimeOffset").and_then(|text| text.trim().parse::<f64>().ok());
        // "INF" says nothing about when.
        let early_ms = early_ms.filter(|s| s.is_finite() && *s > 0.0).map(|s| (s * 1000.0).min(3_600_000.0) as u64);
        Self {
            media: text("media").or(outer.media),
            init: text("initialization").or(outer.init),
            timescale: number("timescale").unwrap_or(outer.timescale),
            first: number("startNumber").unwrap_or(outer.first),
            duration: number("duration").or(outer.duration),
            early_ms: early_ms.unwrap_or(outer.early_ms),
            timeline: outer.timeline,
            urls: outer.urls,
            urls_left_out: outer.urls_left_out,
        }
    }
}

/// Begin and length of each segment of a timeline, at most `max` of them, the last.
pub(super) fn expanded(timeline: &[Run], end: Option<u128>, max: usize) -> VecDeque<(u64, u64)> {
    let mut out = VecDeque::new();
    let mut at = 0_u64;
    for (index, run) in timeline.iter().enumerate() {
        at = run.at.unwrap_or(at);
        let until = timeline.get(index + 1).and_then(|next| next.at).map(u128::from).or(end);
        let count = match u64::try_from(run.repeat) {
            Ok(repeat) => repeat.saturating_add(1),
            Err(_) => until.map_or(1, |until| {
                let rest = until.saturating_sub(u128::from(at)).div_ceil(u128::from(run.duration.max(1)));
                u64::try_from(rest).unwrap_or(u64::MAX)
            }),
        };
        // What would not be kept is not made.
        let left_out = count.saturating_sub(max as u64);
        at = at.saturating_add(run.duration.saturating_mul(left_out));
        for _ in left_out..count {
            if out.len() == max {
                out.pop_front();
            }
            out.push_back((at, run.duration));
            at = at.saturating_add(run.duration);
        }
    }
    out
}

/// A template's text with its `$…$` replaced; `None` for what is not known.
pub(super) fn filled(text: &str, level: &Level, number: &str, time: &str) -> Option<String> {
    let mut out = String::new();
    for (at, piece) in text.split('$').enumerate() {
        if at % 2 == 0 {
            out.push_str(piece);
            continue;
        }
        let (name, format) = piece.split_once('%').unwrap_or((piece, ""));
        let value = match name {
            "" => "$",
            "RepresentationID" => level.attribute("id")?,
            "Bandwidth" => level.attribute("bandwidth")?,
            "Number" => number,
            "Time" => time,
            _ => return None,
        };
        let width = digits(format);
        let zeros = if value == PLACE { 0 } else { width.saturating_sub(value.len()) };
        out.extend(std::iter::repeat_n('0', zeros));
        out.push_str(value);
    }
    // An odd one out is no template.
    text.matches('$').count().is_multiple_of(2).then_some(out)
}

/// The digits that `$Number%05d$` asks for.
pub(super) fn width(media: &str) -> usize {
    media.split('$').find_map(|piece| piece.strip_prefix("Number%")).map_or(0, digits)
}

/// `05d` is five.
fn digits(format: &str) -> usize {
    format.trim_end_matches('d').parse().unwrap_or(0).min(20)
}
