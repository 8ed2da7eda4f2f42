//! [`rank()`](crate::rank()) for a manifest that answers many sessions: names become numbers and rules an index once, so that an answer
//! needs no allocation. The order is the same to the last place; tests hold it to that.

use alloc::vec::Vec;
use core::ops::Deref;

use spillway_model::{ContentId, Mode, PathwayId};

use crate::hash::{finish, prefix, share, step};
use crate::names::{Names, SLOTS, Scores, States};
use crate::placing::places;
use crate::rank::{PROBE_AFTER, SPARE_MAX, controls_mode, mode_rule, serves};
use crate::rules::{Rule, Rules, Table};
use crate::spares::Row;
use crate::targets::{Node, Targets, better_of, put_in_order};
use crate::{Manifest, Place, ProbeShare, Session, share_of};

/// One place in an order: a pathway by number, and why it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// For [`Ranker::pathway`].
    pub index: u8,
    /// Why here.
    pub place: Place,
}

/// A manifest, borrowed or owned, made ready to rank.
pub struct Ranker<M> {
    manifest: M,
    ids: Vec<PathwayId>,
    targets: Targets,
    rules: Rules,
    /// What draws by session, and nodes of groups.
    drawing: Names,
    nodes: Names,
}

/// An order, and what is needed to find one; reuse it, and nothing is allocated.
#[derive(Clone, Debug)]
pub struct Order {
    placed: [Placed; SLOTS],
    count: usize,
    states: States,
    by_session: Scores,
    by_content: Scores,
    /// Pathways of all targets, each target's best first.
    nodes: Vec<Node>,
    candidates: Vec<Candidate>,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            placed: [Placed { index: 0, place: Place::Dead }; SLOTS],
            count: 0,
            states: States::default(),
            by_session: [0; SLOTS],
            by_content: [0; SLOTS],
            nodes: Vec::new(),
            candidates: Vec::new(),
        }
    }
}

impl Order {
    /// The places, best first.
    #[must_use]
    pub fn placed(&self) -> &[Placed] {
        &self.placed[..self.count]
    }
}

/// A unit of spares in one question.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    place: Place,
    target: u8,
    /// Those of its pathways that may follow, a bit each, and how many they are.
    left: u64,
    count: u8,
    score: u64,
    weight: u64,
}

impl<M: Deref<Target = Manifest>> Ranker<M> {
    /// Prepares `manifest`; `None` if it has more pathways and groups than fit, or a group and a pathway of one name
    /// ([`rank()`](crate::rank()) takes any).
    #[must_use]
    pub fn new(manifest: M) -> Option<Self> {
        let held = manifest;
        let manifest: &Manifest = &held;
        let ids: Vec<&PathwayId> = manifest.pathways.keys().collect();
        let targets = Targets::new(manifest, &ids)?;
        let rules = Rules::new(manifest, &ids, &targets.drawn_by)?;
        let drawing = targets.names(|target| targets.drawn_by.contains(&target) || rules.names(target));
        let nodes = targets.names(|target| targets.is_node(target));
        let ids = ids.into_iter().cloned().collect();
        Some(Self { manifest: held, ids, targets, rules, drawing, nodes })
    }

    /// The pathway of a [`Placed`].
    #[must_use]
    pub fn pathway(&self, index: u8) -> &PathwayId {
        &self.ids[usize::from(index)]
    }

    /// The order of [`rank()`](crate::rank()) for `session`, into `out`, which is emptied first.
    pub fn rank(&self, session: &Session<'_>, content: &ContentId, out: &mut Order) {
        // In this order a processor does most of it at once: it waits for the rule's memory and for the long chain of
        // the session's hash while it orders the nodes.
        let rule = self.rules.find(session);
        let by_content = prefix(content.as_str());
        let hash = prefix(session.id);
        self.nodes.scores(by_content, &mut out.states, &mut out.by_content);
        self.targets.order(&out.by_content, &mut out.nodes);
        self.drawing.scores(hash, &mut out.states, &mut out.by_session);
        let mut replicas = 1;
        if self.targets.has_groups() && !self.manifest.hot_titles.is_empty() {
            replicas = self.manifest.hot_titles.get(content).map_or(1, |count| *count as usize);
        }
        if replicas > 1 {
            self.nodes.scores(hash, &mut out.states, &mut out.by_session);
        }
        let asked = Asked { ranker: self, session, hash, eligible: self.eligible(session), replicas };
        let first = asked.first(rule, out);
        asked.rest(&self.rules.row(rule), first, out);
    }

    fn eligible(&self, session: &Session<'_>) -> u64 {
        if !self.targets.restricted {
            return self.targets.all();
        }
        let fits = self.manifest.pathways.values().enumerate().filter(|(_, pathway)| serves(pathway, session));
        fits.fold(0, |mask, (index, _)| mask | 1 << index)
    }
}

/// One question.
struct Asked<'r, 's, M> {
    ranker: &'r Ranker<M>,
    session: &'s Session<'s>,
    /// State of the hash after the session's id.
    hash: u32,
    /// Pathways, a bit each.
    eligible: u64,
    replicas: usize,
}

impl<M: Deref<Target = Manifest>> Asked<'_, '_, M> {
    fn first(&self, rule: Option<&Rule>, order: &Order) -> Option<(u8, Place)> {
        let rules = &self.ranker.rules;
        let manifest: &Manifest = &self.ranker.manifest;
        let planned = rule.map(|rule| rules.weights(rule, self.session.started));
        let by_plan = || Some((self.pick(planned?, order)?, Place::Weight));
        let by_static = || Some((self.pick(rules.static_weights(), order)?, Place::Static));
        let mode = mode_rule(self.session, manifest);
        if mode.is_some_and(|rule| rule.mode == Mode::Control && self.control_share() < rule.control.0) {
            return self.probe().map(|id| (id, Place::Probe)).or_else(by_plan).or_else(by_static);
        }
        let incumbent = self.pick_among(rules.static_weights(), self.eligible, order).map(|id| (id, Place::Static));
        let dead = incumbent.is_some_and(|(id, _)| self.ranker.targets.down >> id & 1 == 1);
        if dead && mode.is_some_and(controls_mode) { by_plan().or_else(by_static) } else { incumbent.or_else(by_plan) }
    }

    /// [`share_of`] the session for the salt `control`.
    fn control_share(&self) -> u32 {
        share(finish(b"control".iter().fold(self.hash, |hash, byte| step(hash, *byte))))
    }

    fn probe(&self) -> Option<u8> {
        let manifest: &Manifest = &self.ranker.manifest;
        if manifest.probes.is_empty() || manifest.issued.since(self.session.started) < PROBE_AFTER {
            return None;
        }
        let turn = |probe: &ProbeShare| share_of(self.session.id, &probe.turn) < probe.share.0;
        let open = self.eligible & self.ranker.targets.down;
        manifest.probes.iter().find_map(|(id, probe)| {
            let index = self.ranker.ids.binary_search(id).ok()? as u8;
            (open >> index & 1 == 1 && turn(probe)).then_some(index)
        })
    }

    fn pick(&self, weights: &[Table], order: &Order) -> Option<u8> {
        let alive = self.eligible & !self.ranker.targets.down;
        self.pick_among(weights, alive, order).or_else(|| self.pick_among(weights, self.eligible, order))
    }

    fn pick_among(&self, weights: &[Table], usable: u64, order: &Order) -> Option<u8> {
        let targets = &self.ranker.targets;
        // A score of nothing: nothing's ratio is above it.
        let (mut score, mut weight, mut target) = (1, 0, u8::MAX);
        for entry in weights {
            let theirs = order.by_session[usize::from(entry.target) % SLOTS];
            let fits = targets.weighted(entry.target) & usable != 0;
            let better = fits & (theirs * weight < score * u64::from(entry.weight));
            score = if better { theirs } else { score };
            weight = if better { u64::from(entry.weight) } else { weight };
            target = if better { entry.target } else { target };
        }
        if target == u8::MAX {
            return None;
        }
        let usable = targets.weighted(target) & usable;
        let mut nodes = targets.of(target, &order.nodes).iter().filter(|node| usable >> node.index & 1 == 1);
        if self.replicas <= 1 {
            return nodes.next().map(|node| node.index);
        }
        let best = nodes.take(self.replicas).reduce(|best, node| better_of(&order.by_session, best, node));
        best.map(|node| node.index)
    }

    /// The places after the first.
    fn rest(&self, row: &Row<'_>, first: Option<(u8, Place)>, out: &mut Order) {
        let targets = &self.ranker.targets;
        let first_bit = first.map_or(0, |(index, _)| 1 << index);
        let open = self.eligible & !first_bit;
        if self.replicas > 1 {
            targets.groups().for_each(|group| self.spread_replicas(&mut out.nodes[group], open, &out.by_session));
        }
        let first_weight = first.map_or(0, |(index, _)| u64::from(row.weights[usize::from(index)]));
        out.candidates.clear();
        out.candidates.extend(row.units.iter().map(|unit| {
            let has_first = unit.members & first_bit != 0;
            let (mut weight, mut count) = (u64::from(unit.weight), unit.count);
            if targets.restricted {
                (weight, count) = (row.weight(unit, open), (unit.members & open).count_ones() as u8);
            } else {
                weight = weight.saturating_sub(if has_first { first_weight } else { 0 });
                count -= u8::from(has_first);
            }
            Candidate {
                place: unit.place,
                target: unit.target,
                count,
                left: unit.members & open,
                score: out.by_session[usize::from(unit.target) % SLOTS],
                weight: weight.min(SPARE_MAX),
            }
        }));
        let mut begins = [0; SLOTS];
        let later_first = |earlier: &Candidate, later: &Candidate| self.later_first(earlier, later, out);
        places(&out.candidates, later_first, |candidate| candidate.count, &mut begins);
        self.fill(first, &begins, out);
    }

    /// Writes the order down.
    fn fill(&self, first: Option<(u8, Place)>, begins: &[u8; SLOTS], out: &mut Order) {
        let targets = &self.ranker.targets;
        let base = usize::from(first.is_some());
        let apart = first.map_or(0, |(index, _)| targets.apart[usize::from(index)]);
        let mut count = base;
        // Places whose pathways may be the second.
        let mut fit = 0_u64;
        for (candidate, begins) in out.candidates.iter().zip(begins) {
            let mut at = base + usize::from(*begins);
            let apart = if candidate.place == Place::Dead { 0 } else { apart & candidate.left };
            for node in targets.of(candidate.target, &out.nodes) {
                let taken = candidate.left >> node.index & 1;
                // Who isn't taken goes where nobody reads.
                let to = if taken == 1 { at } else { SLOTS - 1 };
                out.placed[to % SLOTS] = Placed { index: node.index, place: candidate.place };
                fit |= (apart >> node.index & 1) << (to % SLOTS);
                at += taken as usize;
            }
            count += usize::from(candidate.count);
        }
        if let Some((index, place)) = first {
            out.placed[0] = Placed { index, place };
        }
        let second = fit.trailing_zeros() as usize;
        if second < count {
            out.placed[base..=second].rotate_right(1);
        }
        out.count = count;
    }

    /// The best nodes of a hot title among themselves by session. Those that can't follow go to the end.
    fn spread_replicas(&self, nodes: &mut [Node], open: u64, by_session: &Scores) {
        let mut usable = 0;
        for at in 0..nodes.len() {
            if open >> nodes[at].index & 1 == 1 {
                nodes[usable..=at].rotate_right(1);
                usable += 1;
            }
        }
        let replicas = self.replicas.min(usable);
        // Equals by id.
        let mut best = [Node::new(0, 0); SLOTS];
        best[..replicas].copy_from_slice(&nodes[..replicas]);
        best[..replicas].sort_unstable_by_key(|node| node.index);
        put_in_order(&best[..replicas], by_session, &mut nodes[..replicas]);
    }

    /// By place, in which they already stand, then the smaller score ÷ weight.
    fn later_first(&self, earlier: &Candidate, later: &Candidate, order: &Order) -> bool {
        if earlier.place != later.place {
            return false;
        }
        let (one, other) = (later.score * earlier.weight, earlier.score * later.weight);
        if one == other { self.first_of_equals(later, earlier, order) } else { one < other }
    }

    /// By the name of what drew, then within the group by its order if any of it has something to spare, then by id.
    fn first_of_equals(&self, a: &Candidate, b: &Candidate, order: &Order) -> bool {
        let targets = &self.ranker.targets;
        let name = |candidate: &Candidate| targets.name_order[usize::from(candidate.target)];
        if a.target != b.target {
            return name(a) < name(b);
        }
        let spare = |other: &Candidate| other.target == a.target && other.place == Place::Spare && other.left != 0;
        if !order.candidates.iter().any(spare) {
            return a.left.trailing_zeros() < b.left.trailing_zeros();
        }
        let nodes = targets.of(a.target, &order.nodes);
        let place = |candidate: &Candidate| nodes.iter().position(|node| candidate.left >> node.index & 1 == 1);
        place(a) < place(b)
    }
}
