//! A zone under test, asked by packets.

mod config;
mod hostile;
mod packets;
mod sockets;
mod zone;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use spillway_routing::Manifest;

use super::{Dns, DnsConfig, Outcome, TargetConfig, Transport};
use crate::SteerState;
use crate::tests::fixtures::{self, NOW, StoppedClock, deployment, region, sealed, signing_key};

/// Where queries without a client subnet come from: nobody's prefix, so the default region, `eu-a`.
pub(crate) const RESOLVER: &str = "192.0.2.7";

/// The zone `cdn.example.net`: own nodes have addresses, CDNs are aliases of their hosts.
pub(crate) fn config() -> DnsConfig {
    let own = |n: u8| TargetConfig { a: vec![[198, 51, 100, n].into()], ..TargetConfig::default() };
    let six = TargetConfig { aaaa: vec!["2001:db8::1".parse().expect("address")], ..own(1) };
    let names = [("vod", "/vod/lake"), ("live", "live/river"), ("*.live", "live/"), ("deep.down", "vod/deep")];
    DnsConfig {
        listen: vec![([127, 0, 0, 1], 0).into()],
        zone: "cdn.example.net".into(),
        nameservers: BTreeMap::from([
            ("ns1.cdn.example.net".into(), vec![[192, 0, 2, 53].into(), "2001:db8::53".parse().expect("address")]),
            ("ns2.example.org".into(), vec![]),
        ]),
        contact: "dns@example.net".into(),
        ttl_s: 30,
        names: names.map(|(name, path)| (name.to_owned(), path.to_owned())).into(),
        targets: BTreeMap::from([("own-x-1".into(), six), ("own-x-2".into(), own(2)), ("own-x-3".into(), own(3))]),
        answers_per_prefix_per_s: 1_000_000,
        tcp_connections_max: 256,
    }
}

pub(crate) struct World {
    pub(crate) state: Arc<SteerState>,
    pub(crate) dns: Dns,
    pub(crate) clock: Arc<StoppedClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// A node with a changed configuration; it has no manifest yet.
    pub(crate) fn with(change: impl FnOnce(&mut DnsConfig)) -> Self {
        let mut dns = config();
        change(&mut dns);
        let config = crate::SteerConfig { dns: Some(dns), ..fixtures::config("http://origin.example") };
        let clock = StoppedClock::new();
        let state = SteerState::new(
            &config,
            deployment(),
            (vec![], String::new()),
            Arc::clone(&clock) as Arc<dyn spillway_model::Clock>,
        );
        let state = Arc::new(state.expect("valid"));
        state.manifests.set_keys(BTreeMap::from([("k1".to_owned(), signing_key().verifying_key())]));
        let dns = Dns::new(&state, state.settings.dns.as_ref().expect("dns")).expect("valid");
        Self { state, dns, clock }
    }

    /// The manifest of `eu-a` from now on.
    pub(crate) fn publish(&self, manifest: &Manifest) -> &Self {
        self.state.manifests.offer(&region(), &sealed(manifest), NOW).expect("good");
        self
    }

    /// The answer's bytes; empty for none.
    pub(crate) fn send(&self, packet: &[u8], transport: Transport) -> Vec<u8> {
        let mut out = vec![1];
        self.dns.respond(packet, RESOLVER.parse::<IpAddr>().expect("address"), transport, &mut out);
        out
    }

    /// Asks by UDP, for `subnet` if it is not empty.
    pub(crate) fn ask(&self, name: &str, kind: RecordType, subnet: &str) -> Message {
        let packet = query(name, kind, subnet).to_vec().expect("bytes");
        Message::from_vec(&self.send(&packet, Transport::Udp)).expect("an answer")
    }

    /// What a name is for a subnet: the alias' host or the first address.
    pub(crate) fn whereto(&self, name: &str, subnet: &str) -> String {
        let answer = self.ask(name, RecordType::A, subnet);
        assert_eq!((answer.response_code, answer.authoritative), (ResponseCode::NoError, true), "{answer}");
        match &answer.answers.first().expect("a record").data {
            RData::CNAME(alias) => alias.0.to_string(),
            RData::A(address) => address.0.to_string(),
            other => panic!("{other}"),
        }
    }

    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.dns.tally.of(outcome)
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).expect("name")
}

/// A query as resolvers send it; `subnet` as `203.0.113.0/24`, or nothing.
pub(crate) fn query(of: &str, kind: RecordType, subnet: &str) -> Message {
    let mut message = Message::new(4_711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name(of), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(4_096);
    if !subnet.is_empty() {
        edns.options_mut().insert(EdnsOption::Subnet(subnet.parse().expect("subnet")));
    }
    message.set_edns(edns);
    message
}

/// The client subnet of an answer, as (source bits, scope bits).
pub(crate) fn scope(answer: &Message) -> Option<(u8, u8)> {
    match answer.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some((subnet.source_prefix(), subnet.scope_prefix())),
        other => panic!("{other:?}"),
    }
}
