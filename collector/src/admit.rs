//! Admit: what the bytes mean, which events hold, and when they happened.

use std::sync::Arc;

use spillway_lake::events::{EventBatch, StampedEvent};
use spillway_model::limits::EVENT_MAX_AGE_MS;
use spillway_wire::beacon::{Event, Received, Rejected};

use crate::App;
use crate::limit::Prefix;
use crate::receive::Sender;

/// What JavaScript can count to; larger numbers are not meant.
const NUMBER_MAX: u64 = 1 << 53;
/// Bytes of an error's message.
const MESSAGE_MAX_BYTES: usize = 1024;

/// A beacon whose good events may be stored.
pub(crate) struct Admitted {
    pub(crate) batch: EventBatch,
    pub(crate) prefix: Prefix,
    pub(crate) rejected: Vec<Rejected>,
}

/// Checks each event, gives it its time and its pathway, and adds what the address says. The address ends here.
pub(crate) fn admit(app: &Arc<App>, sender: &Sender, received: Received, received_ms: u64) -> Admitted {
    let Received { beacon, mut rejected, .. } = received;
    let total = beacon.events.len() + rejected.len();
    app.account.received(total);
    let refused: Vec<usize> = rejected.iter().map(|event| event.index).collect();
    let indexes = (0..total).filter(|index| !refused.contains(index));
    let mut events = Vec::with_capacity(beacon.events.len());
    for (index, mut event) in indexes.zip(beacon.events) {
        match stamp(&event, received_ms, beacon.sent_ms) {
            Ok(event_ms) => {
                clean(app, &mut event);
                events.push(StampedEvent { event_ms, event });
            }
            Err(reason) => rejected.push(Rejected { index, reason: reason.into() }),
        }
    }
    rejected.sort_by_key(|event| event.index);
    for event in &rejected {
        app.account.discarded(stable(&event.reason), 1);
    }
    let cohort = app.deployment.cohort(sender.address);
    let batch = EventBatch {
        property: sender.property.as_str().to_owned(),
        source: "sdk".into(),
        received_ms,
        region: cohort.region.as_str().to_owned(),
        asn: cohort.asn,
        sdk: beacon.sdk,
        rtt_ms: beacon.rtt_ms.filter(|rtt| *rtt <= NUMBER_MAX),
        dropped: beacon.dropped.min(NUMBER_MAX),
        ctx: beacon.ctx,
        events,
    };
    Admitted { batch, prefix: sender.prefix, rejected }
}

/// The reason as the static word that counters use.
fn stable(reason: &str) -> &'static str {
    const REASONS: [&str; 5] = ["bad_value", "unknown_type", "missing_field", "too_old", "bad_id"];
    REASONS.into_iter().find(|known| *known == reason).unwrap_or("bad_value")
}

/// Event time: arrival less the sender's own distance between creation and sending; never in the future.
fn stamp(event: &Event, received_ms: u64, sent_ms: u64) -> Result<u64, &'static str> {
    if !in_range(event) || sent_ms > NUMBER_MAX {
        return Err("bad_value");
    }
    let age_ms = sent_ms.saturating_sub(event.created_ms);
    if age_ms > EVENT_MAX_AGE_MS {
        return Err("too_old");
    }
    Ok(received_ms.saturating_sub(age_ms))
}

fn in_range(event: &Event) -> bool {
    let counters = event.counters.iter().flat_map(|c| {
        [
            c.watched_ms,
            c.playing_ms,
            c.startup_ms,
            c.stall_count,
            c.stall_ms,
            c.seek_count,
            c.seek_ms,
            c.pause_ms,
            c.bits_played,
            c.switch_up,
            c.switch_down,
            c.dropped_frames,
            c.decoded_frames,
        ]
    });
    let by_pathway = event.pathways.values().flat_map(|c| {
        let requests = [c.requests_ok, c.requests_failed, c.requests_late, c.bytes];
        requests.into_iter().chain([c.ttfb_sum_ms, c.playing_ms, c.stall_ms])
    });
    let of_request = event.request.iter().flat_map(|request| [request.ttfb_ms, request.ttlb_ms, request.bytes]);
    let own = [event.buffer_ms, event.throughput_kbps, event.bitrate_kbps, event.epoch, event.stall_ms];
    let playhead = event.playhead_ms.is_none_or(|ms| ms.unsigned_abs() <= NUMBER_MAX);
    let must = [event.seq, event.created_ms, event.mono_ms];
    let optional = own.into_iter().chain(counters).chain(by_pathway).chain(of_request).flatten();
    playhead && must.into_iter().chain(optional).all(|value| value <= NUMBER_MAX)
}

/// Pathways from hosts, no URL queries, short messages.
fn clean(app: &App, event: &mut Event) {
    let of_host = |host: &Option<String>| {
        host.as_deref().and_then(|host| app.deployment.pathway_of_host(host)).map(|id| id.as_str().to_owned())
    };
    if event.pathway.is_none() {
        event.pathway = of_host(&event.host);
    }
    if let Some(request) = &mut event.request
        && request.pathway.is_none()
    {
        request.pathway = of_host(&request.host);
    }
    if let Some(message) = event.error.as_mut().and_then(|error| error.message.as_mut()) {
        *message = without_queries(message);
    }
}

fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MESSAGE_MAX_BYTES));
    for word in text.split_inclusive(char::is_whitespace) {
        let cut = if word.contains("://") { word.find(['?', '#']) } else { None };
        match cut {
            Some(at) => {
                out.push_str(&word[..at]);
                out.push_str(&word[word.trim_end().len()..]);
            }
            None => out.push_str(word),
        }
    }
    let end = (0..=MESSAGE_MAX_BYTES.min(out.len())).rev().find(|end| out.is_char_boundary(*end));
    out.truncate(end.unwrap_or(0));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;

    fn event(created_ms: u64) -> Event {
        Event { created_ms, ..Event::default() }
    }

    #[test]
    fn a_wrong_clock_does_no_harm() {
        let year_1970 = 5_000;
        assert_eq!(stamp(&event(year_1970 - 300), NOW_MS, year_1970), Ok(NOW_MS - 300));
        let year_2100 = 4_102_444_800_000;
        assert_eq!(stamp(&event(year_2100), NOW_MS, year_2100 + 10), Ok(NOW_MS - 10));
    }

    #[test]
    fn the_future_is_now_and_two_days_are_too_old() {
        assert_eq!(stamp(&event(NOW_MS + 5_000), NOW_MS, NOW_MS), Ok(NOW_MS));
        assert_eq!(stamp(&event(NOW_MS - EVENT_MAX_AGE_MS), NOW_MS, NOW_MS), Ok(NOW_MS - EVENT_MAX_AGE_MS));
        assert_eq!(stamp(&event(NOW_MS - EVENT_MAX_AGE_MS - 1), NOW_MS, NOW_MS), Err("too_old"));
        assert_eq!(stamp(&event(u64::MAX), NOW_MS, NOW_MS), Err("bad_value"));
    }

    #[test]
    fn messages_lose_the_queries_of_their_urls() {
        let text = "GET https://cdn.example/a.m4s?token=secret failed, why?";
        assert_eq!(without_queries(text), "GET https://cdn.example/a.m4s failed, why?");
        assert_eq!(without_queries(&"ä".repeat(2_000)).len(), MESSAGE_MAX_BYTES);
    }
}
