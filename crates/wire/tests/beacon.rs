//! What an SDK writes is what the collector reads, whatever it says.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use spillway_wire::beacon::{
    Beacon, Context, Counters, ERROR_CLASSES, EVENT_TYPES, Event, Failure, PathwayCounters, Request, parse,
};

fn number() -> impl Strategy<Value = Option<u64>> {
    option::of(prop_oneof![0_u64..100_000, 0_u64..=1 << 53])
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of(prop_oneof!["[ -~]{0,24}", "\\PC{0,12}"])
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}"
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(words).prop_map(str::to_owned)
}

prop_compose! {
    fn counters()(n in vec(number(), 13)) -> Counters {
        Counters {
            watched_ms: n[0], playing_ms: n[1], startup_ms: n[2], stall_count: n[3], stall_ms: n[4], seek_count: n[5],
            seek_ms: n[6], pause_ms: n[7], bits_played: n[8], switch_up: n[9], switch_down: n[10],
            dropped_frames: n[11], decoded_frames: n[12],
        }
    }
}

fn pathways() -> impl Strategy<Value = BTreeMap<String, PathwayCounters>> {
    let counters = vec(number(), 7).prop_map(|n| PathwayCounters {
        requests_ok: n[0],
        requests_failed: n[1],
        requests_late: n[2],
        bytes: n[3],
        ttfb_sum_ms: n[4],
        playing_ms: n[5],
        stall_ms: n[6],
    });
    btree_map(id(), counters, 0..4)
}

prop_compose! {
    fn request()(
        host in text(), pathway in option::of(id()), status in option::of(any::<u16>()), n in vec(number(), 3),
        late in option::of(any::<bool>()),
    ) -> Request {
        Request { host, pathway, status, ttfb_ms: n[0], ttlb_ms: n[1], bytes: n[2], late }
    }
}

prop_compose! {
    fn failure()(
        severity in word(&["fatal", "warning"]), class in word(&ERROR_CLASSES), code in text(), message in text(),
        status in option::of(any::<u16>()), pathway in option::of(id()),
    ) -> Failure {
        Failure { severity, class, code, message, status, pathway }
    }
}

prop_compose! {
    fn event()(
        kind in word(&EVENT_TYPES), must in vec(0_u64..=1 << 53, 3), texts in vec(text(), 3), n in vec(number(), 5),
        playhead_ms in option::of(-1_000_000_i64..1_000_000_000), ids in vec(option::of(id()), 3),
        visible in option::of(any::<bool>()), request in request(), failure in failure(),
        counters in option::of(counters()), pathways in pathways(),
    ) -> Event {
        let (segment, failed) = (kind == "segment", kind == "error" || kind == "warning");
        Event {
            kind, seq: must[0], created_ms: must[1], mono_ms: must[2],
            state: texts[0].clone(), host: texts[1].clone(), reason: texts[2].clone(),
            playhead_ms, buffer_ms: n[0], throughput_kbps: n[1], bitrate_kbps: n[2], epoch: n[3], stall_ms: n[4],
            pathway: ids[0].clone(), from: ids[1].clone(), to: ids[2].clone(),
            visible, counters, pathways,
            request: segment.then_some(request),
            error: failed.then_some(failure),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_beacon_reads_back_as_it_was_written(
        view_id in id(), content_id in "[a-z]{1,8}/[a-z0-9]{1,8}", title in text(), sent_ms in 0_u64..=1 << 53,
        rtt_ms in number(), dropped in 0_u64..1_000, sdk in "[a-z./0-9]{0,20}", events in vec(event(), 0..8),
    ) {
        let ctx = Context { view_id, content_id, title, sample_rate: Some(0.25), ..Context::default() };
        let beacon = Beacon { v: 1, sdk, sent_ms, rtt_ms, dropped, ctx, events };
        let received = parse(&serde_json::to_vec(&beacon).expect("json")).expect("read");
        prop_assert_eq!(received.rejected, vec![]);
        prop_assert_eq!(received.beacon, beacon);
    }
}
