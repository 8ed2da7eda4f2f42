//! What goes into a recording comes out of it.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use spillway_lake::{LakeSession, lake_root, rounds};
use spillway_model::{
    BitsPerSecond, ContentClass, ContentId, GroupId, Millis, OriginGroupId, PathwayId, Ppm, Protocol,
};
use spillway_orchestrator_core as core;
use spillway_routing::{DrillNote, Target};
use spillway_wire::round as wire;

use super::*;

fn pathway() -> impl Strategy<Value = PathwayId> {
    "[a-z]{1,3}-[0-9]".prop_map(|id| PathwayId::new(&id).expect("id"))
}

fn region() -> impl Strategy<Value = RegionId> {
    "[a-z]{2}".prop_map(|id| RegionId::new(&id).expect("id"))
}

fn at() -> impl Strategy<Value = TimestampMs> {
    any::<u64>().prop_map(TimestampMs)
}

fn bits() -> impl Strategy<Value = BitsPerSecond> {
    any::<u64>().prop_map(BitsPerSecond)
}

/// Any number but NaN, which is not equal to itself.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>().prop_filter("equal to itself", |n| !n.is_nan()), 0.0..1.0]
}

fn seen() -> impl Strategy<Value = core::OriginSeen> {
    prop_oneof![Just(core::OriginSeen::Up), Just(core::OriginSeen::Failing), Just(core::OriginSeen::Unknown)]
}

fn cell() -> impl Strategy<Value = core::CellEvidence> {
    let kind = prop_oneof![Just(core::SourceKind::Collector), Just(core::SourceKind::Steer)];
    let protocol = prop_oneof![Just(Protocol::Hls), Just(Protocol::Dash), Just(Protocol::Other)];
    let named = (at(), any::<u64>(), ".*", kind, pathway(), region(), any::<Option<u32>>(), protocol);
    (named, prop::array::uniform23(prop_oneof![Just(0), any::<u64>()])).prop_map(|(named, n)| {
        let (at, interval, source, kind, pathway, region, asn, protocol) = named;
        core::CellEvidence {
            at,
            interval: Millis(interval),
            source,
            kind,
            pathway,
            region,
            asn,
            protocol,
            views_active: n[0],
            views_fixed: n[1],
            views_bad: n[2],
            views_new: n[3],
            windows: n[4],
            bad_windows: n[5],
            weight_milli: n[6],
            bad_weight_milli: n[7],
            weight_sq_micro: n[8],
            requests_ok: n[9],
            requests_failed: n[10],
            requests_late: n[11],
            views_failing: n[12],
            views_late: n[13],
            bits: n[14],
            heartbeats_due: n[15],
            heartbeats_received: n[16],
            sessions_assigned: n[17],
            sessions_polling: n[18],
            ghost_starts: n[19],
            sessions_untrusted: n[20],
            sessions_settled: n[21],
            sessions_fled: n[22],
        }
    })
}

fn load() -> impl Strategy<Value = core::LoadEvidence> {
    let rates = (bits(), bits(), bits());
    (pathway(), at(), rates, any::<u64>(), any::<Option<u32>>(), seen(), any::<bool>()).prop_map(
        |(pathway, at, rates, viewers, hits, origin, draining)| core::LoadEvidence {
            pathway,
            at,
            ceiling: rates.0,
            bits_out_10s: rates.1,
            viewers,
            bits_per_viewer: rates.2,
            hit_ratio: hits.map(Ppm),
            origin,
            draining,
        },
    )
}

fn probe() -> impl Strategy<Value = core::ProbeEvidence> {
    let object =
        prop_oneof![Just(core::ProbeObject::Small), Just(core::ProbeObject::Segment), Just(core::ProbeObject::Miss)];
    (pathway(), region(), object, at(), any::<bool>(), any::<u64>(), ".*").prop_map(
        |(pathway, region, object, at, ok, total_ms, detail)| core::ProbeEvidence {
            pathway,
            region,
            object,
            at,
            ok,
            total_ms,
            detail,
        },
    )
}

fn order() -> impl Strategy<Value = core::Override> {
    let kind = prop_oneof![
        Just(core::OverrideKind::Drain),
        Just(core::OverrideKind::Exclude),
        Just(core::OverrideKind::Pin),
        number().prop_map(core::OverrideKind::Weight),
        bits().prop_map(core::OverrideKind::Cap),
    ];
    let target = prop_oneof![
        pathway().prop_map(Target::Pathway),
        "[a-z]{1,4}".prop_map(|id| Target::Group(GroupId::new(&id).expect("id")))
    ];
    (".*", kind, target, prop::option::of(region()), ".*", ".*", at(), at()).prop_map(
        |(id, kind, target, region, by, reason, since, expires)| core::Override {
            id,
            kind,
            target,
            region,
            by,
            reason,
            since,
            expires,
        },
    )
}

fn title() -> impl Strategy<Value = ContentId> {
    "[a-z]{1,4}/[a-z]{1,4}".prop_map(|id| ContentId::new(&id).expect("id"))
}

fn origin() -> impl Strategy<Value = core::OriginEvidence> {
    ("[a-z]{1,4}", at(), bits(), seen(), vec(title(), 0..3)).prop_map(
        |(id, at, bits_out_10s, state, failing_content)| core::OriginEvidence {
            origin_group: OriginGroupId::new(&id).expect("id"),
            at,
            bits_out_10s,
            state,
            failing_content,
        },
    )
}

fn calm() -> impl Strategy<Value = core::Calm> {
    let kind = prop_oneof![Just(core::CalmKind::Freeze), Just(core::CalmKind::AdBreak), Just(core::CalmKind::Event)];
    (kind, prop::option::of(region()), at(), ".*").prop_map(|(kind, region, until, reason)| core::Calm {
        kind,
        region,
        until,
        reason,
    })
}

fn learned() -> impl Strategy<Value = core::Learned> {
    (
        btree_map((pathway(), region(), 0..168_u8), number(), 0..4),
        btree_map((pathway(), region(), any::<u32>()), (number(), number()), 0..4),
        btree_map(pathway(), (number(), number()), 0..3),
        btree_map(region(), number(), 0..3),
        btree_map(region(), bits(), 0..3),
    )
        .prop_map(|(baselines, networks, hits, growth_10min, bits_per_view)| core::Learned {
            baselines,
            networks: networks
                .into_iter()
                .map(|(key, (windows, bad_windows))| (key, core::NetworkHealth { windows, bad_windows }))
                .collect(),
            hit_ratios: hits
                .into_iter()
                .map(|(id, (warm, after_move))| (id, core::HitRatio { warm, after_move }))
                .collect(),
            growth_10min,
            bits_per_view,
        })
}

fn bills() -> impl Strategy<Value = BTreeMap<PathwayId, core::Bill>> {
    btree_map(
        pathway(),
        (number(), number(), number(), any::<u32>()).prop_map(|(used_gb, profile, level_mbps, free_slots)| {
            core::Bill { used_gb, profile, level_mbps, free_slots }
        }),
        0..3,
    )
}

fn round_input() -> impl Strategy<Value = RoundInput> {
    let content = (title(), region(), any::<u64>()).prop_map(|(content, region, views_active)| core::ContentEvidence {
        content,
        region,
        views_active,
    });
    let class = ("[a-z]{1,4}", region(), any::<u64>()).prop_map(|(class, region, views_active)| core::ClassEvidence {
        class: ContentClass::new(&class).expect("id"),
        region,
        views_active,
    });
    let limit = (pathway(), prop::option::of(region()), prop::option::of(bits()), bits(), at())
        .prop_map(|(pathway, region, soft, hard, until)| core::CapacityLimit { pathway, region, soft, hard, until });
    let drill = (".*", ".*", pathway(), ".*", at()).prop_map(|(id, kind, pathway, phase, started)| DrillNote {
        id,
        kind,
        pathway,
        phase,
        started,
    });
    let heard = (
        vec(cell(), 0..4),
        vec(load(), 0..3),
        vec(probe(), 0..3),
        vec(content, 0..3),
        vec(order(), 0..3),
        vec(class, 0..3),
        vec(origin(), 0..3),
        vec(limit, 0..3),
        vec(calm(), 0..3),
        prop::option::of(drill),
    );
    let taught = (btree_map((pathway(), region()), number(), 0..4), learned(), bills());
    (heard, taught, any::<u32>(), any::<u32>()).prop_map(|(heard, taught, frames_expected, frames_received)| {
        let (cells, loads, probes, content, overrides, classes, origins, limits, calm, drill) = heard;
        let (baselines, learned, bills) = taught;
        RoundInput {
            cells,
            loads,
            probes,
            content,
            overrides,
            classes,
            origins,
            limits,
            calm,
            baselines,
            learned: Arc::new(learned),
            bills,
            frames_expected,
            frames_received,
            drill,
        }
    })
}

fn read_back(heard: &str, taught: &str) -> RoundInput {
    let mut read = input(wire::parse(heard).expect("heard")).expect("valid");
    Lessons::try_from(wire::parse::<wire::Taught>(taught).expect("taught")).expect("valid").teach(&mut read);
    read
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_recorded_of_a_round_reads_back_as_it_was(given in round_input()) {
        let (heard, taught) = (text(&shape::heard(&given)), text(&shape::taught(&given)));
        prop_assert_eq!(read_back(&heard, &taught), given);
    }
}

fn word(heard: &str, word: &str, other: &str) -> String {
    assert!(heard.contains(word), "{heard}");
    let parsed = wire::parse::<wire::Heard>(&heard.replace(word, other)).expect("shape");
    input(parsed).expect_err("refused").to_string()
}

#[test]
fn a_text_that_is_no_word_is_named_with_those_that_are() {
    let (a, eu) = (PathwayId::new("cdn-a").expect("id"), RegionId::new("eu").expect("id"));
    let given = RoundInput {
        cells: vec![core::CellEvidence::empty(TimestampMs(1), "c", core::SourceKind::Steer, a, eu)],
        calm: vec![core::Calm {
            kind: core::CalmKind::Event,
            region: None,
            until: TimestampMs(1),
            reason: String::new(),
        }],
        ..RoundInput::default()
    };
    let heard = text(&shape::heard(&given));
    assert!(word(&heard, "\"steer\"", "\"stere\"").contains("stere\" is unknown (valid: collector, steer)"));
    assert!(word(&heard, "\"event\"", "\"feast\"").contains("valid: freeze, ad break, event"));
    assert!(word(&heard, "cdn-a", "cdn a").contains("pathway id"));
    assert!(word(&heard, "\"other\"", "\"rtmp\"").contains("rtmp"));
}

#[tokio::test]
async fn rows_leave_out_what_did_not_change_and_a_lost_row_makes_the_next_one_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let root = lake_root(dir.path().to_str().expect("utf-8")).expect("root");
    let mut recorder = Recorder::start(root.clone(), "o-1", "[policy]\n".into());
    let taught = RoundInput { learned: Arc::new(core::Learned::default()), ..RoundInput::default() };
    let newer = |bits: u64| {
        let per_view = [(RegionId::new("eu").expect("id"), BitsPerSecond(bits))].into();
        let learned = Arc::new(core::Learned { bits_per_view: per_view, ..core::Learned::default() });
        RoundInput { learned, ..RoundInput::default() }
    };
    for (second, input) in [taught.clone(), taught.clone(), newer(1), newer(1), newer(2)].into_iter().enumerate() {
        let before = recorder.before(&Manifests::new());
        assert_eq!(before.is_some(), second == 0);
        recorder.record(TimestampMs(1_767_225_600_000 + second as u64 * 2_000), input, before, Manifests::new());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    // Nobody takes rows off the queue here: those that do not fit are lost.
    for second in 5..=5 + QUEUE_MAX as u64 {
        let before = recorder.before(&Manifests::new());
        recorder.record(TimestampMs(1_767_225_600_000 + second * 2_000), taught.clone(), before, Manifests::new());
    }
    assert!(recorder.before(&Manifests::new()).is_some());
    recorder.close().await;

    let session = LakeSession::open(&root, vec![]).await.expect("open");
    let names = rounds::names(&session, 0, u64::MAX / 2).await.expect("names");
    assert_eq!(names.iter().map(|name| name.seq).collect::<Vec<_>>(), (0..5 + QUEUE_MAX as u64).collect::<Vec<_>>());
    let rows = rounds::read(&session, &names).await.expect("rows");
    let has = |of: fn(&Round) -> bool| rows.iter().map(of).collect::<Vec<bool>>()[..5].to_vec();
    assert_eq!(has(|row| row.config_toml.is_some()), [true, false, false, false, false]);
    assert_eq!(has(|row| row.taught_json.is_some()), [true, false, true, false, true]);
    assert_eq!(has(|row| row.published_json.is_some()), [false; 5]);
    assert!(rows.iter().all(|row| row.started_ms == 1_767_225_600_000 && row.orchestrator == "o-1"));
}
