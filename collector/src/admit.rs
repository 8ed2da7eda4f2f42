//! Admit: what the bytes mean, which events hold, and when they happened.

use std::sync::Arc;

use spillway_lake::events::{EventBatch, StampedEvent};
use spillway_lake::quarantine::{Quarantined, QuarantinedEvent};
use spillway_model::limits::{EVENT_MAX_AGE_MS, NUMBER_MAX};
use spillway_wire::beacon::{Event, Received, Rejected};

use crate::limit::Prefix;
use crate::receive::Sender;
use crate::{App, clean, quarantine};

/// A beacon whose good events may be stored.
pub(crate) struct Admitted {
    pub(crate) batch: EventBatch,
    pub(crate) prefix: Prefix,
    pub(crate) rejected: Vec<Rejected>,
}

/// Checks each event, gives it its time and its pathway, and adds what the address says.
pub(crate) fn admit(app: &Arc<App>, sender: &Sender, received: Received, received_ms: u64) -> Admitted {
    let Received { beacon, mut rejected, rejected_json, .. } = received;
    let total = beacon.events.len() + rejected.len();
    app.account.received(total);
    let refused: Vec<usize> = rejected.iter().map(|event| event.index).collect();
    let indexes = (0..total).filter(|index| !refused.contains(index));
    let mut kept: Vec<QuarantinedEvent> =
        rejected.iter().zip(rejected_json).map(|(event, json)| refusal(sender, event, &json)).collect();
    let mut events = Vec::with_capacity(beacon.events.len());
    for (index, mut event) in indexes.zip(beacon.events) {
        match stamp(&event, received_ms, beacon.sent_ms) {
            Ok(event_ms) => {
                clean::event(app, &mut event);
                events.push(StampedEvent { event_ms, event, ..StampedEvent::default() });
            }
            Err(reason) => {
                let event_of = Rejected { index, reason: reason.into() };
                kept.push(refusal(sender, &event_of, &serde_json::to_string(&event).unwrap_or_default()));
                rejected.push(event_of);
            }
        }
    }
    rejected.sort_by_key(|event| event.index);
    for event in &rejected {
        app.account.discarded(stable(&event.reason), 1);
    }
    if sender.gpc {
        metrics::counter!("spillway_collector_gpc_beacons_total").increment(1);
    }
    let (mut sdk, mut ctx) = (beacon.sdk, beacon.ctx);
    clean::word(&mut sdk);
    clean::context(&mut ctx, sender.gpc, sender.device);
    let batch = EventBatch {
        property: sender.property.as_str().to_owned(),
        source: sender.source.clone(),
        received_ms,
        region: sender.place.cohort.region.as_str().to_owned(),
        asn: sender.place.cohort.asn,
        country: sender.place.country.map(|country| country.as_str().to_owned()),
        sdk,
        rtt_ms: beacon.rtt_ms.filter(|rtt| *rtt <= NUMBER_MAX),
        dropped: Some(beacon.dropped.min(NUMBER_MAX)),
        ctx,
        events,
    };
    quarantine::keep(
        app,
        Quarantined {
            property: batch.property.clone(),
            received_ms,
            view_id: Some(batch.ctx.view_id.clone()),
            source: batch.source.clone(),
            sdk: batch.sdk.clone(),
            events: kept,
        },
    );
    Admitted { batch, prefix: sender.prefix, rejected }
}

/// A refused event for quarantine. Its text may hold anything, so nothing of it is kept under Global Privacy Control.
fn refusal(sender: &Sender, event: &Rejected, json: &str) -> QuarantinedEvent {
    let raw = if sender.gpc { None } else { quarantine::scrubbed(json) };
    QuarantinedEvent { row: event.index, reason: stable(&event.reason).to_owned(), raw }
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
}
