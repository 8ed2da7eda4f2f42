//! Mutations of good and bad input: no decoder panics, loses count of what it was given, or takes what it could not
//! give back. Always the same mutations (fixed seed and number), so that a failure can be looked at.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use spillway_model::limits::{BEACON_MAX_EVENTS, CMCD_OTHERS_MAX, CMCD_RECORD_MAX_BYTES, CMCD_VALUE_MAX_BYTES};
use spillway_wire::beacon::{self, ERROR_CLASSES, EVENT_TYPES};
use spillway_wire::cmcd::{self, Cmcd, OTHER, SenderMark, identify, parse_events, to_event};

/// Mutated inputs a decoder.
const CASES: u32 = 10_000;

#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Splice { from: Index, of: Index, length: usize, to: Index },
    Truncate(Index),
}

/// Bytes that mean something to either decoder.
const SPICE: &[u8] = b"\"\\(){}[],;:=?@%.-\n\r\0 019eE\xff\xc3";

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let byte = prop_oneof![prop::sample::select(SPICE.to_vec()), any::<u8>()];
    prop_oneof![
        (at(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (at(), byte.clone()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), vec(byte, 1..12)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), 1_usize..40).prop_map(|(at, length)| Mutation::Delete(at, length)),
        (at(), at(), 1_usize..300, at()).prop_map(|(from, of, length, to)| Mutation::Splice { from, of, length, to }),
        at().prop_map(Mutation::Truncate),
    ]
}

fn apply(body: &mut Vec<u8>, mutation: &Mutation, corpus: &[Vec<u8>]) {
    let place = |at: &Index, length: usize| at.index(length + 1);
    match mutation {
        Mutation::Flip(at, bit) if !body.is_empty() => {
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
        }
        Mutation::Set(at, byte) if !body.is_empty() => {
            let at = at.index(body.len());
            body[at] = *byte;
        }
        Mutation::Insert(at, bytes) => {
            let at = place(at, body.len());
            body.splice(at..at, bytes.iter().copied());
        }
        Mutation::Delete(at, length) => {
            let at = place(at, body.len());
            body.drain(at..(at + length).min(body.len()));
        }
        Mutation::Splice { from, of, length, to } => {
            let source = &corpus[of.index(corpus.len())];
            let begin = place(from, source.len());
            let piece = source[begin..(begin + length).min(source.len())].to_vec();
            let to = place(to, body.len());
            body.splice(to..to, piece);
        }
        Mutation::Truncate(at) => body.truncate(place(at, body.len())),
        Mutation::Flip(..) | Mutation::Set(..) => {}
    }
}

fn corpus(folders: &[&str]) -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths: Vec<_> = folders
        .iter()
        .flat_map(|folder| fs::read_dir(golden.join(folder)).expect("folder"))
        .map(|entry| entry.expect("entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("file")).filter(|body| body.len() < 20_000).collect()
}

fn fuzz(folders: &[&str], check: impl Fn(&[u8])) {
    let corpus = corpus(folders);
    assert!(corpus.len() >= 20, "{folders:?}");
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let inputs = (any::<Index>(), vec(mutation(), 1..6));
    let run = runner.run(&inputs, |(seed, mutations)| {
        let mut body = corpus[seed.index(corpus.len())].clone();
        for mutation in &mutations {
            apply(&mut body, mutation, &corpus);
        }
        check(&body);
        Ok(())
    });
    run.expect("every mutation holds");
}

#[test]
fn beacons_survive_mutation() {
    fuzz(&["beacon", "beacon-bad"], |body| {
        let Ok(received) = beacon::parse(body) else { return };
        let (taken, rejected) = (received.beacon.events.len(), received.rejected.len());
        assert!(taken + rejected <= BEACON_MAX_EVENTS);
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
            assert_eq!(value["events"].as_array().map(Vec::len), Some(taken + rejected));
        }
        let again =
            beacon::parse(&serde_json::to_vec(&received.beacon).expect("json")).expect("what was taken is good");
        assert_eq!(
            (again.beacon.events, again.rejected, again.view_id),
            (received.beacon.events, vec![], received.view_id)
        );
    });
}

#[test]
fn cmcd_bodies_survive_mutation() {
    let mark = SenderMark::new(b"secret", b"192.0.2.7");
    fuzz(&["cmcd", "cmcd-bad"], |body| {
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        let Ok(received) = parse_events(body) else { return };
        let mut indexes: Vec<usize> = received.records.iter().map(|record| record.index).collect();
        indexes.extend(received.rejected.iter().map(|(index, _)| *index));
        indexes.sort_unstable();
        assert_eq!(indexes, (0..lines).collect::<Vec<_>>(), "every line is a record or refused");
        for record in &received.records {
            let text = record.cmcd.encode();
            if text.len() <= CMCD_RECORD_MAX_BYTES {
                let expected = Cmcd { others_dropped: 0, ..record.cmcd.clone() };
                assert_eq!(Cmcd::parse(text.as_bytes()), Ok(expected), "what was taken can be given back");
            }
            let mapped = to_event(&record.cmcd, &identify(record, mark).expect("identity"));
            assert!(EVENT_TYPES.contains(&mapped.event.kind.as_str()) || mapped.event.kind == OTHER);
            assert!(mapped.event.error.is_none_or(|error| ERROR_CLASSES.contains(&error.class.as_str())));
            assert!(mapped.event.seq < 1 << 53 && mapped.event.host.is_none_or(|host| host.len() <= 128));
            assert!(mapped.rest.len() <= Cmcd::KEYS.len() + CMCD_OTHERS_MAX);
            assert!(mapped.rest.iter().all(|(_, value)| value.len() <= CMCD_VALUE_MAX_BYTES));
        }
    });
}

#[test]
fn requests_with_cmcd_survive_mutation() {
    fuzz(&["cmcd", "cmcd-bad"], |body| {
        let text = String::from_utf8_lossy(body);
        for line in text.lines() {
            let whole = Cmcd::parse(line.as_bytes());
            let escaped: String = line.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let query = format!("a=1&CMCD={escaped}&b");
            let expected = if line.is_empty() { Ok(None) } else { whole.map(Some) };
            assert_eq!(cmcd::parse_query(&query), expected);
            let _ = cmcd::parse_query(&format!("CMCD={line}"));
            let _ = cmcd::parse_headers(line.split("sid").map(str::as_bytes));
        }
    });
}
