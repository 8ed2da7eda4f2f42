//! Manifests for the night when nothing decides: static weights, or everything off one pathway. Out of the last manifest
//! or of one made from configuration; nothing is measured here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use spillway_model::{BitsPerSecond, ContentClass, PathwayId, PathwayState, TimestampMs};
use spillway_routing::{CohortRule, Manifest, Pathway, Target, Weights};

use crate::weights::apportion;

/// Policy that manifests by hand name.
const POLICY: &str = "by hand";
/// A usable pathway without spare room still ranks before a dead one, ppm.
const SPARE_MIN_PPM: u32 = 1_000;

/// What an evacuation does to the rule for everybody.
#[derive(Clone, Debug, PartialEq)]
pub struct Evacuation {
    /// Share of new views by pathway or group, ppm, before and after.
    pub shares: BTreeMap<String, (u32, u32)>,
    /// What the evacuated pathways carried when the manifest was made.
    pub moved: BitsPerSecond,
    /// Room that those who take it had then.
    pub spare: BitsPerSecond,
    /// Everything that is left shares a failure domain with what is evacuated.
    pub same_domain: bool,
}

/// Why a pathway can't be evacuated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CannotEvacuate {
    /// Neither a pathway nor a group of the region.
    Unknown {
        /// What was named.
        name: String,
        /// Region.
        region: String,
        /// What would be valid.
        valid: String,
    },
    /// Nothing that lives would be left.
    NothingLeft {
        /// What was named.
        name: String,
        /// Everybody, or a class.
        of: String,
        /// Region.
        region: String,
    },
}

impl fmt::Display for CannotEvacuate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, region, valid } => {
                write!(f, "{name:?} is neither a pathway nor a group of {region} (valid: {valid})")
            }
            Self::NothingLeft { name, of, region } => {
                write!(f, "without {name} nothing that serves {of} in {region} would be left")
            }
        }
    }
}

impl std::error::Error for CannotEvacuate {}

/// The same region by its static weights alone: everybody, whatever is known of the pathways. DOWN ones stay last.
#[must_use]
pub fn by_static_weights(manifest: &Manifest, why: &str) -> Manifest {
    let weights = manifest.static_weights.clone();
    let rule = CohortRule {
        asn: None,
        class: None,
        device_class: None,
        spare: spare_weights(manifest, &manifest.pathways.keys().collect()),
        weights_running: weights.clone(),
        weights_new: weights,
        running_before: TimestampMs::ZERO,
        reason: format!("static weights: {why}"),
    };
    Manifest {
        policy: POLICY.into(),
        cohorts: vec![rule],
        max_bitrate_kbps: vec![],
        probes: BTreeMap::new(),
        shadow: vec![],
        overrides: vec![],
        drill: None,
        ..manifest.clone()
    }
}

/// The same region with everybody off `name`, a pathway or a group. What it had goes to the others by spare room, outside
/// its failure domains where anything else lives, as [`rank()`](spillway_routing::rank) chooses second places. It is
/// marked DOWN, so that it is last in every order, and static weights lose it too: where nothing is steered, they alone count.
///
/// # Errors
/// [`CannotEvacuate`].
pub fn evacuate(
    manifest: &Manifest,
    name: &str,
    why: &str,
    now: TimestampMs,
) -> Result<(Manifest, Evacuation), CannotEvacuate> {
    let gone = named(manifest, name)?;
    let nothing_left = |class: Option<&ContentClass>| CannotEvacuate::NothingLeft {
        name: name.to_owned(),
        of: class.map_or("anybody".to_owned(), ToString::to_string),
        region: manifest.region.to_string(),
    };
    let plan = Plan { manifest, gone: &gone };
    let reason = format!("evacuation of {name}: {why}");
    let mut cohorts = Vec::new();
    for rule in &manifest.cohorts {
        let class = rule.class.as_ref();
        let takers = plan.takers(class).ok_or_else(|| nothing_left(class))?;
        cohorts.push(CohortRule {
            weights_new: plan.without(&rule.weights_new, &takers),
            weights_running: plan.without(&rule.weights_running, &takers),
            spare: spare_weights(manifest, &plan.usable(class)),
            reason: reason.clone(),
            ..rule.clone()
        });
    }
    let takers = plan.takers(None).ok_or_else(|| nothing_left(None))?;
    let mut out = Manifest {
        policy: POLICY.into(),
        cohorts,
        static_weights: plan.without(&manifest.static_weights, &takers),
        groups: plan.groups(),
        probes: manifest
            .probes
            .iter()
            .filter(|(id, _)| !gone.contains(*id))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect(),
        shadow: vec![],
        drill: None,
        ..manifest.clone()
    };
    let quick = out.ttl.suspect_s;
    (out.ttl.live_s, out.ttl.vod_s) = (out.ttl.live_s.min(quick), out.ttl.vod_s.min(quick));
    for id in &gone {
        if let Some(pathway) = out.pathways.get_mut(id) {
            pathway.state = PathwayState::Down;
            pathway.since = now;
            pathway.reason.clone_from(&reason);
        }
    }
    let evacuation = Evacuation {
        shares: shares(manifest, &out),
        moved: BitsPerSecond(gone.iter().map(|id| load(&manifest.pathways[id])).sum::<f64>() as u64),
        spare: BitsPerSecond(takers.iter().map(|id| spare(&manifest.pathways[*id])).sum::<f64>() as u64),
        same_domain: plan.apart(&takers).is_empty(),
    };
    Ok((out, evacuation))
}

/// The pathways of that name: one, or the nodes of a group.
fn named(manifest: &Manifest, name: &str) -> Result<BTreeSet<PathwayId>, CannotEvacuate> {
    if let Some((id, _)) = manifest.pathways.get_key_value(name) {
        return Ok(BTreeSet::from([id.clone()]));
    }
    let of_group = |(_, pathway): &(&PathwayId, &Pathway)| pathway.group.as_ref().is_some_and(|it| it.as_str() == name);
    let nodes: BTreeSet<PathwayId> = manifest.pathways.iter().filter(of_group).map(|(id, _)| id.clone()).collect();
    if nodes.is_empty() {
        let pathways = manifest.pathways.keys().map(PathwayId::as_str);
        let valid: Vec<&str> = pathways.chain(manifest.groups.keys().map(|id| id.as_str())).collect();
        let (name, region) = (name.to_owned(), manifest.region.to_string());
        return Err(CannotEvacuate::Unknown { name, region, valid: valid.join(", ") });
    }
    Ok(nodes)
}

struct Plan<'a> {
    manifest: &'a Manifest,
    gone: &'a BTreeSet<PathwayId>,
}

impl<'a> Plan<'a> {
    /// What lives, serves the class, and is not being left.
    fn usable(&self, class: Option<&ContentClass>) -> BTreeSet<&'a PathwayId> {
        let serves = |pathway: &Pathway| {
            let classes = &pathway.serves.classes;
            classes.is_empty() || class.is_some_and(|class| classes.contains(class))
        };
        let living = |draining: bool| -> BTreeSet<&'a PathwayId> {
            let lives = |(id, pathway): &(&PathwayId, &Pathway)| {
                let out = pathway.state == PathwayState::Down || (pathway.state == PathwayState::Draining && !draining);
                !self.gone.contains(*id) && !out && serves(pathway)
            };
            self.manifest.pathways.iter().filter(lives).map(|(id, _)| id).collect()
        };
        let settled = living(false);
        // Better one that somebody wanted to drain than none.
        if settled.is_empty() { living(true) } else { settled }
    }

    /// Those of `some` that don't die together with what is evacuated.
    fn apart(&self, some: &BTreeSet<&'a PathwayId>) -> BTreeSet<&'a PathwayId> {
        let domains: BTreeSet<&String> =
            self.gone.iter().flat_map(|id| &self.manifest.pathways[id].failure_domains).collect();
        let apart =
            |id: &&PathwayId| self.manifest.pathways[*id].failure_domains.iter().all(|it| !domains.contains(it));
        some.iter().copied().filter(apart).collect()
    }

    /// Who takes over; `None` if nobody is left.
    fn takers(&self, class: Option<&ContentClass>) -> Option<BTreeSet<&'a PathwayId>> {
        let usable = self.usable(class);
        let apart = self.apart(&usable);
        let takers = if apart.is_empty() { usable } else { apart };
        (!takers.is_empty()).then_some(takers)
    }

    /// `weights` with what the evacuated had shared out among `takers` by spare room.
    fn without(&self, weights: &Weights, takers: &BTreeSet<&PathwayId>) -> Weights {
        let mut parts: BTreeMap<Target, f64> = BTreeMap::new();
        let mut free = 0.0;
        let mut give = |target: Target, part: f64| {
            let out = matches!(&target, Target::Pathway(id) if self.gone.contains(id));
            if out { free += part } else { *parts.entry(target).or_default() += part }
        };
        for (target, ppm) in weights {
            let nodes = match target {
                Target::Group(id) => self.manifest.groups.get(id).map(|group| &group.nodes),
                Target::Pathway(_) => None,
            };
            match nodes.filter(|nodes| nodes.keys().any(|node| self.gone.contains(node))) {
                Some(nodes) => {
                    for (node, part) in nodes {
                        give(Target::Pathway(node.clone()), f64::from(*ppm) * f64::from(*part) / 1e6);
                    }
                }
                None => give(target.clone(), f64::from(*ppm)),
            }
        }
        for (id, part) in by_room(self.manifest, takers) {
            *parts.entry(Target::Pathway(id)).or_default() += part * free;
        }
        apportion(&parts).into()
    }

    /// Groups without the evacuated nodes; one of which nothing is left is gone.
    fn groups(&self) -> BTreeMap<spillway_model::GroupId, spillway_routing::Group> {
        let left = self.manifest.groups.iter().map(|(id, group)| {
            let nodes = group.nodes.iter().filter(|(node, _)| !self.gone.contains(*node));
            let nodes = apportion(&nodes.map(|(node, ppm)| (node.clone(), f64::from(*ppm))).collect());
            (id.clone(), spillway_routing::Group { nodes })
        });
        left.filter(|(_, group)| !group.nodes.is_empty()).collect()
    }
}

fn ceiling(pathway: &Pathway) -> f64 {
    let learned = pathway.learned_capacity.0;
    (if learned > 0 { learned } else { pathway.capacity.0 }) as f64
}

fn load(pathway: &Pathway) -> f64 {
    pathway.capacity.0 as f64 * f64::from(pathway.utilisation.0) / 1e6
}

fn spare(pathway: &Pathway) -> f64 {
    (ceiling(pathway) - load(pathway)).max(0.0)
}

/// Parts of one by spare room; by ceiling where nobody has any.
fn by_room(manifest: &Manifest, takers: &BTreeSet<&PathwayId>) -> BTreeMap<PathwayId, f64> {
    let of = |room: fn(&Pathway) -> f64| -> BTreeMap<PathwayId, f64> {
        takers.iter().map(|id| ((*id).clone(), room(&manifest.pathways[*id]))).collect()
    };
    let rooms = of(spare);
    let rooms = if rooms.values().sum::<f64>() > 0.0 { rooms } else { of(|pathway| ceiling(pathway).max(1.0)) };
    let all: f64 = rooms.values().sum();
    rooms.into_iter().map(|(id, room)| (id, room / all)).collect()
}

fn spare_weights(manifest: &Manifest, usable: &BTreeSet<&PathwayId>) -> Weights {
    let rooms = by_room(manifest, usable).into_iter();
    rooms.map(|(id, part)| (Target::Pathway(id), ((part * 1e6) as u32).max(SPARE_MIN_PPM))).collect()
}

fn shares(before: &Manifest, after: &Manifest) -> BTreeMap<String, (u32, u32)> {
    let of = |manifest: &Manifest| -> BTreeMap<String, u32> {
        let all =
            manifest.cohorts.iter().find(|it| it.asn.is_none() && it.class.is_none() && it.device_class.is_none());
        let weights = all.map(|rule| &rule.weights_new).into_iter().flatten();
        weights.map(|(target, ppm)| (target.as_str().to_owned(), *ppm)).collect()
    };
    let (before, after) = (of(before), of(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let share = |of: &BTreeMap<String, u32>, name: &String| of.get(name).copied().unwrap_or(0);
    names.into_iter().map(|name| (name.clone(), (share(&before, name), share(&after, name)))).collect()
}

#[cfg(test)]
mod tests {
    use spillway_model::{ContentId, GroupId, Mode, PathwayKind, Ppm, RegionId};
    use spillway_routing::{Group, ModeRule, Serves, Session, TtlPolicy, rank};

    use super::*;

    const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

    fn id(name: &str) -> PathwayId {
        PathwayId::new(name).expect("id")
    }

    /// Capacity in Mbit/s, utilisation in percent, and what else it dies with.
    fn pathway(name: &str, mbps: u64, percent: u32, domain: &str) -> Pathway {
        let group = name.starts_with("own-x-").then(|| GroupId::new("own-x").expect("id"));
        let domains = [name, domain].into_iter().filter(|it| !it.is_empty()).map(str::to_owned);
        Pathway {
            kind: if group.is_some() { PathwayKind::Own } else { PathwayKind::Commercial },
            state: PathwayState::Healthy,
            reason: String::new(),
            since: TimestampMs::ZERO,
            utilisation: Ppm(percent * 10_000),
            capacity: BitsPerSecond(mbps * 1_000_000),
            learned_capacity: BitsPerSecond(mbps * 1_000_000),
            serves: Serves::default(),
            failure_domains: domains.chain(group.iter().map(ToString::to_string)).collect(),
            group,
            origin_group: None,
            base_url: format!("http://{name}.example"),
            signer: None,
        }
    }

    fn weights(of: &[(&str, u32)]) -> Weights {
        let target = |name: &str| match name {
            "own-x" => Target::Group(GroupId::new(name).expect("id")),
            _ => Target::Pathway(id(name)),
        };
        of.iter().map(|(name, ppm)| (target(name), *ppm)).collect()
    }

    fn manifest() -> Manifest {
        let pathways = [
            pathway("cdn-a", 1_000, 60, "transit-1"),
            pathway("cdn-b", 1_000, 20, "transit-1"),
            pathway("cdn-c", 1_000, 70, ""),
            pathway("cdn-d", 1_000, 90, ""),
            pathway("own-x-1", 200, 50, ""),
            pathway("own-x-2", 200, 50, ""),
        ];
        let plan = weights(&[
            ("cdn-a", 500_000),
            ("cdn-b", 200_000),
            ("cdn-c", 100_000),
            ("own-x-1", 100_000),
            ("own-x-2", 100_000),
        ]);
        let nodes = [(id("own-x-1"), 500_000), (id("own-x-2"), 500_000)].into();
        Manifest {
            region: RegionId::new("eu").expect("id"),
            epoch: 9,
            issued: NOW,
            valid_until: NOW,
            policy: "p".into(),
            modes: vec![ModeRule { class: None, mode: Mode::Control, control: Ppm::ALL }],
            pathways: ["cdn-a", "cdn-b", "cdn-c", "cdn-d", "own-x-1", "own-x-2"]
                .map(id)
                .into_iter()
                .zip(pathways)
                .collect(),
            groups: [(GroupId::new("own-x").expect("id"), Group { nodes })].into(),
            cohorts: vec![CohortRule {
                asn: None,
                class: None,
                device_class: None,
                weights_new: plan.clone(),
                weights_running: plan,
                running_before: TimestampMs::ZERO,
                spare: weights(&[("cdn-a", 1)]),
                reason: String::new(),
            }],
            max_bitrate_kbps: vec![],
            probes: BTreeMap::new(),
            hot_titles: BTreeMap::new(),
            ttl: TtlPolicy { vod_s: 30, live_s: 10, suspect_s: 5, jitter: Ppm(100_000) },
            static_weights: weights(&[("cdn-a", 400_000), ("own-x", 600_000)]),
            shadow: vec![],
            overrides: vec![],
            drill: None,
        }
    }

    #[test]
    fn what_an_evacuated_pathway_had_goes_by_room_and_not_to_what_dies_with_it() {
        let (out, done) = evacuate(&manifest(), "cdn-a", "fire", NOW).expect("others are left");
        out.check().expect("valid");
        // 300, 100, 100 and 100 Mbit/s of room; cdn-b has most and hangs on the same transit.
        let expected =
            [("cdn-b", 200_000), ("cdn-c", 350_000), ("cdn-d", 83_334), ("own-x-1", 183_333), ("own-x-2", 183_333)];
        assert_eq!(out.cohorts[0].weights_new, weights(&expected));
        assert_eq!(out.cohorts[0].weights_running, weights(&expected));
        assert_eq!(done.shares["cdn-a"], (500_000, 0));
        assert_eq!(
            (done.moved, done.spare, done.same_domain),
            (BitsPerSecond(600_000_000), BitsPerSecond(600_000_000), false)
        );
        assert_eq!(out.static_weights.get(&Target::Pathway(id("cdn-a"))), None);
        assert_eq!(out.static_weights[&Target::Group(GroupId::new("own-x").expect("id"))], 600_000);
        assert_eq!((out.pathways[&id("cdn-a")].state, out.ttl.vod_s), (PathwayState::Down, 5));
        let content = ContentId::new("vod/lake").expect("id");
        for n in 0..500 {
            let name = format!("v{n}");
            let order = rank(&Session::new(&name, NOW), &content, &out);
            assert_eq!(order.last().map(|last| last.pathway.as_str()), Some("cdn-a"));
        }
    }

    #[test]
    fn where_nothing_is_steered_static_weights_evacuate() {
        let mut observed = manifest();
        observed.modes[0].mode = Mode::Observe;
        let (out, _) = evacuate(&observed, "cdn-a", "fire", NOW).expect("others are left");
        let content = ContentId::new("vod/lake").expect("id");
        let first = |n: u32| rank(&Session::new(&format!("v{n}"), NOW), &content, &out).remove(0).pathway;
        assert!((0..500).all(|n| first(n) != id("cdn-a")));
    }

    #[test]
    fn a_group_goes_as_a_whole_and_its_name_with_it() {
        let (out, done) = evacuate(&manifest(), "own-x", "power", NOW).expect("CDNs are left");
        out.check().expect("valid");
        assert!(out.groups.is_empty());
        assert_eq!((done.shares["own-x-1"].1, done.shares["own-x-2"].1), (0, 0));
        assert!(out.static_weights.keys().all(|target| target.as_str().starts_with("cdn-")));
        let (one, _) = evacuate(&manifest(), "own-x-1", "disk", NOW).expect("others are left");
        one.check().expect("valid");
        assert_eq!(one.groups.values().next().expect("left").nodes, [(id("own-x-2"), 1_000_000)].into());
    }

    #[test]
    fn what_shares_the_failure_domain_is_better_than_nothing_and_nothing_is_refused() {
        let mut few = manifest();
        for name in ["cdn-c", "cdn-d", "own-x-1", "own-x-2"] {
            few.pathways.get_mut(&id(name)).expect("there").state = PathwayState::Down;
        }
        let (out, done) = evacuate(&few, "cdn-a", "fire", NOW).expect("cdn-b is left");
        assert!(done.same_domain);
        assert_eq!(out.cohorts[0].weights_new[&Target::Pathway(id("cdn-b"))], 700_000);
        few.pathways.get_mut(&id("cdn-b")).expect("there").state = PathwayState::Down;
        let error = evacuate(&few, "cdn-a", "fire", NOW).expect_err("nothing").to_string();
        assert_eq!(error, "without cdn-a nothing that serves anybody in eu would be left");
        let error = evacuate(&few, "cdn-z", "fire", NOW).expect_err("unknown").to_string();
        assert!(error.contains("\"cdn-z\"") && error.contains("cdn-a, cdn-b"), "{error}");
    }

    #[test]
    fn static_weights_stand_for_everybody() {
        let mut plan = manifest();
        plan.cohorts.push(CohortRule { asn: Some(7), ..plan.cohorts[0].clone() });
        let out = by_static_weights(&plan, "nothing else runs");
        out.check().expect("valid");
        assert_eq!((out.cohorts.len(), &out.cohorts[0].weights_new), (1, &plan.static_weights));
        assert_eq!((out.policy.as_str(), out.epoch), ("by hand", 9));
    }
}
