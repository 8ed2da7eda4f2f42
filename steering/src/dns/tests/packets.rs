//! What a query may be, and what an answer looks like.

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RecordType};

use super::{World, name, query, scope};
use crate::dns::message::ask_over_tcp;
use crate::dns::{Outcome, Transport};
use crate::tests::fixtures::manifest;

const VOD: &str = "vod.cdn.example.net";

fn world() -> World {
    let world = World::new();
    world.publish(&manifest(1, &[("cdn-a", 1_000_000)]));
    world
}

fn good() -> Vec<u8> {
    query(VOD, RecordType::A, "203.0.113.0/24").to_vec().expect("bytes")
}

fn sent(world: &World, packet: &[u8]) -> Message {
    Message::from_vec(&world.send(packet, Transport::Udp)).expect("an answer")
}

#[test]
fn the_question_and_its_case_come_back() {
    let world = world();
    let mut asked = query("vOd.CDN.eXample.net", RecordType::A, "");
    asked.metadata.recursion_desired = true;
    let answer = sent(&world, &asked.to_vec().expect("bytes"));
    assert_eq!((answer.id, answer.recursion_desired, answer.truncation), (4_711, true, false));
    assert!(answer.queries[0].name().eq_case(asked.queries[0].name()));
    assert!(answer.answers[0].name.eq_case(asked.queries[0].name()));
    let edns = answer.edns.expect("edns");
    assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, 1_232, false));
}

#[test]
fn who_has_no_edns_gets_none() {
    let mut asked = query(VOD, RecordType::A, "");
    asked.edns = None;
    let answer = sent(&world(), &asked.to_vec().expect("bytes"));
    assert!(answer.edns.is_none() && answer.answers.len() == 1);
}

#[test]
fn a_later_version_of_edns_is_told_ours() {
    let world = world();
    let mut asked = query(VOD, RecordType::A, "");
    asked.edns.as_mut().expect("edns").set_version(1);
    let answer = sent(&world, &asked.to_vec().expect("bytes"));
    assert_eq!(u16::from(answer.response_code), 16, "BADVERS");
    assert_eq!((answer.answers.len(), answer.edns.expect("edns").version()), (0, 0));
    assert_eq!(world.count(Outcome::BadVersion), 1);
}

#[test]
fn other_operations_and_classes_are_turned_away() {
    let world = world();
    for op in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(9)] {
        let mut asked = query(VOD, RecordType::A, "");
        asked.metadata.op_code = op;
        let answer = sent(&world, &asked.to_vec().expect("bytes"));
        assert_eq!((answer.id, answer.op_code, answer.response_code), (4_711, op, ResponseCode::NotImp));
    }
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY, DNSClass::NONE] {
        let mut asked = query("version.bind", RecordType::TXT, "");
        asked.queries[0].set_query_class(class);
        assert_eq!(sent(&world, &asked.to_vec().expect("bytes")).response_code, ResponseCode::Refused);
        asked.queries = vec![Query::query(name(VOD), RecordType::A)];
        asked.queries[0].set_query_class(class);
        assert_eq!(sent(&world, &asked.to_vec().expect("bytes")).response_code, ResponseCode::Refused);
    }
}

#[test]
fn an_answer_and_scraps_are_not_answered() {
    let world = world();
    let mut answer = good();
    answer[2] |= 0x80;
    for packet in [&answer[..], &[], &good()[..11]] {
        assert!(world.send(packet, Transport::Udp).is_empty());
    }
    assert_eq!(world.count(Outcome::Ignored), 3);
}

#[test]
fn what_can_t_be_read_is_said_to_be_malformed() {
    let world = world();
    let changed = |at: usize, byte: u8| {
        let mut packet = good();
        packet[at] = byte;
        packet
    };
    let mut two_opts = good();
    let opt = two_opts[good().len() - 22..].to_vec();
    two_opts.extend_from_slice(&opt);
    two_opts[11] = 2;
    let mut edns = query(VOD, RecordType::A, "203.0.113.0/24");
    let subnet = EdnsOption::Unknown(8, vec![0, 1, 24, 0, 203, 0, 113, 9]);
    edns.edns.as_mut().expect("edns").options_mut().options = vec![(EdnsCode::Subnet, subnet)];
    let surplus = edns.to_vec().expect("bytes");
    let cases = [
        ("no question", changed(5, 0)),
        ("two questions", changed(5, 2)),
        ("an answer", changed(7, 1)),
        ("more records than there are", changed(11, 4)),
        ("far more", changed(10, 255)),
        ("a name that points to itself", [&good()[..12], &[0xc0, 12, 0, 1, 0, 1]].concat()),
        ("half a question", good()[..20].to_vec()),
        ("half an option", good()[..good().len() - 2].to_vec()),
        ("only a header", good()[..12].to_vec()),
        ("two OPTs", two_opts),
        ("surplus bytes in the subnet", surplus),
    ];
    let count = cases.len() as u64;
    for (what, packet) in cases {
        let answer = sent(&world, &packet);
        assert_eq!((answer.id, answer.response_code), (4_711, ResponseCode::FormErr), "{what}");
    }
    assert_eq!(world.count(Outcome::Malformed), count);
}

#[test]
fn options_that_we_don_t_know_are_passed_over() {
    let world = world();
    let mut asked = query(VOD, RecordType::A, "203.0.113.0/24");
    let options = asked.edns.as_mut().expect("edns").options_mut();
    options.insert(EdnsOption::Unknown(10, vec![1, 2, 3, 4, 5, 6, 7, 8]));
    options.insert(EdnsOption::Unknown(65_001, vec![]));
    let answer = sent(&world, &asked.to_vec().expect("bytes"));
    assert_eq!((answer.answers.len(), scope(&answer)), (1, Some((24, 24))));
    assert_eq!(answer.edns.expect("edns").options().options.len(), 1, "the cookie is not answered");
    // `dig +subnet=0`
    let mut asked = query(VOD, RecordType::A, "");
    let nobody = (EdnsCode::Subnet, EdnsOption::Unknown(8, vec![0; 4]));
    asked.edns.as_mut().expect("edns").options_mut().options = vec![nobody];
    let bytes = world.send(&asked.to_vec().expect("bytes"), Transport::Udp);
    assert!(bytes.ends_with(&[0, 8, 0, 4, 0, 0, 0, 0]), "{bytes:?}");
}

#[test]
fn what_is_too_large_is_cut_and_fits_over_tcp() {
    let world = World::with(|config| {
        let label = "a-name-server-whose-name-is-as-long-as-they-come";
        config.nameservers = (0..13).map(|n| (format!("ns{n}.{label}.{n}.example.org"), vec![])).collect();
    });
    let mut asked = query("cdn.example.net", RecordType::NS, "");
    let whole = asked.to_vec().expect("bytes");
    assert_eq!(sent(&world, &whole).answers.len(), 13, "within 1,232 bytes");
    asked.edns = Some(Edns::new());
    let small = asked.to_vec().expect("bytes");
    asked.edns = None;
    for packet in [small, asked.to_vec().expect("bytes")] {
        let answer = sent(&world, &packet);
        assert_eq!((answer.truncation, answer.answers.len(), answer.queries.len()), (true, 0, 1));
        let answer = Message::from_vec(&world.send(&packet, Transport::Tcp)).expect("an answer");
        assert_eq!((answer.truncation, answer.answers.len()), (false, 13));
    }
    assert_eq!(world.count(Outcome::Truncated), 2);
}

#[test]
fn the_hint_to_ask_over_tcp_is_no_longer_than_the_question() {
    let mut out = vec![9];
    ask_over_tcp(&good(), &mut out);
    let hint = Message::from_vec(&out).expect("a message");
    assert_eq!((hint.id, hint.truncation, hint.answers.len()), (4_711, true, 0));
    assert_eq!(hint.queries, Message::from_vec(&good()).expect("a message").queries);
    assert!(out.len() <= good().len());
    let mut answer = good();
    answer[2] |= 0x80;
    for packet in [&answer[..], &good()[..20], &[], &[0; 12]] {
        ask_over_tcp(packet, &mut out);
        assert!(out.is_empty());
    }
}
