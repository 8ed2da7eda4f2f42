//! What the orchestrator learns from a steering node: sessions assigned, polls, who polls, who never came, and requests
//! that are no audience.
//!
//! The map of sessions feeds counters only; no answer depends on it, so it may be lost and it may be full.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use spillway_model::limits::ASNS_PER_REGION_MAX;
use spillway_model::{PathwayId, Protocol, RegionId, TimestampMs};
use spillway_service::deployment::Deployment;
use spillway_wire::frame::{Cell, CellKey, DeviceViews, FRAME_VERSION, Frame};
use spillway_wire::token::Token;

use crate::decide::{STRETCH_MAX_MILLI, STRETCH_NONE_MILLI};
use crate::trail::Told;

/// Sessions told apart; more are counted as polls but not as sessions.
const SESSIONS_MAX: usize = 262_144;
/// A poll may come this much later than its TTL said.
const POLL_SLACK_MS: u64 = 2_000;
/// Or this much earlier, and still be the poll that was due.
const POLL_EARLY_MS: u64 = 1_000;
/// A start without a poll for this many TTLs is a ghost.
const GHOST_TTLS: u64 = 3;

/// A cell by what it is about. Cheap to make: ids are shared, not copied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    pathway: PathwayId,
    region: RegionId,
    asn: Option<u32>,
    protocol: Protocol,
}

/// Small, since there are many and each poll comes to another one.
struct Watched {
    place: Arc<Place>,
    device: &'static str,
    until: TimestampMs,
    ttl_s: u32,
    polled: bool,
}

/// By place, with the copy of it that sessions share.
type Cells = HashMap<Place, (Arc<Place>, Cell)>;

/// By region and device class.
type Devices = BTreeMap<(RegionId, &'static str), DeviceViews>;

/// Who asks, and for what.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) token: &'a Token,
    /// Class of the device.
    pub(crate) device: &'static str,
    pub(crate) protocol: Protocol,
}

#[derive(Default)]
struct Inner {
    seq: u64,
    start: TimestampMs,
    /// Counts since the last frame; their keys are written when it leaves.
    cells: Cells,
    devices: Devices,
    /// By a hash of the view: all that is asked of a view is whether it is the same.
    sessions: HashMap<u64, Watched>,
    hasher: RandomState,
    asns: BTreeMap<RegionId, BTreeSet<u32>>,
}

/// Counters of a steering node.
pub(crate) struct Counters {
    source: String,
    property: String,
    poll_budget_per_s: u32,
    stretch_milli: AtomicU64,
    inner: Mutex<Inner>,
}

impl Counters {
    pub(crate) fn new(source: &str, deployment: &Deployment, poll_budget_per_s: u32, now: TimestampMs) -> Self {
        // A token names no property; with a single one there is no doubt.
        let mut properties = deployment.properties.values();
        let property = match (properties.next(), properties.next()) {
            (Some((id, _)), None) => id.to_string(),
            _ => String::new(),
        };
        Self {
            source: source.into(),
            property,
            poll_budget_per_s,
            stretch_milli: AtomicU64::new(STRETCH_NONE_MILLI),
            inner: Mutex::new(Inner { start: now, ..Inner::default() }),
        }
    }

    /// How much longer TTLs should be than planned, in thousandths.
    pub(crate) fn stretch_milli(&self) -> u64 {
        self.stretch_milli.load(Ordering::Relaxed)
    }

    /// A playlist (`polls`: steering polls should follow) or a decision went out with `first` in front.
    pub(crate) fn assigned(&self, asked: Asked<'_>, first: &PathwayId, ttl_s: u32, polls: bool, now: TimestampMs) {
        let device = asked.device;
        self.with_place((asked.token, asked.token.asn), asked.protocol, first, |inner, place| {
            Inner::device_of(&mut inner.devices, &place, device).sessions_assigned += 1;
            let (place, cell) = inner.cell(place);
            cell.sessions_assigned += 1;
            if polls {
                let until = TimestampMs(now.0 + GHOST_TTLS * u64::from(ttl_s) * 1_000);
                let view = inner.hasher.hash_one(asked.token.view.as_str());
                inner.watch(view, Watched { place, device, until, ttl_s, polled: false });
            }
        });
    }

    /// A poll by a valid token was answered with `first` in front; `told`: what it says of the pathway on which it was
    /// told to stay.
    pub(crate) fn polled(
        &self,
        asked: Asked<'_>,
        first: &PathwayId,
        ttl_s: u32,
        told: (Told, Option<&PathwayId>),
        now: TimestampMs,
    ) {
        let device = asked.device;
        self.with_place((asked.token, asked.token.asn), asked.protocol, first, |inner, place| {
            let view = inner.hasher.hash_one(asked.token.view.as_str());
            if let (Told::Stayed | Told::Fled, Some(settled)) = told {
                inner.settled(view, settled, told.0, now);
            }
            let (place, cell) = inner.cell(place);
            cell.polls += 1;
            let until = TimestampMs(now.0 + u64::from(ttl_s) * 1_000 + POLL_SLACK_MS);
            inner.watch(view, Watched { place, device, until, ttl_s, polled: true });
        });
    }

    /// A request without a valid session token was answered with `first` in front: no audience, and so without a
    /// network, since a flood must not use up the networks that are told apart.
    pub(crate) fn untrusted(&self, stranger: &Token, protocol: Protocol, first: &PathwayId) {
        self.with_place((stranger, None), protocol, first, |inner, place| inner.cell(place).1.sessions_untrusted += 1);
    }

    /// What was counted since the last frame.
    pub(crate) fn take_frame(&self, now: TimestampMs) -> Frame {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        inner.close_sessions(now);
        let mut expected_milli_polls = 0;
        for session in inner.sessions.values().filter(|session| session.polled) {
            Inner::cell_of(&mut inner.cells, &session.place).sessions_polling += 1;
            Inner::device_of(&mut inner.devices, &session.place, session.device).sessions_polling += 1;
            expected_milli_polls += 1_000 / u64::from(session.ttl_s.max(1));
        }
        self.set_stretch(expected_milli_polls / 1_000);
        let frame = Frame {
            v: FRAME_VERSION,
            source: self.source.clone(),
            kind: "steer".into(),
            seq: inner.seq,
            start_ms: inner.start.0,
            end_ms: now.0,
            cells: self.told(&mut inner.cells),
            content: vec![],
            devices: std::mem::take(&mut inner.devices).into_values().collect(),
        };
        inner.seq += 1;
        inner.start = now;
        frame
    }

    /// By the polls that today's sessions will send at today's TTLs, so that it does not swing: a stretch shows in the
    /// very number that it comes from and stays until the sessions are gone.
    fn set_stretch(&self, expected_polls_per_s: u64) {
        let current = self.stretch_milli();
        let wanted = expected_polls_per_s * current / u64::from(self.poll_budget_per_s);
        let wanted = wanted.clamp(STRETCH_NONE_MILLI, STRETCH_MAX_MILLI);
        // Half way: sessions take a whole TTL to learn of a change.
        self.stretch_milli.store(current.midpoint(wanted), Ordering::Relaxed);
    }

    /// The cells with their keys, in order, and none left.
    fn told(&self, cells: &mut Cells) -> Vec<Cell> {
        let mut cells: Vec<(Place, Cell)> = cells.drain().map(|(place, (_, cell))| (place, cell)).collect();
        cells.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let named = cells.into_iter().map(|(place, counts)| {
            let key = CellKey {
                property: self.property.clone(),
                pathway: place.pathway.to_string(),
                region: place.region.to_string(),
                asn: place.asn,
                protocol: place.protocol.to_string(),
            };
            Cell { key, ..counts }
        });
        named.collect()
    }

    fn with_place(
        &self,
        (token, asn): (&Token, Option<u32>),
        protocol: Protocol,
        first: &PathwayId,
        count: impl FnOnce(&mut Inner, Place),
    ) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let asn = asn.and_then(|asn| inner.bounded_asn(&token.region, asn));
        count(&mut inner, Place { pathway: first.clone(), region: token.region.clone(), asn, protocol });
    }
}

impl Inner {
    fn cell(&mut self, place: Place) -> (Arc<Place>, &mut Cell) {
        let new = |place: &Place| (Arc::new(place.clone()), Cell::default());
        let (place, cell) = self.cells.entry(place).or_insert_with_key(new);
        (Arc::clone(place), cell)
    }

    /// The cell of a session that is watched.
    fn cell_of<'c>(cells: &'c mut Cells, place: &Arc<Place>) -> &'c mut Cell {
        &mut cells.entry(Place::clone(place)).or_insert_with(|| (Arc::clone(place), Cell::default())).1
    }

    fn device_of<'d>(devices: &'d mut Devices, place: &Place, device: &'static str) -> &'d mut DeviceViews {
        devices.entry((place.region.clone(), device)).or_insert_with(|| DeviceViews {
            region: place.region.to_string(),
            device: device.to_owned(),
            ..DeviceViews::default()
        })
    }

    fn bounded_asn(&mut self, region: &RegionId, asn: u32) -> Option<u32> {
        let known = self.asns.entry(region.clone()).or_default();
        if known.len() < ASNS_PER_REGION_MAX {
            known.insert(asn);
        }
        known.contains(&asn).then_some(asn)
    }

    /// A poll of a session that was told to stay on `pathway`. It is evidence only where this node told it so, at a poll,
    /// and a TTL ago: what a URL says of that anyone can write, as often as they like.
    fn settled(&mut self, view: u64, pathway: &PathwayId, told: Told, now: TimestampMs) {
        let due = |last: &&Watched| now.0 + POLL_EARLY_MS + POLL_SLACK_MS >= last.until.0;
        let known = self.sessions.get(&view).filter(|last| last.polled && last.place.pathway == *pathway);
        if let Some(last) = known.filter(due) {
            let cell = Self::cell_of(&mut self.cells, &last.place);
            cell.sessions_settled += 1;
            cell.sessions_fled += u64::from(told == Told::Fled);
        }
    }

    fn watch(&mut self, view: u64, watched: Watched) {
        if self.sessions.len() < SESSIONS_MAX || self.sessions.contains_key(&view) {
            self.sessions.insert(view, watched);
        } else {
            metrics::counter!("spillway_steer_sessions_untracked_total").increment(1);
        }
    }

    fn close_sessions(&mut self, now: TimestampMs) {
        let (cells, devices) = (&mut self.cells, &mut self.devices);
        self.sessions.retain(|_, session| {
            let over = session.until < now;
            if over && !session.polled {
                Self::cell_of(cells, &session.place).ghost_starts += 1;
                Self::device_of(devices, &session.place, session.device).ghost_starts += 1;
            }
            !over
        });
    }
}
