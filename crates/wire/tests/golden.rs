//! Golden files: each reads, writes itself back, and reads with keys that a later version may add. They never change;
//! a new version gets a new file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spillway_model::{ContentClass, ContentId, PathwayId, RegionId, TimestampMs, ViewId};
use spillway_wire::beacon::{self, BeaconError};
use spillway_wire::delivery::Delivery;
use spillway_wire::envelope::{self, Envelope};
use spillway_wire::follow::FollowRegistry;
use spillway_wire::frame::Frame;
use spillway_wire::load::{Directives, LoadReport};
use spillway_wire::manifest;
use spillway_wire::overview::Overview;
use spillway_wire::probe::ProbeResult;
use spillway_wire::round::{self, Heard, Taught};
use spillway_wire::rows::{self, RowsError};
use spillway_wire::session::{SessionAnswer, SessionRequest};
use spillway_wire::steer_answer::SteerAnswer;
use spillway_wire::steering::SteeringAnswer;
use spillway_wire::token::{Needs, Token, TokenKeys};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("golden/{name}: {error}"))
}

fn value(name: &str) -> Value {
    serde_json::from_slice(&bytes(name)).unwrap_or_else(|error| panic!("golden/{name}: {error}"))
}

fn files(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path(folder))
        .expect("folder")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// `value` with a key that nobody knows in each of the objects at `pointers`.
fn with_future_keys(value: &Value, pointers: &[&str]) -> Value {
    let mut out = value.clone();
    for pointer in pointers {
        let object = out.pointer_mut(pointer).and_then(Value::as_object_mut);
        let object = object.unwrap_or_else(|| panic!("no object at {pointer:?}"));
        object.insert("x_future".into(), json!({ "any": [1, "thing", null] }));
    }
    out
}

/// The file as a `T` writes the same JSON, also where unknown keys stood at `pointers`.
fn round_trip<T: Serialize + DeserializeOwned>(name: &str, pointers: &[&str]) {
    let file = value(name);
    for input in [file.clone(), with_future_keys(&file, pointers)] {
        let read: T = serde_json::from_value(input).unwrap_or_else(|error| panic!("golden/{name}: {error}"));
        assert_eq!(serde_json::to_value(&read).expect("json"), file, "golden/{name}");
    }
}

#[test]
fn beacons_read_and_write_themselves_back() {
    let names = files("beacon");
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let file = value(&format!("beacon/{name}"));
        let future = with_future_keys(&file, &["", "/ctx", "/events/0"]);
        for input in [file.clone(), future] {
            let received = beacon::parse(&serde_json::to_vec(&input).expect("json")).expect(&name);
            assert_eq!(received.rejected, [], "{name}");
            assert_eq!(serde_json::to_value(&received.beacon).expect("json"), file, "{name}");
        }
    }
}

#[test]
fn the_heartbeat_is_the_example_of_the_documentation() {
    let doc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire-protocol.md");
    let doc = fs::read_to_string(doc).expect("docs/wire-protocol.md");
    let example = doc.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    assert_eq!(serde_json::from_str::<Value>(example).expect("json"), value("beacon/heartbeat.json"));
}

/// `<reason>--<what>.json` for a refused beacon, `event-<reason>--<what>.json` for one whose second event is refused.
#[test]
fn bad_beacons_are_refused_for_the_reason_in_their_name() {
    let names = files("beacon-bad");
    assert!(names.len() >= 30, "{names:?}");
    for name in names {
        let (reason, _) = name.split_once("--").expect("reason--what");
        let read = beacon::parse(&bytes(&format!("beacon-bad/{name}")));
        match reason.strip_prefix("event-") {
            None => assert_eq!(read.as_ref().map_err(BeaconError::reason).expect_err(&name), reason, "{name}"),
            Some(reason) => {
                let received = read.expect(&name);
                let rejected: Vec<(usize, &str)> =
                    received.rejected.iter().map(|event| (event.index, event.reason.as_str())).collect();
                assert_eq!((received.beacon.events.len(), rejected), (1, vec![(1, reason)]), "{name}");
            }
        }
    }
}

#[test]
fn the_manifest_reads_writes_itself_back_and_tolerates_later_keys() {
    let file = value("manifest/v1.json");
    let read = manifest::parse(&bytes("manifest/v1.json")).expect("valid");
    assert_eq!(serde_json::from_slice::<Value>(&manifest::to_bytes(&read)).expect("json"), file);
    let objects = [
        "",
        "/ttl",
        "/modes/0",
        "/pathways/cdn-a",
        "/pathways/cdn-a/serves",
        "/groups/own-mil",
        "/cohorts/0",
        "/max_bitrate_kbps/0",
        "/shadow/0",
        "/overrides/0",
        "/drill",
    ];
    let future = with_future_keys(&file, &objects);
    assert_eq!(manifest::parse(&serde_json::to_vec(&future).expect("json")), Ok(read));
}

/// Every key of version 1 is there with a value that is not the default, so that none can be lost unnoticed.
#[test]
fn the_manifest_uses_every_key() {
    let file = value("manifest/v1.json");
    for key in file.as_object().expect("object").keys() {
        let mut without = file.clone();
        without.as_object_mut().expect("object").remove(key);
        let read = manifest::parse(&serde_json::to_vec(&without).expect("json"));
        let lost = read
            .map_or(true, |read| serde_json::from_slice::<Value>(&manifest::to_bytes(&read)).expect("json") != file);
        assert!(lost, "{key}");
    }
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

#[test]
fn the_envelope_opens_with_its_key_and_seals_to_the_same_bytes() {
    let keys: BTreeMap<String, VerifyingKey> = BTreeMap::from([("golden-1".into(), signing_key().verifying_key())]);
    let payload = envelope::open(&bytes("manifest/envelope-v1.json"), &keys).expect("opens");
    assert_eq!(payload, bytes("manifest/v1.json"), "the payload is the manifest, byte for byte");
    let sealed = envelope::seal("golden-1", &signing_key(), &payload);
    assert_eq!(serde_json::to_value(&sealed).expect("json"), value("manifest/envelope-v1.json"));
    round_trip::<Envelope>("manifest/envelope-v1.json", &[""]);
}

#[test]
fn frames_loads_probes_overviews_and_answers_read_and_write_themselves_back() {
    round_trip::<Frame>("frame/v1.json", &["", "/cells/0", "/content/0"]);
    round_trip::<Frame>("frame/v1-empty.json", &[""]);
    round_trip::<Frame>("frame/v1-devices.json", &["", "/devices/0", "/devices/1"]);
    round_trip::<Frame>("frame/v1-untrusted.json", &["", "/cells/0"]);
    round_trip::<Frame>("frame/v1-fled.json", &["", "/cells/0"]);
    round_trip::<LoadReport>("load/v1.json", &["", "/origin", "/top_content/0"]);
    round_trip::<LoadReport>("load/v1-least.json", &["", "/origin"]);
    round_trip::<Directives>("load/directives-v1.json", &[""]);
    round_trip::<FollowRegistry>("follow/v1.json", &[""]);
    round_trip::<SessionRequest>("session/request-v1.json", &[""]);
    round_trip::<SessionRequest>("session/request-v1-least.json", &[""]);
    round_trip::<SessionAnswer>("session/answer-v1.json", &[""]);
    round_trip::<SteeringAnswer>("steering/v1.json", &[""]);
    round_trip::<SteeringAnswer>("steering/v1-least.json", &[""]);
    round_trip::<ProbeResult>("probe/v1.json", &[""]);
    round_trip::<ProbeResult>("probe/v1-no-answer.json", &[""]);
    let inside = ["", "/regions/eu-south", "/regions/eu-south/pathways/cdn-a", "/pathways/cdn-a", "/log/0"];
    round_trip::<Overview>("overview/v1.json", &inside);
    round_trip::<Overview>("overview/v1-devices.json", &["", "/devices/tv", "/devices/unknown"]);
    round_trip::<Overview>("overview/v1-notes.json", &["", "/notes/0", "/notes/1"]);
}

#[test]
fn recorded_rounds_read_and_write_themselves_back() {
    let heard = ["", "/cells/0", "/loads/0", "/probes/0", "/content/0", "/overrides/1", "/classes/0", "/origins/0"];
    round_trip::<Heard>("round/v1-heard.json", &[&heard[..], &["/limits/0", "/calm/0", "/drill"]].concat());
    round_trip::<Taught>("round/v1-taught.json", &["", "/usual/0", "/networks/0", "/hit_ratios/cdn-a", "/bills/cdn-a"]);
    let text = |name| String::from_utf8(bytes(name)).expect("UTF-8");
    let taught: Taught = round::parse(&text("round/v1-taught.json")).expect("version 1");
    assert_eq!(taught.usual[1].rate.0, 0.1 + 0.2, "bit by bit");
    assert_eq!(round::parse::<Heard>(&text("round/v1-heard.json")).expect("version 1").cells.len(), 2);
}

#[test]
fn rows_of_deliveries_and_steering_answers_read_and_write_themselves_back() {
    round_trip::<Delivery>("delivery/v1.json", &[""]);
    round_trip::<Delivery>("delivery/v1-least.json", &[""]);
    round_trip::<Delivery>("delivery/v1-sampled.json", &[""]);
    round_trip::<SteerAnswer>("steer-answer/v1.json", &[""]);
    round_trip::<SteerAnswer>("steer-answer/v1-least.json", &[""]);
}

#[test]
fn rows_come_as_lines_or_as_an_array_and_a_bad_one_costs_only_itself() {
    let lines = bytes("delivery/v1-batch.ndjson");
    let text = String::from_utf8(lines.clone()).expect("UTF-8");
    let array = format!("[{}]", text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(","));
    for body in [lines, array.into_bytes()] {
        let received = rows::parse::<Delivery>(&body).expect("rows");
        assert_eq!(received.rows.iter().map(|(index, row)| (*index, row.status)).collect::<Vec<_>>(), [(0, Some(200))]);
        let why: Vec<_> = received.rejected.iter().map(|row| (row.index, row.reason.as_str())).collect();
        assert_eq!(why, [(1, "bad_value"), (2, "missing_field")]);
    }
}

#[test]
fn a_body_that_is_no_rows_is_refused_whole() {
    let refused = |body: &[u8]| rows::parse::<Delivery>(body).expect_err("refused");
    assert_eq!(refused(b""), RowsError::EmptyBody);
    assert_eq!(refused(b" \n\n"), RowsError::EmptyBody);
    assert_eq!(refused(b"[]"), RowsError::EmptyBody);
    assert_eq!(refused(b"\xff\xfe"), RowsError::BadUtf8);
    assert_eq!(refused(b"hello").reason(), "bad_json");
    assert_eq!(refused(b"[{}").reason(), "bad_json");
    assert_eq!(refused("{}\n".repeat(10_001).as_bytes()), RowsError::TooManyRows);
    assert_eq!(refused(format!("[{}0]", "0,".repeat(10_000)).as_bytes()), RowsError::TooManyRows);
    let name = |v, source: &str| rows::BatchName { v, source: source.into(), seq: 1 }.check();
    assert_eq!(name(1, "own-mil-1"), Ok(()));
    assert_eq!(name(2, "own-mil-1"), Err(RowsError::UnknownVersion(2)));
    assert!(matches!(name(1, "a/b"), Err(RowsError::BadSource(_))));
}

fn golden_token(first: bool) -> Token {
    let id = |name| PathwayId::new(name).expect("id");
    Token {
        view: ViewId::new("k3v9Zt0aQ1mB7c").expect("id"),
        region: RegionId::new("eu-south").expect("id"),
        asn: Some(64_501),
        class: Some(ContentClass::new("live-sport").expect("id")),
        started: TimestampMs(1_767_225_600_000),
        content: ContentId::new("live/river").expect("id"),
        pathways: vec![id("own-mil-1"), id("cdn-b")],
        first: first.then(|| id("own-mil-1")),
        needs: Needs::default(),
    }
}

#[test]
fn tokens_of_a_running_view_are_still_believed() {
    let keys = TokenKeys::new(("golden-1".into(), b"a golden secret of 32 characters".to_vec()), vec![]);
    for (file, first) in [("token/v1-playlist.txt", true), ("token/v1-reload.txt", false)] {
        let text = String::from_utf8(bytes(file)).expect("UTF-8");
        assert_eq!(keys.verify(text.trim()), Ok(golden_token(first)), "{file}");
        assert_eq!(keys.sign(&golden_token(first)), text.trim(), "{file}");
    }
}

/// With `SPILLWAY_BLESS=1`: writes the files that need a key. Refuses to touch one that is there.
#[test]
fn signed_files_are_made_once() {
    if std::env::var_os("SPILLWAY_BLESS").is_none() {
        return;
    }
    let sealed = envelope::seal("golden-1", &signing_key(), &bytes("manifest/v1.json"));
    let keys = TokenKeys::new(("golden-1".into(), b"a golden secret of 32 characters".to_vec()), vec![]);
    let files = [
        ("manifest/envelope-v1.json", serde_json::to_string_pretty(&sealed).expect("json")),
        ("token/v1-playlist.txt", keys.sign(&golden_token(true))),
        ("token/v1-reload.txt", keys.sign(&golden_token(false))),
    ];
    for (name, text) in files {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path(name)).expect("a new file");
        std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes()).expect("written");
    }
}
