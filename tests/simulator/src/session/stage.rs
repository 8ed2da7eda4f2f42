//! All players of a run, woken when something happens to them.

use std::collections::BTreeMap;

use spillway_model::{ContentId, PathwayId};
use spillway_routing::{Manifest, Session, rank};

use super::net::Traces;
use super::player::{MovedBy, Player};
use crate::demand::Demand;
use crate::evidence::{Evidence, HOT_TITLE};
use crate::faults::Broken;
use crate::fluid::delivery::Delivery;
use crate::format::Status;
use crate::policies::Policy;
use crate::random::{mix, unit};
use crate::world::{World, index};

/// What luck is for.
pub(crate) const HIT: u64 = 77;
const DRAWN: u64 = 79;
const JITTER: u64 = 80;
/// Titles beside the one of a crowd, by popularity k^-1.
const TITLES: usize = 200;

/// What players find in one second.
pub(crate) struct Moment<'a> {
    pub second: u64,
    pub broken: &'a Broken,
    pub delivery: &'a Delivery,
    /// Bit/s lately, by pathway.
    pub load: &'a [f64],
    pub manifests: &'a [&'a Manifest],
}

/// What a second brought. Tables by cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub windows: Vec<u64>,
    pub bad: Vec<u64>,
    /// Bad ones that are not any day's.
    pub excess: Vec<u64>,
    /// Bits asked for, by pathway.
    pub bits: Vec<f64>,
    /// Media requests of all views: the view's number, where, moved by what.
    pub requests: Vec<(u64, usize, MovedBy)>,
    pub ended: Vec<u64>,
    pub bitrate_share: f64,
}

pub(crate) struct Stage<'a> {
    pub(super) world: &'a World,
    pub(super) policy: Policy,
    seed: u64,
    pub(super) traces: &'a Traces,
    /// Boxed: at each thing that happens to it a player is taken out and put back.
    players: Vec<Option<Box<Player>>>,
    free: Vec<usize>,
    /// Who wakes in which second.
    wakes: Vec<Vec<usize>>,
    /// Views by cell; of them, those that ignore steering.
    pub here: Vec<u64>,
    pub(super) fixed: Vec<u64>,
    by_region: Vec<u64>,
    born: Vec<u64>,
    pub started: u64,
    titles: Vec<ContentId>,
    hot: ContentId,
    paths: BTreeMap<PathwayId, usize>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(world: &'a World, policy: Policy, seed: u64, traces: &'a Traces) -> Self {
        Self {
            players: Vec::new(),
            free: Vec::new(),
            wakes: Vec::new(),
            here: vec![0; world.cells()],
            fixed: vec![0; world.cells()],
            by_region: vec![0; world.regions.len()],
            born: vec![0; world.regions.len()],
            started: 0,
            titles: (0..TITLES).map(|k| ContentId::new(&format!("vod/{k}")).expect("a valid id")).collect(),
            hot: ContentId::new(HOT_TITLE).expect("a valid id"),
            paths: index(world),
            world,
            policy,
            seed,
            traces,
        }
    }

    pub(crate) fn players(&self) -> impl Iterator<Item = &Player> {
        self.players.iter().flatten().map(Box::as_ref)
    }

    /// Views come until as many are there as want to watch.
    pub(crate) fn fill(
        &mut self,
        demand: &Demand<'_>,
        second: u64,
        manifests: &[&Manifest],
        broken: &Broken,
        evidence: &mut Evidence,
    ) {
        for (r, manifest) in manifests.iter().enumerate() {
            let wanted = demand.region(r, second as f64).round() as u64;
            let hot = demand.one_title(r, second as f64);
            while self.by_region[r] < wanted {
                let first = self.arrive(r, second, hot, manifest, broken);
                // Who was there before the beginning was assigned before.
                evidence.assigned[r * self.world.paths.len() + first].sessions += u64::from(second > 0);
            }
        }
    }

    /// A view comes; returns its first pathway.
    fn arrive(&mut self, r: usize, second: u64, hot: f64, manifest: &Manifest, broken: &Broken) -> usize {
        let world = self.world;
        let number = self.born[r];
        self.born[r] += 1;
        self.started += 1;
        self.by_region[r] += 1;
        let luck = mix(&[world.luck(self.seed, r), number, 5]);
        let draw = |what: u64| unit(&[luck, what]);
        let mut left = draw(1);
        let region = &world.regions[r];
        let cohort = region.cohorts.clone().find(|c| {
            left -= world.cohorts[*c].part;
            left < 0.0
        });
        let cohort = cohort.unwrap_or(region.cohorts.end - 1);
        let at = second as f64 + if second == 0 { 0.0 } else { draw(2) };
        let ends = at + 1.0 - world.view_s * draw(3).ln();
        let title = if draw(4) < hot {
            self.hot.clone()
        } else {
            self.titles[(((TITLES as f64 + 1.0).powf(draw(5)) - 1.0) as usize).min(TITLES - 1)].clone()
        };
        let id = format!("view-{}-{r}-{number}", self.seed);
        let mut player = Box::new(Player::new(id, luck, cohort, title, at, ends));
        player.number = self.started;
        player.kind = self.kind(draw(6), draw(7));
        player.next_beat = at + world.players.heartbeat_s as f64 * if second == 0 { draw(8) } else { 1.0 };
        if second == 0 {
            // It asks when there is room for a segment, at any time of the interval.
            let (wait, segment_s) = (draw(9) * world.players.segment_s as f64, world.players.segment_s as f64);
            player.settle(world.players.buffer_s as f64 + 1.0 - segment_s + wait);
            player.next_request = at + wait;
        }
        self.answer(&mut player, at, manifest, true, broken);
        if self.policy.steers() && player.kind.is_some() {
            player.next_poll = at + player.ttl_s * if second == 0 { draw(10) } else { 1.0 };
        }
        let cell = world.cell(player.cohort, player.path);
        self.here[cell] += 1;
        self.fixed[cell] += u64::from(player.kind.is_none());
        let place = self.free.pop().unwrap_or_else(|| {
            self.players.push(None);
            self.players.len() - 1
        });
        self.plan(place, player.wakes(), second);
        let first = player.path;
        self.players[place] = Some(player);
        first
    }

    fn kind(&self, ignores: f64, which: f64) -> Option<usize> {
        let players = &self.world.players;
        if ignores < players.ignore_steering {
            return None;
        }
        let mut left = which * players.kind.iter().map(|kind| kind.part).sum::<f64>();
        let kind = players.kind.iter().position(|kind| {
            left -= kind.part;
            left < 0.0
        });
        Some(kind.unwrap_or(players.kind.len() - 1))
    }

    fn plan(&mut self, place: usize, at: f64, second: u64) {
        let slot = (at.max(second as f64).min(second as f64 + 600.0)) as usize;
        if self.wakes.len() <= slot {
            self.wakes.resize(slot + 1, Vec::new());
        }
        self.wakes[slot].push(place);
    }

    /// An answer of the steering server, or the playlist.
    pub(super) fn answer(&self, player: &mut Player, now: f64, manifest: &Manifest, playlist: bool, broken: &Broken) {
        if player.epoch != manifest.epoch || playlist {
            let mut session = Session::new(&player.id, player.started);
            session.asn = self.world.cohorts[player.cohort].asn;
            let order = rank(&session, &player.content, manifest);
            player.order.clear();
            player.order.extend(order.iter().filter_map(|ranked| self.paths.get(&ranked.pathway)));
            player.epoch = manifest.epoch;
        }
        if playlist && broken.no_steering {
            let region = &self.world.regions[self.world.cohorts[player.cohort].region];
            let mut left = player.luck(DRAWN, 0);
            let drawn = region.pathways.iter().copied().find(|p| {
                left -= region.static_weights[*p];
                left < 0.0
            });
            player.order.sort_by_key(|p| Some(*p) != drawn);
        }
        let jitter = manifest.ttl.jitter.as_fraction() * (2.0 * player.luck(JITTER, 0) - 1.0);
        player.ttl_s = f64::from(manifest.ttl.live_s) * (1.0 + jitter);
        player.next_poll = now + player.ttl_s.max(1.0);
        let Some(first) = player.first_allowed(now) else { return };
        if playlist {
            player.path = first;
        } else if first != player.path {
            self.steer(player, now, first);
        }
    }

    /// Steered elsewhere: who aborts a hanging request asks there at once, others wait for its end.
    fn steer(&self, player: &mut Player, now: f64, to: usize) {
        let aborts = player.kind.is_some_and(|kind| self.world.players.kind[kind].aborts);
        if aborts && player.request.is_some_and(|request| request.fails == Some(Status::Hang)) {
            (player.request, player.next_request) = (None, now);
        }
        player.move_to(now, to, MovedBy::Steering);
    }

    pub(crate) fn second(&mut self, moment: &Moment<'_>, evidence: &mut Evidence) -> Done {
        let cells = self.world.cells();
        let mut done = Done {
            windows: vec![0; cells],
            bad: vec![0; cells],
            excess: vec![0; cells],
            bits: vec![0.0; self.world.paths.len()],
            ..Done::default()
        };
        let slot = moment.second as usize;
        let due = self.wakes.get_mut(slot).map(std::mem::take).unwrap_or_default();
        let (mut got, mut wanted) = (0.0, 0.0);
        for place in due {
            let Some(mut player) = self.players[place].take() else { continue };
            let until = moment.second as f64 + 1.0;
            let region = self.world.cohorts[player.cohort].region;
            let mut alive = true;
            while alive && player.wakes() < until {
                alive = self.event(&mut player, moment, evidence, &mut done, (&mut got, &mut wanted));
            }
            let cell = self.world.cell(player.cohort, player.path);
            if alive {
                self.plan(place, player.wakes(), moment.second + 1);
                self.players[place] = Some(player);
            } else {
                self.here[cell] -= 1;
                self.fixed[cell] -= u64::from(player.kind.is_none());
                self.by_region[region] -= 1;
                self.free.push(place);
                done.ended.push(player.number);
            }
        }
        done.bitrate_share = if wanted > 0.0 { got / wanted } else { 1.0 };
        done
    }

    /// Gauges at the end of a frame.
    pub(crate) fn gauges(&self, demand: &Demand<'_>, second: u64, broken: &Broken, evidence: &mut Evidence) {
        for (i, counts) in evidence.cells.iter_mut().enumerate() {
            counts.views = self.here[i];
            counts.fixed = self.fixed[i];
        }
        for player in self.players().filter(|player| player.kind.is_some() && !broken.no_steering) {
            let region = self.world.cohorts[player.cohort].region;
            if let Some(first) = player.order.first() {
                evidence.assigned[region * self.world.paths.len() + first].polling += 1;
            }
        }
        for r in 0..self.world.regions.len() {
            evidence.one_title[r] = demand.one_title(r, second as f64);
        }
    }
}
