//! All viewers: who they are, when they come and go. The same seed gives the same ones.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use spillway_model::Clock as _;
use spillway_service::{CancellationToken, SystemClock};
use tokio::task::JoinSet;
use url::Url;

use super::behaviour::Behaviour;
use super::record::ViewRecord;
use super::rng::SplitMix64;
use super::state::Moment;
use super::view::View;

/// Finished views whose records are kept.
const MAX_RECORDS: usize = 20_000;
const FIRST_HOST: usize = 2;
const HOSTS: usize = 250;
const DEVICES: [&str; 4] = ["desktop", "mobile", "tv", "tablet"];

/// What a device of this class calls itself, so that steering nodes see the classes that beacons tell.
pub(crate) fn agent_of(device_class: &str) -> &'static str {
    match device_class {
        "desktop" => "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
        "mobile" => {
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36"
        }
        "tablet" => {
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"
        }
        _ => "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0 Safari/537.36",
    }
}

/// What all viewers have in common.
#[derive(Clone)]
pub struct Surroundings {
    /// Multivariant playlist as the steering node gives it.
    pub playlist_url: Url,
    /// Where beacons go, with the write key.
    pub beacon_url: Url,
    /// Title.
    pub content_id: String,
    /// Clock of all measurements.
    pub clock: SystemClock,
    /// Counters over all views.
    pub totals: Arc<Totals>,
}

impl Surroundings {
    pub(crate) fn moment(&self) -> Moment {
        Moment { now_ms: self.clock.monotonic().0, wall_ms: self.clock.now().0 }
    }
}

/// Counters over all views.
#[derive(Debug, Default)]
pub struct Totals {
    /// POSTs, repeated ones included.
    pub beacons_sent: AtomicU64,
    /// POSTs that have to be repeated.
    pub beacons_retried: AtomicU64,
    /// Events that no collector took before their sender gave up.
    pub events_given_up: AtomicU64,
    /// Steering polls without a usable answer.
    pub polls_failed: AtomicU64,
    refused: Mutex<BTreeMap<String, u64>>,
}

impl Totals {
    pub(crate) fn refuse(&self, reason: &str, events: u64) {
        let mut refused = self.refused.lock().expect("nothing panics while counting");
        *refused.entry(reason.to_owned()).or_default() += events;
    }

    /// Events that the collector refused for good, by reason.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<String, u64> {
        self.refused.lock().expect("nothing panics while counting").clone()
    }
}

/// Viewers of one region.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionShare {
    /// Region.
    pub region: String,
    /// Second octet of its viewers' addresses.
    pub octet: u8,
    /// Share of all viewers that are there from the start.
    pub share: f64,
    /// Share of all viewers that come with the spike.
    #[serde(default)]
    pub spike_share: f64,
}

/// What viewers are like.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manners {
    /// Share that behaves as dash.js.
    pub dash_share: f64,
    /// Share that ignores steering.
    pub ignoring_share: f64,
    /// Slowest and fastest access line, Mbit/s.
    pub access_mbps: [f64; 2],
    /// Mean length of a view, s.
    pub mean_view_s: f64,
    /// Networks of a region: third octets 1 to this.
    pub networks: u8,
}

/// One viewer's place; when a view ends, another begins there.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Place among all.
    pub index: usize,
    /// Region.
    pub region: String,
    /// Source address.
    pub address: Ipv4Addr,
    /// Kind of player.
    pub behaviour: Behaviour,
    /// First view begins so long after the story, s.
    pub joins_s: f64,
}

/// One view as drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewPlan {
    /// Its id.
    pub view_id: String,
    /// Region.
    pub region: String,
    /// Source address.
    pub address: Ipv4Addr,
    /// Kind of player.
    pub behaviour: Behaviour,
    /// Device class in beacons.
    pub device_class: &'static str,
    /// Access line.
    pub access_bps: u64,
    /// Media needed before the first picture.
    pub start_after_ms: u64,
    /// Length of the view.
    pub stay_ms: u64,
    /// For its own draws.
    pub seed: u64,
}

/// Draws the places: those of each region's share join over the ramp, those of the spike over the spike.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
pub fn slots(
    seed: u64,
    viewers: usize,
    regions: &[RegionShare],
    manners: &Manners,
    ramp_s: (f64, f64),
    spike_s: (f64, f64),
) -> Vec<Slot> {
    let mut out: Vec<Slot> = Vec::new();
    for (number, region) in regions.iter().enumerate() {
        let mut rng = SplitMix64::for_item(seed, 1, number as u64);
        let base = (region.share * viewers as f64).round() as usize;
        let spike = (region.spike_share * viewers as f64).round() as usize;
        let mut behaviours = behaviours(base + spike, manners);
        rng.shuffle(&mut behaviours);
        let networks = usize::from(manners.networks.max(1));
        for (place, behaviour) in behaviours.into_iter().enumerate() {
            let (from_s, to_s) = if place < base { ramp_s } else { spike_s };
            let (network, host) = (place % networks + 1, FIRST_HOST + place / networks % HOSTS);
            out.push(Slot {
                index: out.len(),
                region: region.region.clone(),
                address: Ipv4Addr::new(127, region.octet, network as u8, host as u8),
                behaviour,
                joins_s: rng.between(from_s, to_s),
            });
        }
    }
    out
}

/// Quotas rather than chance, so that small regions have their share of each kind too.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
fn behaviours(count: usize, manners: &Manners) -> Vec<Behaviour> {
    let quota = |share: f64| (share * count as f64).round() as usize;
    let (dash, ignoring) = (quota(manners.dash_share), quota(manners.ignoring_share));
    let mut out = vec![Behaviour::Hls; count];
    for (place, behaviour) in out.iter_mut().enumerate() {
        if place < dash {
            *behaviour = Behaviour::Dash;
        } else if place < dash + ignoring {
            *behaviour = Behaviour::Ignores;
        }
    }
    out
}

impl Slot {
    /// The `nth` view at this place; `run` begins its id, by which it is assigned to pathways.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
    pub fn view(&self, seed: u64, nth: u64, manners: &Manners, run: &str) -> ViewPlan {
        let mut rng = SplitMix64::for_item(seed, 1_000 + self.index as u64, nth);
        let [slowest, fastest] = manners.access_mbps;
        ViewPlan {
            view_id: format!("{run}-{seed}-{:04}-{nth}", self.index),
            region: self.region.clone(),
            address: self.address,
            behaviour: self.behaviour,
            device_class: DEVICES[rng.below(DEVICES.len())],
            access_bps: (rng.between(slowest, fastest) * 1e6) as u64,
            start_after_ms: rng.between(2_000.0, 4_000.0) as u64,
            stay_ms: ((20.0 + rng.exponential(manners.mean_view_s - 20.0)) * 1_000.0) as u64,
            seed: rng.next_u64(),
        }
    }
}

#[derive(Default)]
struct Views {
    running: BTreeMap<usize, Arc<View>>,
    finished: Vec<ViewRecord>,
}

/// Running viewers.
pub struct Population {
    views: Arc<Mutex<Views>>,
    tasks: JoinSet<()>,
    leave: CancellationToken,
}

/// How many views are where now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Views by region and pathway; the pathway is empty before the first playlist.
    pub views: BTreeMap<String, BTreeMap<String, u64>>,
    /// Views whose picture stands still, by region.
    pub stalled: BTreeMap<String, u64>,
}

impl Population {
    /// Lets everyone join at their time from now on.
    #[must_use]
    pub fn start(slots: Vec<Slot>, seed: u64, manners: &Manners, run: &str, around: &Surroundings) -> Self {
        let views = Arc::new(Mutex::new(Views::default()));
        let leave = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for slot in slots {
            let (views, around, leave) = (Arc::clone(&views), around.clone(), leave.clone());
            let (manners, run) = (manners.clone(), run.to_owned());
            tasks.spawn(async move { occupy(slot, seed, &manners, &run, around, &views, &leave).await });
        }
        Self { views, tasks, leave }
    }

    /// Where everyone is.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for view in self.running() {
            let (pathway, stalled) = view.standing();
            let region = &view.plan.region;
            *census.views.entry(region.clone()).or_default().entry(pathway).or_default() += 1;
            *census.stalled.entry(region.clone()).or_default() += u64::from(stalled);
        }
        census
    }

    /// The records of all views so far, running ones as they stand.
    #[must_use]
    pub fn records(&self) -> Vec<ViewRecord> {
        let mut records = self.views.lock().expect("nothing panics while views are listed").finished.clone();
        records.extend(self.running().iter().map(|view| view.snapshot()));
        records
    }

    fn running(&self) -> Vec<Arc<View>> {
        self.views.lock().expect("nothing panics while views are listed").running.values().cloned().collect()
    }

    /// Sends everyone home, waits for their last beacons, and returns all records.
    pub async fn stop(mut self) -> Vec<ViewRecord> {
        self.leave.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a viewer broke off");
            }
        }
        self.records()
    }
}

async fn occupy(
    slot: Slot,
    seed: u64,
    manners: &Manners,
    run: &str,
    around: Surroundings,
    views: &Mutex<Views>,
    leave: &CancellationToken,
) {
    let mut pause = Duration::from_secs_f64(slot.joins_s.max(0.0));
    for nth in 0.. {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = leave.cancelled() => return,
        }
        let plan = slot.view(seed, nth, manners, run);
        pause = Duration::from_millis(200 + plan.seed % 1_300);
        let view = match View::new(plan, around.clone()) {
            Ok(view) => Arc::new(view),
            Err(error) => {
                tracing::error!(%error, "no client for a viewer");
                continue;
            }
        };
        let listed = || views.lock().expect("nothing panics while views are listed");
        listed().running.insert(slot.index, Arc::clone(&view));
        view.run(leave).await;
        let mut views = listed();
        views.running.remove(&slot.index);
        if views.finished.len() < MAX_RECORDS {
            views.finished.push(view.snapshot());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manners() -> Manners {
        Manners { dash_share: 0.1, ignoring_share: 0.03, access_mbps: [1.0, 8.0], mean_view_s: 300.0, networks: 4 }
    }

    fn regions() -> Vec<RegionShare> {
        let region = |region: &str, octet, share, spike_share| RegionShare {
            region: region.to_owned(),
            octet,
            share,
            spike_share,
        };
        vec![region("eu-west", 11, 0.2, 0.2), region("eu-south", 13, 0.6, 0.0)]
    }

    #[test]
    fn the_same_seed_gives_the_same_viewers_and_another_seed_others() {
        let draw = |seed| slots(seed, 100, &regions(), &manners(), (0.0, 8.0), (14.0, 30.0));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let slot = &draw(7)[5];
        assert_eq!(slot.view(7, 1, &manners(), "s"), slot.view(7, 1, &manners(), "s"));
        assert_ne!(slot.view(7, 1, &manners(), "s").access_bps, slot.view(7, 2, &manners(), "s").access_bps);
    }

    #[test]
    fn shares_quotas_and_addresses_are_kept() {
        let slots = slots(7, 100, &regions(), &manners(), (0.0, 8.0), (14.0, 30.0));
        let south: Vec<_> = slots.iter().filter(|slot| slot.region == "eu-south").collect();
        assert_eq!((slots.len(), south.len()), (100, 60));
        let count = |behaviour| south.iter().filter(|slot| slot.behaviour == behaviour).count();
        assert_eq!((count(Behaviour::Dash), count(Behaviour::Ignores)), (6, 2));
        assert!(south.iter().all(|slot| slot.address.octets()[..2] == [127, 13] && slot.joins_s < 8.0));
        let spike = slots.iter().filter(|slot| slot.joins_s >= 14.0).count();
        assert_eq!(spike, 20);
        let mut addresses: Vec<_> = slots.iter().map(|slot| slot.address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 100);
    }
}
