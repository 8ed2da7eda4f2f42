//! Packets by mutation: whatever comes, an answer is well formed or absent, and the next good query is answered.

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use proptest::prelude::*;

use super::{World, query};
use crate::dns::{Outcome, Transport};
use crate::tests::fixtures::manifest;

const VOD: &str = "vod.cdn.example.net";

fn seeds() -> Vec<Vec<u8>> {
    let mut cookie = query(VOD, RecordType::AAAA, "2001:db8:1:2f00::/56");
    let option = hickory_proto::rr::rdata::opt::EdnsOption::Unknown(10, vec![7; 24]);
    cookie.edns.as_mut().expect("edns").options_mut().insert(option);
    let mut plain = query("x.y.live.cdn.example.net", RecordType::HTTPS, "");
    plain.edns = None;
    let all = [
        query(VOD, RecordType::A, "203.0.113.0/24"),
        query("cdn.example.net", RecordType::NS, ""),
        query("nothing.cdn.example.net", RecordType::ANY, "198.51.100.0/20"),
        cookie,
        plain,
    ];
    all.iter().map(|message| message.to_vec().expect("bytes")).collect()
}

/// One change of a packet.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Point(usize, u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..600_usize;
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at.clone(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        at.clone().prop_map(Mutation::Cut),
        (at.clone(), proptest::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at.clone(), 1..20_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at.clone(), 1..60_usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        (at, any::<u8>()).prop_map(|(at, to)| Mutation::Point(at, to)),
    ]
}

fn apply(packet: &mut Vec<u8>, mutation: &Mutation) {
    let within = |at: usize, length: usize| at % length.max(1);
    let length = packet.len();
    match mutation {
        _ if length == 0 => packet.push(0),
        Mutation::Set(at, byte) => packet[within(*at, length)] = *byte,
        Mutation::Flip(at, bit) => packet[within(*at, length)] ^= 1 << bit,
        Mutation::Cut(at) => packet.truncate(within(*at, length)),
        Mutation::Insert(at, bytes) => drop(packet.splice(within(*at, length)..within(*at, length), bytes.clone())),
        Mutation::Remove(at, count) => {
            let from = within(*at, length);
            packet.drain(from..(from + count).min(length));
        }
        Mutation::Repeat(at, count) => {
            let from = within(*at, length);
            packet.extend_from_within(from..(from + count).min(length));
        }
        // A compressed name's pointer.
        Mutation::Point(at, to) => {
            let at = within(*at, length);
            packet[at] = 0xc0;
            if at + 1 < length {
                packet[at + 1] = *to;
            }
        }
    }
}

fn holds_for(world: &World, packet: &[u8]) -> Result<(), TestCaseError> {
    for (transport, max) in [(Transport::Udp, 1_232), (Transport::Tcp, 65_535)] {
        let out = world.send(packet, transport);
        prop_assert_eq!(world.count(Outcome::Broken), 0, "{:?}", packet);
        prop_assert!(out.len() <= max);
        if !out.is_empty() {
            prop_assert_eq!(&out[..2], &packet[..2]);
            let answer = Message::from_vec(&out);
            prop_assert!(answer.is_ok_and(|it| it.to_vec().is_ok()) && out[2] & 0x80 != 0, "{:?} of {:?}", out, packet);
        }
    }
    Ok(())
}

#[test]
fn mutated_packets_are_answered_well_or_not_at_all() {
    let world = World::new();
    world.publish(&manifest(1, &[("cdn-a", 500_000), ("own-x", 500_000)]));
    let seeds = seeds();
    let mutated = (0..seeds.len(), proptest::collection::vec(mutation(), 1..6));
    proptest!(ProptestConfig::with_cases(20_000), |((seed, mutations) in mutated)| {
        let mut packet = seeds[seed].clone();
        mutations.iter().for_each(|mutation| apply(&mut packet, mutation));
        holds_for(&world, &packet)?;
    });
    assert!(world.count(Outcome::Malformed) > 1_000 && world.count(Outcome::Steered) > 1_000);
    world.whereto(VOD, "203.0.113.0/24");
}

#[test]
fn noise_is_answered_well_or_not_at_all() {
    let world = World::new();
    proptest!(ProptestConfig::with_cases(5_000), |(packet in proptest::collection::vec(any::<u8>(), 0..300))| {
        holds_for(&world, &packet)?;
    });
    world.whereto(VOD, "");
}

#[test]
fn every_cut_of_a_good_packet_is_answered_well_or_not_at_all() {
    let world = World::new();
    for seed in seeds() {
        for length in 0..seed.len() {
            holds_for(&world, &seed[..length]).expect("holds");
        }
    }
}
