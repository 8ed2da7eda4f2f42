//! Which records answer for which subnet.

use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use spillway_model::{Millis, Mode, PathwayState, Ppm};
use spillway_routing::{Manifest, ModeRule};

use super::{World, name, query, scope};
use crate::dns::{Outcome, Transport};
use crate::tests::fixtures::{NOW, id, manifest};

const VOD: &str = "vod.cdn.example.net";
const LIVE: &str = "live.cdn.example.net";

/// A manifest in which the group is one node.
fn of_node(node: &str) -> Manifest {
    let mut plan = manifest(1, &[("own-x", 1_000_000)]);
    let group = plan.groups.values_mut().next().expect("one");
    group.nodes = BTreeMap::from([(id(node), 1_000_000)]);
    plan
}

fn with_state(mut plan: Manifest, pathway: &str, state: PathwayState) -> Manifest {
    plan.pathways.get_mut(&id(pathway)).expect("there").state = state;
    plan
}

/// Many /24s of the internet.
fn subnets(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("{}.{}.{}.0/24", 20 + n / 65_536, n / 256 % 256, n % 256))
}

fn of_type(world: &World, of: &str, kind: RecordType) -> Vec<String> {
    world.ask(of, kind, "").answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn a_pathway_with_a_host_name_is_an_alias_for_every_type() {
    let world = World::new();
    world.publish(&manifest(1, &[("cdn-a", 1_000_000)]));
    for kind in
        [RecordType::A, RecordType::AAAA, RecordType::CNAME, RecordType::TXT, RecordType::HTTPS, RecordType::ANY]
    {
        let answer = world.ask(VOD, kind, "");
        let [record] = &answer.answers[..] else { panic!("{answer}") };
        assert_eq!((&record.name, record.ttl), (&name(VOD), 30));
        assert!(matches!(&record.data, RData::CNAME(to) if to.0 == name("cdn-a.example")), "{answer}");
        assert!(answer.authoritative && !answer.recursion_available && answer.authorities.is_empty());
    }
    assert_eq!(world.count(Outcome::Steered), 6);
}

#[test]
fn a_pathway_with_addresses_is_answered_by_type_and_never_by_another_pathway() {
    let world = World::new();
    world.publish(&of_node("own-x-1"));
    assert_eq!(of_type(&world, VOD, RecordType::A), ["198.51.100.1"]);
    assert_eq!(of_type(&world, VOD, RecordType::AAAA), ["2001:db8::1"]);
    assert_eq!(of_type(&world, VOD, RecordType::ANY), ["RFC8482 "]);
    let world = World::new();
    world.publish(&of_node("own-x-2"));
    assert_eq!(of_type(&world, VOD, RecordType::A), ["198.51.100.2"]);
    for kind in [RecordType::AAAA, RecordType::TXT, RecordType::HTTPS, RecordType::CNAME] {
        let answer = world.ask(VOD, kind, "");
        assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    }
}

#[test]
fn the_apex_has_its_records_and_names_that_are_not_there_say_so() {
    let world = World::new();
    let soa = world.ask("cdn.example.net", RecordType::SOA, "");
    let RData::SOA(data) = &soa.answers[0].data else { panic!("{soa}") };
    assert_eq!((&data.mname, &data.rname), (&name("ns1.cdn.example.net"), &name("dns.example.net")));
    assert_eq!((data.serial, data.minimum), (1, 30));
    let servers = world.ask("cdn.example.net", RecordType::NS, "");
    assert_eq!((servers.answers.len(), servers.additionals.len()), (2, 2), "glue for the one inside");
    assert_eq!(of_type(&world, "ns1.cdn.example.net", RecordType::A), ["192.0.2.53"]);
    assert_eq!(of_type(&world, "ns1.cdn.example.net", RecordType::AAAA), ["2001:db8::53"]);
    let code = |of: &str, kind| {
        let answer = world.ask(of, kind, "");
        let soa = answer.authorities.first().is_some_and(|record| record.record_type() == RecordType::SOA);
        (answer.response_code, answer.answers.len(), soa, answer.authoritative)
    };
    let (ok, none, refused) = (ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::Refused);
    assert_eq!(code("cdn.example.net", RecordType::A), (ok, 0, true, true));
    assert_eq!(code("down.cdn.example.net", RecordType::A), (ok, 0, true, true), "on the way to deep.down");
    assert_eq!(code("nothing.cdn.example.net", RecordType::A), (none, 0, true, true));
    assert_eq!(code("a.vod.cdn.example.net", RecordType::AAAA), (none, 0, true, true));
    assert_eq!(code("cdn.example.net", RecordType::ANY).1, 1);
    for (of, kind) in [("example.net", RecordType::A), ("xcdn.example.net", RecordType::A), ("org", RecordType::NS)] {
        assert_eq!(code(of, kind), (refused, 0, false, false));
    }
    for kind in [RecordType::AXFR, RecordType::IXFR, RecordType::Unknown(249), RecordType::OPT] {
        assert_eq!(code("cdn.example.net", kind), (refused, 0, false, false));
    }
}

#[test]
fn names_below_a_wildcard_are_titles_of_their_own() {
    let world = World::new();
    world.publish(&manifest(1, &[("own-x", 1_000_000)]));
    let nodes: std::collections::BTreeSet<String> =
        (0..60).map(|n| world.whereto(&format!("match-{n}.live.cdn.example.net"), "")).collect();
    assert_eq!(nodes.len(), 3, "a title stays on one node, and titles spread: {nodes:?}");
    world.whereto("a.b.c.live.cdn.example.net", "");
    world.whereto("*.live.cdn.example.net", "");
    let upper = world.whereto("MATCH-1.LIVE.cdn.EXAMPLE.net", "");
    assert_eq!(upper, world.whereto("match-1.live.cdn.example.net", ""));
}

#[test]
fn the_scope_is_what_decided() {
    let world = World::new();
    world.publish(&manifest(1, &[("cdn-a", 500_000), ("cdn-b", 500_000)]));
    let of = |subnet: &str| scope(&world.ask(VOD, RecordType::A, subnet));
    assert_eq!(of(""), None);
    assert_eq!(of("203.0.113.0/24"), Some((24, 24)));
    assert_eq!(of("203.0.113.77/32"), Some((32, 24)));
    assert_eq!(of("203.0.112.0/20"), Some((20, 20)));
    assert_eq!(of("2001:db8:1:2f00::/56"), Some((56, 56)));
    assert_eq!(of("2001:db8:1:2f00::/64"), Some((64, 56)));
    assert_eq!(of("0.0.0.0/0"), Some((0, 0)), "who asks for no tailored answer gets the resolver's");
    assert_eq!(of("10.1.2.0/24"), Some((24, 0)), "nobody's address on the internet");
    assert_eq!(of("127.12.3.0/24"), Some((24, 24)), "but a configured prefix is known");
    assert_eq!(scope(&world.ask("nothing.cdn.example.net", RecordType::A, "203.0.113.0/24")), Some((24, 0)));
    assert_eq!(scope(&world.ask("cdn.example.net", RecordType::SOA, "203.0.113.0/24")), Some((24, 0)));
    for n in 0..255 {
        assert_eq!(world.whereto(VOD, &format!("203.0.113.{n}/32")), world.whereto(VOD, "203.0.113.0/24"));
    }
}

#[test]
fn without_a_client_subnet_the_resolver_decides() {
    let world = World::new();
    world.publish(&manifest(1, &[("cdn-a", 500_000), ("cdn-b", 500_000)]));
    let resolver = world.whereto(VOD, &format!("{}/32", super::RESOLVER));
    for nothing in ["", "0.0.0.0/0", "10.1.2.0/24", "::/0", "fd00::/56"] {
        assert_eq!(world.whereto(VOD, nothing), resolver);
    }
}

#[test]
fn a_subnet_is_answered_by_its_region_and_moves_with_the_manifest() {
    let world = World::new();
    world.publish(&manifest(1, &[("cdn-a", 1_000_000)]));
    assert_eq!(world.whereto(VOD, "127.11.3.0/24"), "cdn-a.example.");
    // The other region has no manifest: its static weights name two others.
    assert!(["cdn-b.example.", "cdn-c.example."].contains(&&*world.whereto(VOD, "127.12.3.0/24")));
    let elsewhere = world.whereto(VOD, "127.12.3.0/24");
    world.publish(&manifest(2, &[("cdn-b", 1_000_000)]));
    assert_eq!(world.whereto(VOD, "127.11.3.0/24"), "cdn-b.example.");
    assert_eq!(world.whereto(VOD, "127.12.3.0/24"), elsewhere);
    world.clock.advance(Millis::from_secs(61));
    assert_eq!(world.whereto(VOD, "127.11.3.0/24"), "cdn-c.example.", "the manifest's time is over");
}

#[test]
fn shares_of_subnets_are_the_weights_and_move_by_hash() {
    let count = 8_000;
    let world = World::new();
    world.publish(&manifest(1, &[("cdn-a", 700_000), ("cdn-b", 300_000)]));
    let before: Vec<String> = subnets(count).map(|subnet| world.whereto(VOD, &subnet)).collect();
    let of_a = |all: &[String]| all.iter().filter(|to| *to == "cdn-a.example.").count() as f64 / f64::from(count);
    // Four standard deviations.
    let tolerance = 4.0 * (0.7 * 0.3 / f64::from(count)).sqrt();
    assert!((of_a(&before) - 0.7).abs() < tolerance, "{}", of_a(&before));
    let again: Vec<String> = subnets(count).map(|subnet| world.whereto(VOD, &subnet)).collect();
    assert_eq!(before, again, "nothing is drawn anew");
    world.publish(&manifest(2, &[("cdn-a", 600_000), ("cdn-b", 400_000)]));
    let after: Vec<String> = subnets(count).map(|subnet| world.whereto(VOD, &subnet)).collect();
    assert!((of_a(&after) - 0.6).abs() < tolerance);
    assert!(before.iter().zip(&after).all(|(b, a)| b == a || (b == "cdn-a.example." && a == "cdn-b.example.")));
    let other: Vec<String> = subnets(count).map(|subnet| world.whereto(LIVE, &subnet)).collect();
    let both = after.iter().zip(&other).filter(|(a, o)| a == o).count() as f64 / f64::from(count);
    assert!(both < 0.6, "another name draws for itself: {both}");
}

#[test]
fn a_dead_pathway_is_never_answered_while_another_lives() {
    let none_to = |plan: &Manifest, dead: &str| {
        let world = World::new();
        world.publish(plan);
        subnets(400).all(|subnet| world.whereto(VOD, &subnet) != dead)
    };
    let shared = manifest(1, &[("cdn-a", 900_000), ("cdn-b", 100_000)]);
    assert!(none_to(&with_state(shared.clone(), "cdn-a", PathwayState::Down), "cdn-a.example."));
    let pinned = with_state(manifest(1, &[("cdn-a", 1_000_000)]), "cdn-a", PathwayState::Down);
    assert!(none_to(&pinned, "cdn-a.example."), "a device has no second choice");
    let mut holdback = with_state(shared.clone(), "cdn-c", PathwayState::Down);
    holdback.modes[0].control = Ppm(0);
    assert!(none_to(&holdback, "cdn-c.example."), "the static choice is dead");
    let mut all = shared;
    for pathway in all.pathways.values_mut() {
        pathway.state = PathwayState::Down;
    }
    let world = World::new();
    world.publish(&all);
    assert!(!world.whereto(VOD, "").is_empty(), "if all are dead, one is still answered");
}

#[test]
fn observe_and_shadow_move_nobody() {
    for mode in [Mode::Observe, Mode::Shadow] {
        let world = World::new();
        let mut plan = with_state(manifest(1, &[("cdn-a", 1_000_000)]), "cdn-c", PathwayState::Down);
        plan.modes = vec![ModeRule { class: None, mode, control: Ppm::ALL }];
        world.publish(&plan);
        assert!(subnets(100).all(|subnet| world.whereto(VOD, &subnet) == "cdn-c.example."), "static weights");
    }
}

#[test]
fn without_any_manifest_static_weights_answer() {
    let world = World::new();
    let own = subnets(4_000).filter(|subnet| world.whereto(VOD, subnet).starts_with("198.51.100."));
    let share = own.count() as f64 / 4_000.0;
    assert!((share - 0.75).abs() < 0.03, "{share}");
}

#[test]
fn the_serial_is_the_newest_manifest_and_never_goes_back() {
    let world = World::new();
    let serial = || {
        let answer = world.ask("cdn.example.net", RecordType::SOA, "");
        let RData::SOA(data) = &answer.answers[0].data else { panic!("{answer}") };
        data.serial
    };
    assert_eq!(serial(), 1);
    world.publish(&manifest(1, &[("cdn-a", 1_000_000)]));
    world.clock.advance(Millis::from_secs(1));
    let newest = (NOW.0 / 1_000) as u32;
    assert_eq!(serial(), newest);
    let mut older = manifest(2, &[("cdn-b", 1_000_000)]);
    older.issued = spillway_model::TimestampMs(5_000);
    world.publish(&older);
    world.clock.advance(Millis::from_secs(1));
    assert_eq!(serial(), newest);
}

#[test]
fn tcp_gives_the_same_answers() {
    let world = World::new();
    world.publish(&manifest(1, &[("cdn-a", 500_000), ("own-x", 500_000)]));
    for subnet in subnets(50) {
        let packet = query(VOD, RecordType::A, &subnet).to_vec().expect("bytes");
        assert_eq!(world.send(&packet, Transport::Tcp), world.send(&packet, Transport::Udp));
    }
}
