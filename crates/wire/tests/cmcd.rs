//! CMCD: what real players send, what is refused, and that nothing is lost on the way through a record.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use spillway_wire::cmcd::{
    Cmcd, EventName, Mapped, Measure, NextObject, ObjectType, SenderMark, State, StreamType, StreamingFormat, identify,
    is_first, parse_events, to_event,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn files(folder: &str, ending: &str) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = fs::read_dir(golden(folder))
        .expect("folder")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .map(|path| (path.file_stem().expect("name").to_string_lossy().into_owned(), fs::read(&path).expect("file")))
        .collect();
    all.sort();
    all
}

fn mapped(body: &[u8]) -> Vec<Mapped> {
    let mark = SenderMark::new(b"a secret of the deployment", b"192.0.2.7");
    let received = parse_events(body).expect("body");
    assert_eq!(received.rejected, []);
    let event =
        |record: &spillway_wire::cmcd::Record| to_event(&record.cmcd, &identify(record, mark).expect("identity"));
    received.records.iter().map(event).collect()
}

/// `<name>.txt` as posted, `<name>.json` the events that it becomes. With `SPILLWAY_BLESS=1` a missing one is made.
#[test]
fn what_players_post_becomes_the_events_beside_it() {
    let bodies = files("cmcd", "txt");
    assert!(bodies.len() >= 5, "{bodies:?}");
    for (name, body) in bodies {
        let found = serde_json::to_value(mapped(&body)).expect("json");
        let path = golden(&format!("cmcd/{name}.json"));
        if std::env::var_os("SPILLWAY_BLESS").is_some() && !path.exists() {
            let mut text = serde_json::to_string_pretty(&found).expect("json");
            text.push('\n');
            fs::write(&path, text).expect("written");
        }
        let expected: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect(&name)).expect("json");
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn one_golden_record_has_every_key_typed() {
    let (_, body) = files("cmcd", "txt").into_iter().find(|(name, _)| name == "every-key").expect("file");
    let record = parse_events(&body).expect("body").records.remove(0).cmcd;
    let text = format!(",{}", record.encode());
    for key in Cmcd::KEYS {
        assert!(text.contains(&format!(",{key}=")) || text.contains(&format!(",{key},")), "{key} in {text}");
    }
    assert_eq!(record.others.keys().collect::<Vec<_>>(), ["com.example-who"]);
}

/// `<reason>--<what>.txt` for a refused body, `record-<reason>--<what>.txt` for one whose second record is refused.
#[test]
fn bad_input_is_refused_for_the_reason_in_its_name() {
    let bodies = files("cmcd-bad", "txt");
    assert!(bodies.len() >= 20, "{}", bodies.len());
    for (name, body) in bodies {
        let (reason, _) = name.split_once("--").expect("reason--what");
        let read = parse_events(&body);
        match reason.strip_prefix("record-") {
            None => assert_eq!(read.expect_err(&name).reason(), reason, "{name}"),
            Some(reason) => {
                let received = read.expect(&name);
                let rejected: Vec<(usize, &str)> =
                    received.rejected.iter().map(|(index, error)| (*index, error.reason())).collect();
                assert_eq!((received.records.len(), rejected), (1, vec![(1, reason)]), "{name}");
            }
        }
    }
}

#[test]
fn a_record_sent_again_has_its_number_and_a_new_generation_of_sn_has_others() {
    let seqs = |body: &str| mapped(body.as_bytes()).iter().map(|mapped| mapped.event.seq).collect::<Vec<_>>();
    let first = "e=t,sid=\"s\",sn=0,ts=1767225600000,v=2\ne=ps,sid=\"s\",sn=1,sta=s,ts=1767225600000,v=2";
    assert_eq!(seqs(first), seqs(&format!("{first}\n")));
    let loaded_again = first.replace("1767225600000", "1767225609000");
    assert!(seqs(first).iter().all(|seq| !seqs(&loaded_again).contains(seq)));
    assert!(seqs(first).windows(2).all(|pair| pair[0] < pair[1]), "in one millisecond sn orders");
    let without_sn = "e=rr,ts=7,v=2\ne=rr,ts=7,v=2";
    let twice = seqs(without_sn);
    assert_ne!(twice[0], twice[1], "equal lines of one body are two records");
    assert_eq!(seqs(without_sn), twice);
    assert!(twice.iter().all(|seq| *seq < 1 << 53));
    let one_end = "e=rr,rc=200,sid=\"s\",sn=5,ts=7,ttlb=9,url=\"https://a.example/1.m4s\",v=2";
    let ends = seqs(&format!("{one_end}\n{}", one_end.replace("1.m4s", "2.m4s")));
    assert_ne!(ends[0], ends[1], "dash.js gives responses that end together one sn");
}

#[test]
fn only_the_first_number_of_a_target_says_that_it_is_the_first() {
    let first = |sn: &str| {
        let body = format!("e=t,sid=\"s\"{sn},ts=1767225600000,v=2");
        is_first(mapped(body.as_bytes())[0].event.seq)
    };
    assert!(first(",sn=0"));
    for sn in ["", ",sn=1", ",sn=16", ",sn=2048"] {
        assert!(!first(sn), "{sn:?}");
    }
}

#[test]
fn records_without_sid_are_of_a_bucket_that_tells_no_address() {
    let record = parse_events(b"e=t,ts=1767225600000,v=2").expect("body").records.remove(0);
    let of = |secret: &[u8], address: &[u8]| identify(&record, SenderMark::new(secret, address)).expect("identity");
    let one = of(b"secret", b"192.0.2.7");
    assert!(!one.linked);
    assert_eq!(one.view_id.as_str().len(), "unlinked-".len() + 3);
    assert_eq!(one, of(b"secret", b"192.0.2.7"), "the same at every collector");
    assert_ne!(one.seq, of(b"secret", b"192.0.2.8").seq, "equal records of two viewers are two");
    assert_ne!(one.view_id, of(b"another", b"192.0.2.7").view_id);
}

fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..100_000, 0_u64..1_000_000_000_000_000]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,24}", "\\PC{0,12}", Just("a \"quoted\" \\ text".to_owned())]
}

fn object() -> impl Strategy<Value = ObjectType> {
    prop::sample::select(vec!["m", "a", "v", "av", "i", "c", "tt", "k", "o"])
        .prop_map(|t| ObjectType::of(t).expect("t"))
}

fn measures() -> impl Strategy<Value = Vec<Measure>> {
    vec((integer(), option::of(object())).prop_map(|(value, object)| Measure { value, object }), 0..4)
}

fn next_objects() -> impl Strategy<Value = Vec<NextObject>> {
    vec((text(), option::of("[0-9]{1,4}-[0-9]{0,4}")).prop_map(|(path, range)| NextObject { path, range }), 0..3)
}

/// Values of other keys as structured fields write them.
fn others() -> impl Strategy<Value = BTreeMap<String, String>> {
    let value =
        prop::sample::select(vec!["\"a b\"", "12", "-7", "0.25", "tok/en", "(1 2;v)", "?1", "?0", ":YWI=:", "@5"]);
    btree_map("com\\.example-[a-z0-9]{1,8}", value.prop_map(str::to_owned), 0..6)
}

prop_compose! {
    fn record()(
        m in vec(option::of(measures()), 15),
        n in vec(option::of(integer()), 12),
        t in vec(option::of(text()), 11),
        b in vec(option::of(any::<bool>()), 4),
        signed in vec(option::of(-1_000_000_i64..1_000_000), 2),
        pr in option::of((0_u32..64_000).prop_map(|thousandths| f64::from(thousandths) / 1000.0)),
        ec in option::of(vec(text(), 0..3)),
        nor in option::of(next_objects()),
        ot in option::of(object()),
        e in option::of(prop::sample::select(vec!["abs", "ps", "rr", "t", "um"])),
        sta in option::of(prop::sample::select(vec!["s", "p", "k", "r", "a", "w", "e", "f", "q", "d"])),
        st in option::of(prop::sample::select(vec!["v", "l", "ll"])),
        sf in option::of(prop::sample::select(vec!["d", "h", "e", "s", "o"])),
        others in others(),
    ) -> Cmcd {
        let (mut m, mut n, mut t) = (m.into_iter(), n.into_iter(), t.into_iter());
        let (mut m, mut n, mut t) = (|| m.next().flatten(), || n.next().flatten(), || t.next().flatten());
        Cmcd {
            ab_kbps: m(), bl_ms: m(), br_kbps: m(), bsa: m(), bsd_ms: m(), bsda_ms: m(), lab_kbps: m(), lb_kbps: m(),
            mtp_kbps: m(), pb_kbps: m(), tab_kbps: m(), tb_kbps: m(), tbl_ms: m(), tpb_kbps: m(),
            d_ms: n(), dfa: n(), dl_ms: n(), msd_ms: n(), rc: n(), rtp_kbps: n(), sn: n(), ts_ms: n(), ttfb_ms: n(),
            ttfbb_ms: n(), ttlb_ms: n(), v: n(),
            cdn: t(), cen: t(), cid: t(), cmsdd: t(), cmsds: t(), cs: t(), h: t(), nrr: t(), sid: t(), smrt: t(),
            url: t(),
            bg: b[0], bs: b[1], nr: b[2], su: b[3],
            ltc_ms: signed[0], pt_ms: signed[1],
            pr, ec, nor, ot,
            e: e.and_then(EventName::of),
            sta: sta.and_then(State::of),
            st: st.and_then(StreamType::of),
            sf: sf.and_then(StreamingFormat::of),
            others,
            others_dropped: 0,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_reads_back_as_it_was_written(record in record()) {
        let text = record.encode();
        prop_assume!(text.len() <= spillway_model::limits::CMCD_RECORD_MAX_BYTES);
        prop_assert!(text.is_ascii() && !text.contains('\n'));
        prop_assert_eq!(Cmcd::parse(text.as_bytes()).expect("read"), record);
    }

    #[test]
    fn a_body_reads_back_record_by_record(records in vec(record(), 1..6)) {
        let lines: Vec<String> = records.iter().map(Cmcd::encode).filter(|line| !line.is_empty()).collect();
        prop_assume!(!lines.is_empty());
        let received = parse_events(lines.join("\r\n\n").as_bytes()).expect("body");
        prop_assert_eq!(received.records.len() + received.rejected.len(), lines.len());
        for record in &received.records {
            prop_assert_eq!(record.cmcd.encode(), lines[record.index].as_str());
        }
    }
}
