//! The zone: which records answer a question for a subnet, by the region's plan of now.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::op::{LowerQuery, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, NS, SOA};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};
use spillway_model::{ContentClass, ContentId, Mode, PathwayId, PathwayState, RegionId, TimestampMs, ViewId};
use spillway_routing::{Ranked, hash_pair};
use spillway_service::geo::Client;
use spillway_wire::token::{Needs, Token};

use super::config::{DnsSettings, Target, target_of};
use super::subnet::Subnet;
use super::tally::Outcome;
use crate::asker::content_of;
use crate::prepared::Prepared;
use crate::{SteerState, decide};

/// Who serves the zone changes seldom.
const NS_TTL_S: u32 = 3_600;
/// For secondaries, of which there are none.
const REFRESH_S: i32 = 3_600;
const RETRY_S: i32 = 600;
const EXPIRE_S: i32 = 604_800;

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) additional: Vec<Record>,
    pub(crate) outcome: Outcome,
}

impl Reply {
    fn of(outcome: Outcome, answers: Vec<Record>) -> Self {
        Self { code: ResponseCode::NoError, answers, authority: vec![], additional: vec![], outcome }
    }

    fn refused() -> Self {
        Self { code: ResponseCode::Refused, ..Self::of(Outcome::Refused, vec![]) }
    }

    /// Whether we speak for the zone here.
    pub(crate) fn is_authoritative(&self) -> bool {
        self.code != ResponseCode::Refused
    }
}

/// What a name is.
enum Node {
    /// Nothing but the way to names below it.
    Path,
    /// A name server.
    Host(Vec<IpAddr>),
    /// Where a title is watched from.
    Title(Title),
}

struct Title {
    content: ContentId,
    class: Option<ContentClass>,
}

/// A manifest with where its pathways are.
struct Plan {
    manifest: Arc<Prepared>,
    targets: BTreeMap<PathwayId, Target>,
}

/// The zone's names, and the plans that are in use.
pub(crate) struct Zone {
    apex: LowerName,
    origin: Name,
    primary: Name,
    contact: Name,
    ttl_s: u32,
    servers: Vec<Record>,
    glue: Vec<Record>,
    nodes: HashMap<LowerName, Node>,
    /// Paths of titles, by the name that they are below.
    wildcards: HashMap<LowerName, String>,
    targets: BTreeMap<PathwayId, Target>,
    /// By region; a region that is gone is not asked for any more.
    plans: RwLock<BTreeMap<RegionId, Arc<Plan>>>,
    serial: Serial,
}

impl Zone {
    pub(crate) fn new(settings: &DnsSettings, state: &SteerState) -> Self {
        let origin = Name::from(&settings.apex);
        let mut zone = Self {
            apex: settings.apex.clone(),
            primary: settings.nameservers.first().map_or_else(Name::root, |(name, _)| name.clone()),
            contact: settings.contact.clone(),
            ttl_s: settings.ttl_s,
            servers: vec![],
            glue: vec![],
            nodes: HashMap::from([(settings.apex.clone(), Node::Path)]),
            wildcards: HashMap::new(),
            targets: settings.targets.clone(),
            plans: RwLock::default(),
            serial: Serial::default(),
            origin,
        };
        for (name, addresses) in &settings.nameservers {
            zone.servers.push(Record::from_rdata(zone.origin.clone(), NS_TTL_S, RData::NS(NS(name.clone()))));
            if !addresses.is_empty() {
                zone.glue.extend(addresses.iter().map(|address| of_address(name, NS_TTL_S, *address)));
                zone.add(LowerName::new(name), Node::Host(addresses.clone()));
            }
        }
        for (name, path) in &settings.names {
            if name.is_wildcard() {
                zone.add(name.base_name(), Node::Path);
                zone.wildcards.insert(name.base_name(), path.clone());
            } else {
                zone.add(name.clone(), Node::Title(title(state, path)));
            }
        }
        zone
    }

    /// Adds a name and those on the way to it; what is there already stays unless it is only on the way.
    fn add(&mut self, name: LowerName, node: Node) {
        let mut above = name.base_name();
        while self.apex.zone_of(&above) {
            self.nodes.entry(above.clone()).or_insert(Node::Path);
            above = above.base_name();
        }
        if !matches!(node, Node::Path) || !self.nodes.contains_key(&name) {
            self.nodes.insert(name, node);
        }
    }

    /// Answers one question for `subnet`. The same subnet gets the same answer while the plan stands: shares move by
    /// the hash of subnet and name, as sessions do by theirs.
    pub(crate) fn answer(&self, state: &SteerState, query: &LowerQuery, subnet: &Subnet, now: TimestampMs) -> Reply {
        let kind = query.query_type();
        if query.query_class() != DNSClass::IN || is_meta(kind) || !self.apex.zone_of(query.name()) {
            return Reply::refused();
        }
        let name = query.original().name();
        if *query.name() == self.apex {
            return self.at_apex(state, name, kind, now);
        }
        let wild;
        let title = match self.nodes.get(query.name()) {
            Some(Node::Title(title)) => title,
            Some(Node::Host(addresses)) => {
                let own = addresses.iter().filter(|address| kind == type_of(**address));
                let records = own.map(|address| of_address(name, NS_TTL_S, *address)).collect();
                return self.answer_or_nothing(state, name, kind, Outcome::Answered, records, now);
            }
            Some(Node::Path) => return self.answer_or_nothing(state, name, kind, Outcome::Answered, vec![], now),
            None => match self.below_wildcard(state, query.name()) {
                Some(found) => {
                    wild = found;
                    &wild
                }
                None => return self.nothing(state, Outcome::NoName, now),
            },
        };
        let records =
            self.steered(state, title, query.name(), subnet, now, |target| records(target, name, kind, self.ttl_s));
        self.answer_or_nothing(state, name, kind, Outcome::Steered, records, now)
    }

    fn at_apex(&self, state: &SteerState, name: &Name, kind: RecordType, now: TimestampMs) -> Reply {
        let records = match kind {
            RecordType::SOA => vec![self.soa(state, now)],
            RecordType::NS => self.servers.clone(),
            _ => vec![],
        };
        let glue = if kind == RecordType::NS { self.glue.clone() } else { vec![] };
        Reply { additional: glue, ..self.answer_or_nothing(state, name, kind, Outcome::Answered, records, now) }
    }

    /// The title of a name below a wildcard: the labels between, in their order, end its path (RFC 4592: the wildcard of
    /// the closest name that is there).
    fn below_wildcard(&self, state: &SteerState, name: &LowerName) -> Option<Title> {
        let mut above = name.base_name();
        while !self.nodes.contains_key(&above) {
            above = above.base_name();
        }
        let path = self.wildcards.get(&above)?;
        let labels = name.iter().count() - above.iter().count();
        let rest: Vec<_> = name.iter().take(labels).map(String::from_utf8_lossy).collect();
        Some(title(state, &format!("{path}{}", rest.join("."))))
    }

    /// What `make` gives for the pathway that the plan puts first for this subnet and name.
    ///
    /// One pathway answers every type of record: else a resolver that asks for both addresses would split each viewer
    /// over two, by what the network prefers. A device has no second choice as a player has: in control a DOWN pathway
    /// is passed over whatever has weight.
    fn steered(
        &self,
        state: &SteerState,
        title: &Title,
        name: &LowerName,
        subnet: &Subnet,
        now: TimestampMs,
        make: impl FnOnce(&Target) -> Vec<Record>,
    ) -> Vec<Record> {
        let cohort = state.deployed.now().locate(&Client::at(subnet.address)).cohort;
        let plan = self.plan(state, &cohort.region, now);
        let token = Token {
            view: session_of(subnet, name),
            region: cohort.region,
            asn: cohort.asn,
            class: title.class.clone(),
            // Who asks for an address is about to connect: a new view.
            started: now,
            content: title.content.clone(),
            pathways: vec![],
            first: None,
            needs: Needs::default(),
        };
        let order = decide::ranked(&token, None, &plan.manifest);
        let is_down = |ranked: &&Ranked| {
            plan.manifest.pathways.get(&ranked.pathway).is_some_and(|pathway| pathway.state == PathwayState::Down)
        };
        let mut reached = order.iter().filter(|ranked| plan.targets.contains_key(&ranked.pathway)).peekable();
        let first = match reached.peek().copied() {
            Some(first) if is_down(&first) && in_control(&plan.manifest, title) => {
                reached.find(|ranked| !is_down(ranked)).or(Some(first))
            }
            first => first,
        };
        first.and_then(|first| plan.targets.get(&first.pathway)).map(make).unwrap_or_default()
    }

    /// The plan of a region; where its pathways are is found out once for each manifest.
    fn plan(&self, state: &SteerState, region: &RegionId, now: TimestampMs) -> Arc<Plan> {
        let manifest = state.manifests.current(region, now).manifest;
        {
            let held = self.plans.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(plan) = held.get(region).filter(|plan| Arc::ptr_eq(&plan.manifest, &manifest)) {
                return Arc::clone(plan);
            }
        }
        let target = |(id, base_url): (&PathwayId, &String)| {
            let target = self.targets.get(id).cloned().or_else(|| target_of(base_url, &self.origin));
            if target.is_none() {
                tracing::warn!(pathway = %id, base_url, "a pathway's host is in the zone: it needs steer.dns.targets");
            }
            Some((id.clone(), target?))
        };
        let pathways = manifest.pathways.iter().map(|(id, pathway)| (id, &pathway.base_url));
        let plan = Arc::new(Plan { targets: pathways.filter_map(target).collect(), manifest });
        let mut held = self.plans.write().unwrap_or_else(PoisonError::into_inner);
        held.insert(region.clone(), Arc::clone(&plan));
        plan
    }

    /// `records`, or that there are none of this type. ANY gets what RFC 8482 has for it, unless an alias is there.
    fn answer_or_nothing(
        &self,
        state: &SteerState,
        name: &Name,
        kind: RecordType,
        outcome: Outcome,
        records: Vec<Record>,
        now: TimestampMs,
    ) -> Reply {
        if !records.is_empty() {
            return Reply::of(outcome, records);
        }
        if kind == RecordType::ANY {
            let minimal = RData::HINFO(HINFO::new("RFC8482".into(), String::new()));
            return Reply::of(Outcome::Answered, vec![Record::from_rdata(name.clone(), NS_TTL_S, minimal)]);
        }
        self.nothing(state, Outcome::NoData, now)
    }

    fn nothing(&self, state: &SteerState, outcome: Outcome, now: TimestampMs) -> Reply {
        let code = if outcome == Outcome::NoName { ResponseCode::NXDomain } else { ResponseCode::NoError };
        Reply { code, authority: vec![self.soa(state, now)], ..Reply::of(outcome, vec![]) }
    }

    fn soa(&self, state: &SteerState, now: TimestampMs) -> Record {
        let serial = self.serial.at(state, now);
        let (primary, contact) = (self.primary.clone(), self.contact.clone());
        let soa = SOA::new(primary, contact, serial, REFRESH_S, RETRY_S, EXPIRE_S, self.ttl_s);
        Record::from_rdata(self.origin.clone(), self.ttl_s, RData::SOA(soa))
    }
}

/// The zone's version: when the newest manifest of any region was made, s since 1970; 1 before there is one. It never
/// goes back while the node runs, and nodes with the same manifests agree.
#[derive(Default)]
struct Serial {
    looked_s: AtomicU64,
    value: AtomicU32,
}

impl Serial {
    fn at(&self, state: &SteerState, now: TimestampMs) -> u32 {
        let now_s = now.0 / 1_000;
        if self.looked_s.swap(now_s, Ordering::Relaxed) != now_s {
            let deployment = state.deployed.now();
            let regions = deployment.regions.keys();
            let newest = regions.map(|region| state.manifests.current(region, now).manifest.issued.0 / 1_000).max();
            self.value.fetch_max(newest.unwrap_or(0).max(1) as u32, Ordering::Relaxed);
        }
        self.value.load(Ordering::Relaxed)
    }
}

fn title(state: &SteerState, path: &str) -> Title {
    Title { content: content_of(path), class: state.settings.class_of.class_of(path).cloned() }
}

/// The session that stands for all viewers of a subnet and name.
fn session_of(subnet: &Subnet, name: &LowerName) -> ViewId {
    let mut text = String::with_capacity(64);
    for label in name.iter() {
        text.push_str(&String::from_utf8_lossy(label));
        text.push('.');
    }
    let hash = hash_pair(&subnet.to_string(), &text);
    ViewId::new(&format!("dns-{hash:08x}")).expect("letters and digits make an id")
}

/// Whether the plan is in force for the title's class; observe and shadow move nobody.
fn in_control(manifest: &Prepared, title: &Title) -> bool {
    let fits = |class: &Option<ContentClass>| class.is_none() || *class == title.class;
    manifest.modes.iter().find(|rule| fits(&rule.class)).is_some_and(|rule| rule.mode == Mode::Control)
}

fn records(target: &Target, name: &Name, kind: RecordType, ttl_s: u32) -> Vec<Record> {
    let record = |data| Record::from_rdata(name.clone(), ttl_s, data);
    match (target, kind) {
        // An alias answers every type.
        (Target::Alias(to), _) => vec![record(RData::CNAME(CNAME(to.clone())))],
        (Target::Addresses { a, .. }, RecordType::A) => a.iter().map(|it| record(RData::A(A(*it)))).collect(),
        (Target::Addresses { aaaa, .. }, RecordType::AAAA) => {
            aaaa.iter().map(|it| record(RData::AAAA(AAAA(*it)))).collect()
        }
        (Target::Addresses { .. }, _) => vec![],
    }
}

fn of_address(name: &Name, ttl_s: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Record::from_rdata(name.clone(), ttl_s, data)
}

const fn type_of(address: IpAddr) -> RecordType {
    if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }
}

/// Types that are no data of a name (RFC 6895, 3.1: OPT, and 128 to 255), zone transfers among them; ANY is answered.
fn is_meta(kind: RecordType) -> bool {
    let number = u16::from(kind);
    kind != RecordType::ANY && (number == 0 || kind == RecordType::OPT || (128..=255).contains(&number))
}
