//! Rollup: soft state per view, counters per cell, one frame a second.
//!
//! The state is lost with the process, on purpose: a view that is first seen without its start only sets the base that
//! later counters are compared with. Events that arrive more than a minute late move that base and count for nothing,
//! because a frame speaks of now.

mod cell;
mod clock;
mod denied;
mod path;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use spillway_lake::events::EventBatch;
use spillway_model::limits::{ASNS_PER_REGION_MAX, FRAME_CONTENT_MAX, VIEW_SILENCE_MS};
use spillway_service::Deployed;
use spillway_wire::cmcd::UNLINKED_PREFIX;
use spillway_wire::frame::{CellKey, ContentViews, DeviceViews, FRAME_VERSION, Frame};

use crate::limit::Prefix;
use crate::receive::SDK;
use cell::{Cells, Crowd, Place, Sink};
use denied::Denials;
use view::View;

/// Older events are history: they belong to the lake only.
const LATE_MS: u64 = 60_000;

/// How rollups count.
pub(crate) struct Settings {
    /// Name of this collector in its frames.
    pub(crate) source: String,
    /// Heartbeat interval while playing, ms.
    pub(crate) heartbeat_ms: u64,
    /// Weight of one prefix at most, share of the cell.
    pub(crate) cap_share: f64,
    /// The cap holds from this many views in the cell on.
    pub(crate) cap_min_views: usize,
    /// Views followed at a time.
    pub(crate) views_max: usize,
}

struct State {
    views: HashMap<String, View>,
    cells: Cells,
    denials: Denials,
    /// Views by region and network, for the limit on networks told apart.
    networks: BTreeMap<String, BTreeMap<u32, usize>>,
    seq: u64,
    start_ms: u64,
}

/// Live counters of one collector.
pub(crate) struct Rollups {
    settings: Settings,
    deployed: Deployed,
    hasher: RandomState,
    state: Mutex<State>,
}

impl Rollups {
    pub(crate) fn new(settings: Settings, deployed: Deployed, now_ms: u64) -> Self {
        let state = State {
            views: HashMap::new(),
            cells: Cells::default(),
            denials: Denials::default(),
            networks: BTreeMap::new(),
            seq: 0,
            start_ms: now_ms,
        };
        Self { settings, deployed, hasher: RandomState::new(), state: Mutex::new(state) }
    }

    /// Counts durable events of one beacon. `now_ms` is monotonic.
    pub(crate) fn observe(&self, key: &str, batch: &EventBatch, prefix: Prefix, now_ms: u64) {
        if batch.source != SDK && batch.ctx.view_id.starts_with(UNLINKED_PREFIX) {
            // A bucket of records without a view says nothing of a view.
            return;
        }
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        // One view has one sender that is believed, whatever its source: the SDK, or else the first.
        let view_key = key.rsplit_once('/').map_or(key, |(view, _source)| view);
        let mut place = self.place(state, view_key, batch, prefix);
        let mut counted_new = false;
        if let Some(view) = state.views.get(view_key)
            && view.source != batch.source
        {
            if batch.source != SDK {
                metrics::counter!("spillway_collector_events_shadowed_total").increment(batch.events.len() as u64);
                return;
            }
            counted_new = view.counted_new;
            leave(&mut state.networks, &view.place.key);
            state.views.remove(view_key);
        }
        if !state.views.contains_key(view_key) {
            if state.views.len() >= self.settings.views_max {
                metrics::counter!("spillway_collector_views_not_followed_total").increment(1);
                return;
            }
            enter(&mut state.networks, &place.key);
            let mut view = View::new(place.clone(), batch, now_ms, self.settings.heartbeat_ms);
            view.counted_new = counted_new;
            state.views.insert(view_key.to_owned(), view);
        }
        let Some(view) = state.views.get_mut(view_key) else { return };
        if batch.ctx.format.is_none() {
            // Not every CMCD record tells it.
            Arc::make_mut(&mut place.key).protocol.clone_from(&view.place.key.protocol);
        }
        if view.content.is_empty() {
            view.content.clone_from(&batch.ctx.content_id);
        }
        if view.place.key != place.key {
            leave(&mut state.networks, &view.place.key);
            enter(&mut state.networks, &place.key);
        }
        view.place = place.clone();
        let mut events: Vec<_> = batch.events.iter().collect();
        events.sort_by_key(|stamped| stamped.event.seq);
        let deployment = self.deployed.now();
        let known = |pathway: &str| deployment.pathways.contains_key(pathway);
        let mut sink = Sink::new(&mut state.cells, &place);
        for stamped in events {
            sink.mute(batch.received_ms.saturating_sub(stamped.event_ms) > LATE_MS);
            view.observe(&stamped.event, now_ms, &known, &mut sink);
        }
    }

    fn place(&self, state: &State, key: &str, batch: &EventBatch, prefix: Prefix) -> Place {
        let networks = state.networks.get(&batch.region);
        let told_apart = |asn: &u32| {
            networks.is_none_or(|networks| networks.len() < ASNS_PER_REGION_MAX || networks.contains_key(asn))
        };
        let protocol = match batch.ctx.format.as_deref() {
            Some("hls") => "hls",
            Some("dash") => "dash",
            _ => "other",
        };
        let key_of_cell = CellKey {
            property: batch.property.clone(),
            pathway: String::new(),
            region: batch.region.clone(),
            asn: batch.asn.filter(told_apart),
            protocol: protocol.into(),
        };
        // Hashed with this process's own key: the prefix cannot be read back from the state.
        Place { key: Arc::new(key_of_cell), view: self.hasher.hash_one(key), prefix: self.hasher.hash_one(prefix) }
    }

    /// The frame of the time since the last one. `now_ms` is wall clock, `mono_ms` monotonic.
    pub(crate) fn frame(&self, now_ms: u64, mono_ms: u64) -> Frame {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let mut gone = Vec::new();
        for (key, view) in &mut state.views {
            let place = view.place.clone();
            let mut sink = Sink::new(&mut state.cells, &place);
            view.tick(mono_ms, &mut sink);
            if mono_ms.saturating_sub(view.last_seen_ms) >= VIEW_SILENCE_MS {
                view.close(&mut sink);
                gone.push(key.clone());
            }
        }
        for key in gone {
            if let Some(view) = state.views.remove(&key) {
                leave(&mut state.networks, &view.place.key);
            }
        }
        let (mut content, mut crowd) = (HashMap::new(), Crowd::default());
        let mut devices: BTreeMap<(&str, &'static str), u64> = BTreeMap::new();
        for view in state.views.values().filter(|view| view.is_active(mono_ms)) {
            let (pathway, region) = (view.pathway.as_deref().unwrap_or_default(), view.place.key.region.as_str());
            crowd.add(&view.place, pathway);
            Sink::new(&mut state.cells, &view.place).cell(pathway).views_active += 1;
            *devices.entry((region, view.device)).or_default() += 1;
            if !view.content.is_empty() {
                *content.entry((view.content.as_str(), region)).or_default() += 1;
            }
        }
        // Also those that are over: a fault that ends views is no less one.
        for view in state.views.values() {
            if let Some(pathway) = view.bad_lately(mono_ms) {
                Sink::new(&mut state.cells, &view.place).cell(pathway).views_bad += 1;
            }
        }
        state.denials.judge(&mut state.cells, &crowd, mono_ms);
        let cells =
            std::mem::take(&mut state.cells).finish(&crowd, self.settings.cap_share, self.settings.cap_min_views);
        metrics::gauge!("spillway_collector_views_followed").set(state.views.len() as f64);
        let frame = Frame {
            v: FRAME_VERSION,
            source: self.settings.source.clone(),
            kind: "collector".into(),
            seq: state.seq,
            start_ms: state.start_ms,
            end_ms: now_ms,
            cells,
            content: largest(content),
            devices: by_device(devices),
        };
        state.seq += 1;
        state.start_ms = now_ms;
        frame
    }
}

fn by_device(views: BTreeMap<(&str, &'static str), u64>) -> Vec<DeviceViews> {
    let row = |((region, device), views_active): ((&str, &str), u64)| DeviceViews {
        region: region.to_owned(),
        device: device.to_owned(),
        views_active,
        ..DeviceViews::default()
    };
    views.into_iter().map(row).collect()
}

fn enter(networks: &mut BTreeMap<String, BTreeMap<u32, usize>>, key: &CellKey) {
    if let Some(asn) = key.asn {
        *networks.entry(key.region.clone()).or_default().entry(asn).or_default() += 1;
    }
}

fn leave(networks: &mut BTreeMap<String, BTreeMap<u32, usize>>, key: &CellKey) {
    if let (Some(asn), Some(region)) = (key.asn, networks.get_mut(&key.region))
        && let Some(views) = region.get_mut(&asn)
    {
        *views -= 1;
        if *views == 0 {
            region.remove(&asn);
        }
    }
}

/// The titles with the most views, the same order for the same counts.
fn largest(content: HashMap<(&str, &str), u64>) -> Vec<ContentViews> {
    let mut all: Vec<_> = content.into_iter().collect();
    all.sort_by(|(a, views_of_a), (b, views_of_b)| views_of_b.cmp(views_of_a).then_with(|| a.cmp(b)));
    all.truncate(FRAME_CONTENT_MAX);
    let told = |((content, region), views_active): ((&str, &str), u64)| ContentViews {
        content: content.to_owned(),
        region: region.to_owned(),
        views_active,
    };
    all.into_iter().map(told).collect()
}
