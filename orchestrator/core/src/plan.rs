//! Eighth stage, second half: the manifest.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{
    BitsPerSecond, ContentClass, ContentId, GroupId, Mode, PathwayId, PathwayKind, PathwayState, Ppm, RegionId,
    TimestampMs,
};
use spillway_routing::{CohortRule, Group, Manifest, ModeRule, Pathway, Target, TtlPolicy, Weights};

use crate::weights::{Shares, apportion, normalised};
use crate::{Parameters, RegionSetup, Setup};

/// One pathway of a region, as far as the manifest needs it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub state: PathwayState,
    pub reason: String,
    pub since: TimestampMs,
    /// Load ÷ ceiling.
    pub utilisation: f64,
    pub capacity: BitsPerSecond,
    pub learned_capacity: BitsPerSecond,
    /// Share of its group's weight, in any unit.
    pub node_weight: f64,
}

/// Utilisation in steps of 5 %, so that it doesn't change a manifest every round.
pub(crate) fn coarse(utilisation: f64) -> Ppm {
    Ppm(((utilisation.clamp(0.0, 100.0) * 20.0).round() as u32) * 50_000)
}

/// The region's pathways.
pub(crate) fn pathways(setup: &Setup, lines: &BTreeMap<PathwayId, Line>) -> BTreeMap<PathwayId, Pathway> {
    lines
        .iter()
        .filter_map(|(id, line)| setup.pathways.get(id).map(|declared| (id, line, declared)))
        .map(|(id, line, declared)| {
            let mut failure_domains = declared.failure_domains.clone();
            failure_domains.insert(id.as_str().to_owned());
            failure_domains.extend(declared.group.as_ref().map(|group| group.as_str().to_owned()));
            let pathway = Pathway {
                kind: declared.kind,
                state: line.state,
                reason: line.reason.clone(),
                since: line.since,
                utilisation: coarse(line.utilisation),
                capacity: line.capacity,
                learned_capacity: line.learned_capacity,
                serves: declared.serves.clone(),
                group: declared.group.clone(),
                origin_group: Some(declared.origin_group.clone()),
                failure_domains,
                base_url: declared.base_url.trim_end_matches('/').to_owned(),
                signer: declared.signer.clone(),
            };
            (id.clone(), pathway)
        })
        .collect()
}

/// The region's groups: nodes by what they may carry; by capacity, if none may.
pub(crate) fn groups(setup: &Setup, lines: &BTreeMap<PathwayId, Line>) -> BTreeMap<GroupId, Group> {
    let mut nodes: BTreeMap<GroupId, Vec<(&PathwayId, &Line)>> = BTreeMap::new();
    for (id, line) in lines {
        if let Some(group) = setup.pathways.get(id).and_then(|declared| declared.group.clone()) {
            nodes.entry(group).or_default().push((id, line));
        }
    }
    nodes
        .into_iter()
        .map(|(group, nodes)| {
            let parts = |of: fn(&Line) -> f64| -> BTreeMap<PathwayId, f64> {
                nodes.iter().map(|(id, line)| ((*id).clone(), of(line))).collect()
            };
            let mut weights = apportion(&parts(|line| line.node_weight));
            if weights.is_empty() {
                weights = apportion(&parts(|line| line.capacity.0.max(1) as f64));
            }
            (group, Group { nodes: weights })
        })
        .collect()
}

/// Static weights brought to 1,000,000 over what the region knows; equal over its pathways if none is left.
pub(crate) fn static_weights(
    region: &RegionSetup,
    pathways: &BTreeMap<PathwayId, Pathway>,
    groups: &BTreeMap<GroupId, Group>,
) -> Weights {
    let known = |target: &Target| match target {
        Target::Pathway(id) => pathways.contains_key(id),
        Target::Group(id) => groups.contains_key(id),
    };
    let parts: BTreeMap<Target, f64> = region
        .static_weights
        .iter()
        .filter(|(target, _)| known(target))
        .map(|(target, weight)| (target.clone(), f64::from(*weight)))
        .collect();
    let weights = apportion(&parts);
    if weights.is_empty() {
        return apportion(&pathways.keys().map(|id| (Target::Pathway(id.clone()), 1.0)).collect()).into();
    }
    weights.into()
}

/// Static weights by pathway: groups spread over their nodes.
pub(crate) fn static_shares(weights: &Weights, groups: &BTreeMap<GroupId, Group>) -> Shares {
    let mut out = Shares::new();
    for (target, weight) in weights {
        match target {
            Target::Pathway(id) => *out.entry(id.clone()).or_default() += f64::from(*weight),
            Target::Group(id) => {
                for (node, part) in groups.get(id).into_iter().flat_map(|group| &group.nodes) {
                    *out.entry(node.clone()).or_default() += f64::from(*weight) * f64::from(*part) / 1e6;
                }
            }
        }
    }
    normalised(&out)
}

/// Weights of running views during drains: a draining pathway keeps `kept` of what it had, the others share the rest
/// as they share new views.
pub(crate) fn running_shares(new: &Shares, kept: &Shares) -> Shares {
    let staying: f64 = kept.values().sum::<f64>().min(1.0);
    let mut out: Shares = new.iter().map(|(id, share)| (id.clone(), share * (1.0 - staying))).collect();
    for (id, share) in kept {
        *out.entry(id.clone()).or_default() += share;
    }
    normalised(&out)
}

/// Modes of a region: those of classes first, since the first that fits wins.
pub(crate) fn modes(region: &RegionSetup) -> Vec<ModeRule> {
    let of_classes = region.class_modes.iter();
    of_classes
        .map(|(class, (mode, control))| ModeRule { class: Some(class.clone()), mode: *mode, control: *control })
        .chain([ModeRule { class: None, mode: region.mode, control: region.control }])
        .collect()
}

/// The parts of a manifest that other stages decide.
pub(crate) struct Parts {
    pub region: RegionId,
    pub pathways: BTreeMap<PathwayId, Pathway>,
    pub groups: BTreeMap<GroupId, Group>,
    pub static_weights: Weights,
    /// The first one fits all.
    pub cohorts: Vec<CohortRule>,
    pub max_bitrate_kbps: Vec<(Option<ContentClass>, u32)>,
    pub policy: String,
    pub hot_titles: BTreeSet<ContentId>,
    pub suspect: bool,
}

/// Puts a manifest together: epoch 0, valid until it was issued; the publisher fills both.
pub(crate) fn manifest(parts: Parts, p: &Parameters, region: &RegionSetup, now: TimestampMs) -> Manifest {
    let replicas = parts.groups.values().map(|group| group.nodes.len() as u32).max().unwrap_or(1);
    let shadows = region.mode == Mode::Shadow || region.class_modes.values().any(|(mode, _)| *mode == Mode::Shadow);
    let shadow = if shadows { parts.cohorts.clone() } else { vec![] };
    let within = |seconds: u32| seconds.clamp(spillway_model::limits::TTL_MIN_S, spillway_model::limits::TTL_MAX_S);
    let suspect_s = within(p.ttl_suspect_s);
    let usual = |seconds: u32| if parts.suspect { within(seconds).min(suspect_s) } else { within(seconds) };
    Manifest {
        region: parts.region,
        epoch: 0,
        issued: now,
        valid_until: now,
        policy: parts.policy,
        modes: modes(region),
        pathways: parts.pathways,
        groups: parts.groups,
        cohorts: parts.cohorts,
        max_bitrate_kbps: parts.max_bitrate_kbps,
        probes: BTreeMap::new(),
        hot_titles: parts.hot_titles.into_iter().map(|title| (title, replicas)).collect(),
        ttl: TtlPolicy {
            vod_s: usual(p.ttl_vod_s),
            live_s: usual(p.ttl_live_s),
            suspect_s,
            jitter: Ppm::from_fraction(p.ttl_jitter),
        },
        static_weights: parts.static_weights,
        shadow,
        overrides: vec![],
        drill: None,
    }
}

/// Whether two manifests send everybody the same way, so that no new epoch is needed: all but epoch, times,
/// utilisation, learned capacity and reasons are alike; spare and node weights within 5 points, those of rules for single
/// networks within 2.
#[must_use]
pub fn same_routing(a: &Manifest, b: &Manifest) -> bool {
    let alike = |a: &[CohortRule], b: &[CohortRule]| {
        a.len() == b.len() && a.iter().zip(b).all(|(one, other)| rules_alike(one, other))
    };
    let pathway_alike = |a: &Pathway, b: &Pathway| {
        let plain = |pathway: &Pathway| Pathway {
            reason: String::new(),
            utilisation: Ppm::ZERO,
            learned_capacity: BitsPerSecond::ZERO,
            // UNKNOWN is a HEALTHY that nobody can see.
            state: if pathway.state == PathwayState::Unknown { PathwayState::Healthy } else { pathway.state },
            ..pathway.clone()
        };
        plain(a) == plain(b)
    };
    let pathways_alike = a.pathways.len() == b.pathways.len()
        && a.pathways.iter().all(|(id, one)| b.pathways.get(id).is_some_and(|other| pathway_alike(one, other)));
    let groups_alike = a.groups.keys().eq(b.groups.keys())
        && a.groups.values().zip(b.groups.values()).all(|(one, other)| near(&one.nodes, &other.nodes));
    pathways_alike
        && groups_alike
        && alike(&a.cohorts, &b.cohorts)
        && alike(&a.shadow, &b.shadow)
        && (&a.region, &a.policy, &a.modes, a.ttl) == (&b.region, &b.policy, &b.modes, b.ttl)
        && (&a.max_bitrate_kbps, &a.hot_titles) == (&b.max_bitrate_kbps, &b.hot_titles)
        && (&a.static_weights, &a.overrides, &a.drill) == (&b.static_weights, &b.overrides, &b.drill)
}

/// What an ill pathway loses in a single network is shared out by spare capacity, which changes a little in every round:
/// such a rule's weights are alike within 2 points, but for what nobody is sent to.
fn rules_alike(a: &CohortRule, b: &CohortRule) -> bool {
    let plain = |rule: &CohortRule| CohortRule {
        spare: Weights::new(),
        weights_new: Weights::new(),
        weights_running: Weights::new(),
        reason: String::new(),
        ..rule.clone()
    };
    let most = if a.asn.is_some() { 20_000 } else { 0 };
    let weights_alike = |a: &Weights, b: &Weights| {
        let close = |one: u32, other: u32| (one == 0) == (other == 0) && one.abs_diff(other) <= most;
        a.keys().eq(b.keys()) && a.values().zip(b.values()).all(|(one, other)| close(*one, *other))
    };
    plain(a) == plain(b)
        && near(&a.spare, &b.spare)
        && weights_alike(&a.weights_new, &b.weights_new)
        && weights_alike(&a.weights_running, &b.weights_running)
}

/// The same names, each within 5 points.
fn near<'a, K: PartialEq + 'a, I>(
    a: I,
    b: impl IntoIterator<Item = (&'a K, &'a u32), IntoIter: ExactSizeIterator>,
) -> bool
where
    I: IntoIterator<Item = (&'a K, &'a u32), IntoIter: ExactSizeIterator>,
{
    let (a, b) = (a.into_iter(), b.into_iter());
    a.len() == b.len() && a.zip(b).all(|((one, x), (other, y))| one == other && x.abs_diff(*y) <= 50_000)
}

/// Own or commercial, in words with the price, for reasons.
pub(crate) fn describe(setup: &Setup, shares: &Shares, lines: &BTreeMap<PathwayId, Line>) -> String {
    // The sum of nothing is -0.
    let own = shares.iter().filter(|(id, _)| is_own(setup, id)).map(|(_, share)| share).sum::<f64>() + 0.0;
    let mut words = vec![format!("own edges {:.0} %", own * 100.0)];
    for (id, share) in shares.iter().filter(|(id, _)| !is_own(setup, id)) {
        let price = setup.pathways.get(id).map_or(0.0, |declared| declared.price_usd_per_gb);
        words.push(format!("{id} {:.0} % at {price} USD/GB", share * 100.0));
    }
    let ill: Vec<String> = lines
        .iter()
        .filter(|(_, line)| line.state != PathwayState::Healthy)
        .map(|(id, line)| format!("{id} {}", line.state))
        .collect();
    if !ill.is_empty() {
        words.push(ill.join(", "));
    }
    words.join("; ")
}

fn is_own(setup: &Setup, id: &PathwayId) -> bool {
    setup.pathways.get(id).is_some_and(|declared| declared.kind == PathwayKind::Own)
}
