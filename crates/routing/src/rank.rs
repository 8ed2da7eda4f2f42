//! The order of pathways for one session: weighted rendezvous over groups by session, then over a group's nodes by
//! content.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Ordering;

use spillway_model::limits::WEIGHT_TOTAL_PPM;
use spillway_model::{ContentClass, ContentId, GroupId, Millis, Mode, PathwayId, PathwayState, TimestampMs};

use crate::hash::{hash_pair, share_of};
use crate::log2::neg_log2;
use crate::{AddressFamily, CohortRule, Manifest, Pathway, ProbeShare, Target, Weights};

/// A view that has run for this long has filled its buffer.
pub(crate) const PROBE_AFTER: Millis = Millis::from_secs(60);

/// What is known of a session when it asks. Borrowed: nothing of it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// The view's id.
    pub id: &'a str,
    /// When the view started: decides between the weights for new and for running views.
    pub started: TimestampMs,
    /// Network, if known.
    pub asn: Option<u32>,
    /// Content class, if any.
    pub class: Option<&'a ContentClass>,
    /// Device class, if known.
    pub device_class: Option<&'a str>,
    /// Codec that it needs, if known.
    pub codec: Option<&'a str>,
    /// DRM system that it needs, if any.
    pub drm: Option<&'a str>,
    /// Territory, if known.
    pub territory: Option<&'a str>,
    /// Address family, if known.
    pub address_family: Option<AddressFamily>,
}

impl<'a> Session<'a> {
    /// A session of which only its id and start are known.
    #[must_use]
    pub const fn new(id: &'a str, started: TimestampMs) -> Self {
        Self {
            id,
            started,
            asn: None,
            class: None,
            device_class: None,
            codec: None,
            drm: None,
            territory: None,
            address_family: None,
        }
    }
}

/// Why a pathway stands where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// First: chosen by the cohort's weights.
    Weight,
    /// First: chosen by static weights (holdback, observe or shadow mode, or no plan fits).
    Static,
    /// First: DOWN, and it is this running view's turn to try it.
    Probe,
    /// After the first: by spare capacity.
    Spare,
    /// After those: usable, but nothing to spare.
    Leftover,
    /// Last: DOWN.
    Dead,
}

impl Place {
    /// Word for logs and explanations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Static => "static",
            Self::Probe => "probe",
            Self::Spare => "spare",
            Self::Leftover => "leftover",
            Self::Dead => "dead",
        }
    }
}

/// One place in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// The pathway.
    pub pathway: PathwayId,
    /// Why here.
    pub place: Place,
}

/// Orders every eligible pathway of the region for `session`, best first. Empty only if nothing is eligible.
///
/// The first comes from the weights for new or running views (static weights for the holdback and outside control
/// mode; an emergency, in which the static choice is DOWN, drops the holdback). In control a DOWN pathway is first only
/// if nothing else has weight (an operator pinned it), or if it is a running view's turn to try it. A group's node is chosen by content, so that a title stays in
/// few caches; a hot title by session over as many nodes as its replica count says. The others are ordered by spare
/// capacity, drawn per session over pathways and groups as the first is, the second outside the failure domains of the
/// first where one exists; DOWN ones come last.
#[must_use]
pub fn rank(session: &Session<'_>, content: &ContentId, manifest: &Manifest) -> Vec<Ranked> {
    let rule = rule_for(session, manifest);
    Ask { session, content, manifest }.order(rule, in_control(session, manifest))
}

/// The order that the shadow plan would give, whatever the mode; `None` if there is none.
#[must_use]
pub fn rank_shadow(session: &Session<'_>, content: &ContentId, manifest: &Manifest) -> Option<Vec<Ranked>> {
    let rule = most_specific(&manifest.shadow, session)?;
    Some(Ask { session, content, manifest }.order(Some(rule), true))
}

/// The cohort rule that decides for `session`: the one that fits and names the most.
#[must_use]
pub fn rule_for<'m>(session: &Session<'_>, manifest: &'m Manifest) -> Option<&'m CohortRule> {
    most_specific(&manifest.cohorts, session)
}

/// One question: who asks for what, under which manifest.
#[derive(Clone, Copy)]
struct Ask<'a> {
    session: &'a Session<'a>,
    content: &'a ContentId,
    manifest: &'a Manifest,
}

impl<'a> Ask<'a> {
    fn order(self, rule: Option<&'a CohortRule>, in_control: bool) -> Vec<Ranked> {
        let planned = rule.map(|rule| {
            if self.session.started < rule.running_before { &rule.weights_running } else { &rule.weights_new }
        });
        let by_plan = || planned.and_then(|weights| self.pick(weights)).map(|id| (id, Place::Weight));
        let by_static = || self.pick(&self.manifest.static_weights).map(|id| (id, Place::Static));
        let first = if in_control {
            self.probe().map(|id| (id, Place::Probe)).or_else(by_plan).or_else(by_static)
        } else {
            let incumbent = self.pick_among(&self.manifest.static_weights, false).map(|id| (id, Place::Static));
            let dead = incumbent.is_some_and(|(id, _)| self.is_down(id));
            // Shadow and observe never move anyone; only a holdback of a region in control does, in an emergency.
            if dead && controls(self.session, self.manifest) {
                by_plan().or_else(by_static)
            } else {
                incumbent.or_else(by_plan)
            }
        };
        let mut out: Vec<Ranked> = Vec::with_capacity(self.manifest.pathways.len());
        if let Some((id, place)) = first {
            out.push(Ranked { pathway: id.clone(), place });
        }
        self.append_rest(rule.map(|rule| &rule.spare), first.map(|(id, _)| id), &mut out);
        out
    }

    /// The DOWN pathway that it is this view's turn to try: it runs long enough to have a buffer.
    fn probe(self) -> Option<&'a PathwayId> {
        if self.manifest.issued.since(self.session.started) < PROBE_AFTER {
            return None;
        }
        let turn = |probe: &ProbeShare| share_of(self.session.id, &probe.turn) < probe.share.0;
        let mut probes = self.manifest.probes.iter();
        probes.find(|(id, probe)| self.is_down(id) && self.eligible(id) && turn(probe)).map(|(id, _)| id)
    }

    fn eligible(self, id: &PathwayId) -> bool {
        self.manifest.pathways.get(id).is_some_and(|pathway| serves(pathway, self.session))
    }

    fn is_down(self, id: &PathwayId) -> bool {
        self.manifest.pathways.get(id).is_some_and(|pathway| pathway.state == PathwayState::Down)
    }

    /// The first by `weights`; a DOWN one only if no other has weight.
    fn pick(self, weights: &'a Weights) -> Option<&'a PathwayId> {
        self.pick_among(weights, true).or_else(|| self.pick_among(weights, false))
    }

    /// Chooses a target by session, then, in a group, a node by content.
    fn pick_among(self, weights: &'a Weights, alive_only: bool) -> Option<&'a PathwayId> {
        let usable = |id: &PathwayId| self.eligible(id) && !(alive_only && self.is_down(id));
        let usable_node = |id: &PathwayId, weight: u32| weight > 0 && usable(id);
        let mut best: Option<(u64, u32, &'a Target)> = None;
        for (target, weight) in weights {
            let fits = match target {
                Target::Pathway(id) => usable(id),
                Target::Group(id) => self
                    .manifest
                    .groups
                    .get(id)
                    .is_some_and(|group| group.nodes.iter().any(|(node, weight)| usable_node(node, *weight))),
            };
            if *weight == 0 || !fits {
                continue;
            }
            let score = neg_log2(hash_pair(self.session.id, target.as_str()));
            // Targets come in a fixed order, so a strict comparison always breaks ties in the same way.
            if best.is_none_or(|(s, w, _)| score * u64::from(w) < s * u64::from(*weight)) {
                best = Some((score, *weight, target));
            }
        }
        match best?.2 {
            Target::Pathway(id) => Some(id),
            Target::Group(id) => self.nodes_in_order(id, usable_node).first().copied(),
        }
    }

    /// The usable nodes of a group, best first: by content, but a hot title's replicas among themselves by session.
    fn nodes_in_order(self, group: &GroupId, usable: impl Fn(&PathwayId, u32) -> bool) -> Vec<&'a PathwayId> {
        let Some(group) = self.manifest.groups.get(group) else { return Vec::new() };
        let mut nodes: Vec<Scored<'a>> = group
            .nodes
            .iter()
            .filter(|(id, weight)| usable(id, **weight))
            .map(|(id, weight)| Scored::new(self.content.as_str(), id, *weight))
            .collect();
        nodes.sort_by(Scored::compare);
        let replicas = self.manifest.hot_titles.get(self.content).map_or(1, |count| *count as usize);
        let replicas = replicas.min(nodes.len());
        if replicas > 1 {
            for node in &mut nodes[..replicas] {
                node.score = neg_log2(hash_pair(self.session.id, node.id.as_str()));
            }
            nodes[..replicas].sort_by(Scored::compare);
        }
        nodes.into_iter().map(|node| node.id).collect()
    }

    fn append_rest(self, spare: Option<&'a Weights>, first: Option<&PathwayId>, out: &mut Vec<Ranked>) {
        let mut rest = self.candidates(spare, first);
        rest.sort_by(Candidate::compare);
        if let Some(domains) = first.and_then(|id| self.manifest.pathways.get(id)).map(|p| &p.failure_domains) {
            let apart = |candidate: &Candidate<'_>| {
                candidate.place != Place::Dead && candidate.pathway.failure_domains.is_disjoint(domains)
            };
            if let Some(index) = rest.iter().position(apart) {
                let second = rest.remove(index);
                rest.insert(0, second);
            }
        }
        out.extend(rest.into_iter().map(|candidate| Ranked { pathway: candidate.id.clone(), place: candidate.place }));
    }

    /// All but the first, not yet in order. The nodes of a group draw as one, with the sum of their spare weights:
    /// else the one title of a big night, which has one order of nodes, would send every session to the same second.
    fn candidates(self, spare: Option<&'a Weights>, first: Option<&PathwayId>) -> Vec<Candidate<'a>> {
        let mut rest: Vec<Candidate<'a>> = Vec::with_capacity(self.manifest.pathways.len());
        let mut groups: BTreeMap<&'a GroupId, (u64, Vec<&'a PathwayId>)> = BTreeMap::new();
        for (id, pathway) in &self.manifest.pathways {
            if Some(id) == first || !serves(pathway, self.session) {
                continue;
            }
            let weight = spare.map_or(0, |spare| self.spare_of(id, pathway, spare));
            let place = match (pathway.state, weight) {
                (PathwayState::Down, _) => Place::Dead,
                (PathwayState::Draining, _) | (_, 0) => Place::Leftover,
                _ => Place::Spare,
            };
            if let (Some(group), Place::Spare) = (&pathway.group, place) {
                groups.entry(group).or_default().0 += u64::from(weight);
            }
            let target = pathway.group.as_ref().map_or(id.as_str(), GroupId::as_str);
            rest.push(Candidate {
                id,
                pathway,
                place,
                target,
                score: neg_log2(hash_pair(self.session.id, target)),
                weight: u64::from(weight.max(1)),
                node: usize::MAX,
            });
        }
        for (group, (_, order)) in &mut groups {
            *order = self.nodes_in_order(group, |id, _| Some(id) != first && self.eligible(id));
        }
        for candidate in &mut rest {
            let Some((weight, order)) = candidate.pathway.group.as_ref().and_then(|group| groups.get(group)) else {
                continue;
            };
            candidate.node = order.iter().position(|id| *id == candidate.id).unwrap_or(usize::MAX);
            if candidate.place == Place::Spare {
                candidate.weight = (*weight).min(SPARE_MAX);
            }
        }
        rest
    }

    /// Spare weight of one pathway: its own, or its share of its group's.
    fn spare_of(self, id: &PathwayId, pathway: &Pathway, spare: &Weights) -> u32 {
        if let Some(weight) = spare.get(&Target::Pathway(id.clone())) {
            return (*weight).min(WEIGHT_TOTAL_PPM);
        }
        let Some(group) = &pathway.group else { return 0 };
        let of_group = spare.get(&Target::Group(group.clone())).copied().unwrap_or(0).min(WEIGHT_TOTAL_PPM);
        let of_node = self.manifest.groups.get(group).and_then(|group| group.nodes.get(id)).copied().unwrap_or(0);
        ((u64::from(of_group) * u64::from(of_node)) / u64::from(WEIGHT_TOTAL_PPM)) as u32
    }
}

/// A group's spare weight counts at most this: score × weight must stay below 2^64.
pub(crate) const SPARE_MAX: u64 = 1 << 25;

/// A node with its draw.
struct Scored<'a> {
    id: &'a PathwayId,
    score: u64,
    weight: u32,
}

impl<'a> Scored<'a> {
    fn new(key: &str, id: &'a PathwayId, weight: u32) -> Self {
        Self { id, score: neg_log2(hash_pair(key, id.as_str())), weight }
    }

    /// Weighted before weightless, then the smaller score ÷ weight; ties by id.
    fn compare(&self, other: &Self) -> Ordering {
        let (w, v) = (u64::from(self.weight.max(1)), u64::from(other.weight.max(1)));
        (self.weight == 0)
            .cmp(&(other.weight == 0))
            .then_with(|| (self.score * v).cmp(&(other.score * w)))
            .then_with(|| self.id.cmp(other.id))
    }
}

/// A pathway that may follow the first.
struct Candidate<'a> {
    id: &'a PathwayId,
    pathway: &'a Pathway,
    place: Place,
    /// Its group, or itself: what drew the score.
    target: &'a str,
    score: u64,
    weight: u64,
    /// Its place among the group's nodes.
    node: usize,
}

impl Candidate<'_> {
    /// By place, then the smaller score ÷ weight, then within the group its order; ties by id. Scores stay below 2^38.
    fn compare(&self, other: &Self) -> Ordering {
        (self.place as u8)
            .cmp(&(other.place as u8))
            .then_with(|| (self.score * other.weight).cmp(&(other.score * self.weight)))
            .then_with(|| self.target.cmp(other.target))
            .then_with(|| self.node.cmp(&other.node))
            .then_with(|| self.id.cmp(other.id))
    }
}

pub(crate) fn serves(pathway: &Pathway, session: &Session<'_>) -> bool {
    fn fits<T: Ord + ?Sized, S: Ord + core::borrow::Borrow<T>>(set: &BTreeSet<S>, value: Option<&T>) -> bool {
        set.is_empty() || value.is_none_or(|value| set.contains(value))
    }
    let serves = &pathway.serves;
    fits(&serves.classes, session.class)
        && fits(&serves.codecs, session.codec)
        && fits(&serves.drm, session.drm)
        && fits(&serves.territories, session.territory)
        && fits(&serves.address_families, session.address_family.as_ref())
}

/// The rule that fits and names the most: class before ASN before device class.
fn most_specific<'m>(rules: &'m [CohortRule], session: &Session<'_>) -> Option<&'m CohortRule> {
    rules
        .iter()
        .filter(|rule| {
            rule.class.as_ref().is_none_or(|class| Some(class) == session.class)
                && rule.asn.is_none_or(|asn| Some(asn) == session.asn)
                && rule.device_class.as_deref().is_none_or(|device| Some(device) == session.device_class)
        })
        .max_by_key(|rule| {
            u8::from(rule.class.is_some()) * 4
                + u8::from(rule.asn.is_some()) * 2
                + u8::from(rule.device_class.is_some())
        })
}

pub(crate) fn mode_rule<'m>(session: &Session<'_>, manifest: &'m Manifest) -> Option<&'m crate::ModeRule> {
    manifest.modes.iter().find(|rule| rule.class.as_ref().is_none_or(|class| Some(class) == session.class))
}

fn controls(session: &Session<'_>, manifest: &Manifest) -> bool {
    mode_rule(session, manifest).is_some_and(controls_mode)
}

pub(crate) fn controls_mode(rule: &crate::ModeRule) -> bool {
    rule.mode == Mode::Control && rule.control.0 > 0
}

fn in_control(session: &Session<'_>, manifest: &Manifest) -> bool {
    mode_rule(session, manifest)
        .is_some_and(|rule| rule.mode == Mode::Control && share_of(session.id, "control") < rule.control.0)
}
