//! Between manifests and shares of views. The fluid mode needs the shares that `rank()` gives to very many sessions;
//! a test in `tests/shares.rs` holds this file to `rank()`.

use std::collections::BTreeMap;

use spillway_model::{BitsPerSecond, ContentId, GroupId, Mode, PathwayId, PathwayKind, PathwayState, Ppm};
use spillway_routing::{
    CohortRule, Group, Manifest, ModeRule, Pathway, Serves, Session, Target, TtlPolicy, Weights, rank,
};

use crate::evidence::{HOT_TITLE, timestamp};
use crate::world::{Region, World};

/// Where a region's sessions are sent.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    /// First place of new views, by cohort of the region × pathway.
    pub new: Vec<f64>,
    /// First place of running views.
    pub running: Vec<f64>,
    /// Second place for each first, pathway × pathway.
    pub second: Vec<f64>,
    /// Poll interval, s; 0: at once (only an oracle can).
    pub ttl_s: f64,
    /// Highest bitrate, bit/s.
    pub max_bitrate: Option<f64>,
}

impl Shares {
    /// The shares behind a manifest. `one_title`: share of views on one title.
    pub(crate) fn of(manifest: &Manifest, world: &World, region: &Region, one_title: f64) -> Self {
        let view = View { manifest, world, region };
        let mut out = Self {
            new: Vec::new(),
            running: Vec::new(),
            second: view.second(),
            ttl_s: f64::from(manifest.ttl.live_s),
            max_bitrate: manifest.max_bitrate_kbps.iter().map(|(_, kbps)| f64::from(*kbps) * 1e3).reduce(f64::min),
        };
        let hold = view.holdback();
        let control = manifest
            .modes
            .first()
            .filter(|rule| rule.mode == Mode::Control)
            .map_or(0.0, |rule| rule.control.as_fraction());
        let mut memo: BTreeMap<usize, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        for c in region.cohorts.clone() {
            let asn = world.cohorts[c].asn;
            let rule = manifest.cohorts.iter().position(|rule| rule.asn.is_some() && rule.asn == asn);
            let rule = rule.or_else(|| manifest.cohorts.iter().position(|rule| rule.asn.is_none()));
            let Some(rule) = rule else { continue };
            let (new, running) = memo.entry(rule).or_insert_with(|| {
                let rule = &manifest.cohorts[rule];
                let mixed = |weights: &Weights| view.mixed(weights, &hold, control, one_title);
                let mut running = if rule.weights_running == rule.weights_new {
                    mixed(&rule.weights_new)
                } else {
                    mixed(&rule.weights_running)
                };
                view.add_probes(&mut running, control);
                (mixed(&rule.weights_new), running)
            });
            out.new.extend_from_slice(new);
            out.running.extend_from_slice(running);
        }
        out
    }
}

struct View<'a> {
    manifest: &'a Manifest,
    world: &'a World,
    region: &'a Region,
}

impl View<'_> {
    fn pathway(&self, p: usize) -> Option<&Pathway> {
        self.manifest.pathways.get(&self.world.paths[p].id)
    }

    fn alive(&self, p: usize) -> bool {
        self.pathway(p).is_some_and(|pathway| pathway.state != PathwayState::Down)
    }

    /// Weights by pathway; a group's spread over its nodes.
    fn spread(&self, weights: &Weights, alive_only: bool) -> Vec<f64> {
        let mut out = vec![0.0; self.world.paths.len()];
        for &p in &self.region.pathways {
            if alive_only && !self.alive(p) {
                continue;
            }
            let path = &self.world.paths[p];
            out[p] += f64::from(weights.get(&Target::Pathway(path.id.clone())).copied().unwrap_or(0));
            let Some(group) = &path.group else { continue };
            let of_group = f64::from(weights.get(&Target::Group(group.clone())).copied().unwrap_or(0));
            if of_group > 0.0 {
                let usable = |node: &PathwayId| {
                    !alive_only || self.manifest.pathways.get(node).is_some_and(|p| p.state != PathwayState::Down)
                };
                let nodes = self.manifest.groups.get(group).map(|group| &group.nodes);
                let all: f64 =
                    nodes.into_iter().flatten().filter(|(id, _)| usable(id)).map(|(_, w)| f64::from(*w)).sum();
                let own = nodes.and_then(|nodes| nodes.get(&path.id)).copied().unwrap_or(0);
                out[p] += if all > 0.0 { of_group * f64::from(own) / all } else { 0.0 };
            }
        }
        let total: f64 = out.iter().sum();
        if total > 0.0 {
            out.iter_mut().for_each(|share| *share /= total);
        } else if alive_only {
            return self.spread(weights, false);
        }
        out
    }

    /// Sessions that are not under control: static, but not on a DOWN pathway where the region is in control.
    fn holdback(&self) -> Vec<f64> {
        self.spread(&self.manifest.static_weights, false)
    }

    fn mixed(&self, weights: &Weights, hold: &[f64], control: f64, one_title: f64) -> Vec<f64> {
        let mut plan = self.spread(weights, true);
        if one_title > 0.0 && weights.keys().any(|target| matches!(target, Target::Group(_))) {
            let title = self.sampled(one_title_sessions());
            plan.iter_mut().zip(title).for_each(|(share, title)| *share += one_title * (title - *share));
        }
        let mut out: Vec<f64> = plan.iter().map(|share| share * control).collect();
        for (p, share) in hold.iter().enumerate() {
            let share = share * (1.0 - control);
            if control > 0.0 && share > 0.0 && !self.alive(p) {
                plan.iter().zip(&mut out).for_each(|(part, out)| *out += part * share);
            } else {
                out[p] += share;
            }
        }
        out
    }

    /// Running views whose turn it is to try a DOWN pathway.
    fn add_probes(&self, running: &mut [f64], control: f64) {
        for (id, probe) in &self.manifest.probes {
            let Some(p) = self.world.paths.iter().position(|path| path.id == *id) else { continue };
            if self.alive(p) {
                continue;
            }
            let part = probe.share.as_fraction() * control;
            running.iter_mut().for_each(|share| *share *= 1.0 - part);
            running[p] += part;
        }
    }

    /// What `rank()` says of sessions that watch the one title.
    fn sampled(&self, sessions: impl Iterator<Item = String>) -> Vec<f64> {
        let mut out = vec![0.0; self.world.paths.len()];
        let content = ContentId::new(HOT_TITLE).expect("a valid id");
        let mut count = 0.0;
        for id in sessions {
            let order = rank(&Session::new(&id, timestamp(0)), &content, self.manifest);
            let first = order.first().and_then(|first| self.world.paths.iter().position(|p| p.id == first.pathway));
            if let Some(p) = first {
                out[p] += 1.0;
                count += 1.0;
            }
        }
        out.iter_mut().for_each(|share| *share /= f64::max(count, 1.0));
        out
    }

    /// Who follows each first: by spare weights outside its failure domains.
    fn second(&self) -> Vec<f64> {
        let n = self.world.paths.len();
        let spare = self.manifest.cohorts.iter().find(|rule| rule.asn.is_none()).map(|rule| &rule.spare);
        let mut out = vec![0.0; n * n];
        for &first in &self.region.pathways {
            let Some(domains) = self.pathway(first).map(|pathway| &pathway.failure_domains) else { continue };
            let draws = |q: usize| {
                let path = &self.world.paths[q];
                let weight = |target: &Target| spare.and_then(|spare| spare.get(target)).copied().unwrap_or(0);
                f64::from(weight(&Target::Pathway(path.id.clone())))
            };
            let others = || self.region.pathways.iter().copied().filter(move |q| *q != first);
            let apart = |q: &usize| self.pathway(*q).is_some_and(|other| other.failure_domains.is_disjoint(domains));
            let places: [&dyn Fn(usize) -> f64; 3] = [
                &|q| if self.alive(q) && apart(&q) { draws(q) } else { 0.0 },
                &|q| if self.alive(q) && apart(&q) { 1.0 } else { 0.0 },
                &|_| 1.0,
            ];
            for place in places {
                let all: f64 = others().map(place).sum();
                if all > 0.0 {
                    others().for_each(|q| out[first * n + q] = place(q) / all);
                    break;
                }
            }
        }
        out
    }
}

fn one_title_sessions() -> impl Iterator<Item = String> {
    (0..400).map(|k| format!("sample-{k}"))
}

/// A manifest for a policy that knows only shares: what it wants for new and running views by cohort of the region,
/// and who takes over by `spare`.
pub(crate) fn manifest(
    world: &World,
    region: usize,
    wanted: &[Vec<f64>],
    spare: &[f64],
    ttl_s: u32,
    max_bitrate_kbps: Option<u32>,
) -> Manifest {
    let here = &world.regions[region];
    let weights = |shares: &[f64]| -> Weights {
        here.pathways
            .iter()
            .map(|&p| (target(world, p), (shares[p].max(0.0) * 1e6).round() as u32))
            .filter(|(_, w)| *w > 0)
            .collect()
    };
    let rule = |asn, shares: &[f64]| CohortRule {
        asn,
        class: None,
        device_class: None,
        weights_new: weights(shares),
        weights_running: weights(shares),
        running_before: timestamp(0),
        spare: weights(spare),
        reason: String::new(),
    };
    let mut cohorts: Vec<CohortRule> = Vec::new();
    if wanted.len() > 1 {
        let named = here.cohorts.clone().zip(wanted).map(|(c, shares)| rule(world.cohorts[c].asn, shares));
        cohorts.extend(named);
    }
    cohorts.push(rule(None, &wanted[0]));
    Manifest {
        region: here.id.clone(),
        epoch: 0,
        issued: timestamp(0),
        valid_until: timestamp(0),
        policy: String::new(),
        modes: vec![ModeRule { class: None, mode: Mode::Control, control: Ppm::ALL }],
        pathways: here.pathways.iter().map(|&p| (world.paths[p].id.clone(), pathway(world, p))).collect(),
        groups: groups(world, here),
        cohorts,
        max_bitrate_kbps: max_bitrate_kbps.map(|kbps| (None, kbps)).into_iter().collect(),
        probes: BTreeMap::new(),
        hot_titles: BTreeMap::new(),
        ttl: TtlPolicy { vod_s: ttl_s, live_s: ttl_s, suspect_s: ttl_s, jitter: Ppm(100_000) },
        static_weights: weights(&here.static_weights),
        shadow: vec![],
        overrides: vec![],
        drill: None,
    }
}

/// Own clusters with their nodes by capacity: what takes over inside a cluster is drawn by title.
fn groups(world: &World, region: &Region) -> BTreeMap<GroupId, Group> {
    let mut out: BTreeMap<GroupId, Group> = BTreeMap::new();
    for &p in &region.pathways {
        if let Some(group) = &world.paths[p].group {
            let all: f64 = region
                .pathways
                .iter()
                .map(|p| &world.paths[*p])
                .filter(|q| q.group.as_ref() == Some(group))
                .map(|q| q.claimed)
                .sum();
            let weight = (world.paths[p].claimed / all * 1e6).round() as u32;
            out.entry(group.clone()).or_default().nodes.insert(world.paths[p].id.clone(), weight);
        }
    }
    out
}

fn target(world: &World, p: usize) -> Target {
    Target::Pathway(world.paths[p].id.clone())
}

fn pathway(world: &World, p: usize) -> Pathway {
    let path = &world.paths[p];
    let mut domains: std::collections::BTreeSet<String> = [path.id.as_str().to_owned()].into();
    domains.extend(path.group.as_ref().map(|group| group.as_str().to_owned()));
    Pathway {
        kind: if path.own { PathwayKind::Own } else { PathwayKind::Commercial },
        state: PathwayState::Healthy,
        reason: String::new(),
        since: timestamp(0),
        utilisation: Ppm::ZERO,
        capacity: BitsPerSecond(path.claimed as u64),
        learned_capacity: BitsPerSecond(path.claimed as u64),
        serves: Serves::default(),
        group: path.group.clone(),
        origin_group: None,
        failure_domains: domains,
        base_url: format!("http://{}.example", path.id.as_str()),
        signer: None,
    }
}
