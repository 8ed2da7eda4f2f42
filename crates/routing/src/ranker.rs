//! [`rank()`](crate::rank()) for a manifest that answers many sessions: names become numbers and rules an index once, so that an answer
//! needs no allocation. The order is the same to the last place; tests hold it to that.

use alloc::vec::Vec;
use core::ops::Deref;

use spillway_model::{ContentId, GroupId, Mode, PathwayId, PathwayState};

use crate::hash::prefix;
use crate::log2::neg_log2;
use crate::names::{LANES, Names};
use crate::rank::{PROBE_AFTER, SPARE_MAX, controls_mode, mode_rule, serves};
use crate::rules::{Rule, Rules, Table};
use crate::{Manifest, Place, ProbeShare, Session, share_of};

/// Pathways that a [`Ranker`] takes: one bit each.
const PATHWAYS_MAX: usize = 64;

/// One place in an order: a pathway by number, and why it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// For [`Ranker::pathway`].
    pub index: u8,
    /// Why here.
    pub place: Place,
}

struct Line {
    state: PathwayState,
    group: Option<u8>,
    /// What draws for it after the first place: its group, or itself.
    target: u8,
    /// Pathways that share no failure domain with it.
    apart: u64,
}

struct Node {
    index: u8,
    weight: u32,
}

/// A manifest, borrowed or owned, made ready to rank.
pub struct Ranker<M> {
    manifest: M,
    ids: Vec<PathwayId>,
    lines: Vec<Line>,
    groups: Vec<Vec<Node>>,
    rules: Rules,
    /// Names of pathways, then of groups, then the salt of control.
    names: Names,
    /// Place of each target's name in the order of names.
    name_order: Vec<u8>,
    /// Whether any pathway serves less than everything.
    restricted: bool,
}

/// An order, and what is needed to find one; reuse it, and nothing is allocated.
#[derive(Clone, Debug, Default)]
pub struct Order {
    placed: Vec<Placed>,
    rest: Vec<Candidate>,
    /// Nodes of all groups, best first, group by group.
    nodes: Vec<Scored>,
    /// Where each group's nodes begin.
    starts: Vec<usize>,
    /// Spare weight by group.
    sums: Vec<u64>,
}

impl Order {
    /// The places, best first.
    #[must_use]
    pub fn placed(&self) -> &[Placed] {
        &self.placed
    }
}

/// (score, weight, pathway) of a node.
type Scored = (u64, u32, u8);

/// A session's draws, one per name.
type Draws = [u32; LANES];

/// What `order` sorts.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    index: u8,
    place: Place,
    target: u8,
    node: u8,
    score: u64,
    weight: u64,
}

impl<M: Deref<Target = Manifest>> Ranker<M> {
    /// Prepares `manifest`; `None` if it has more pathways and groups than fit ([`rank()`](crate::rank()) takes any number).
    #[must_use]
    pub fn new(manifest: M) -> Option<Self> {
        let held = manifest;
        let manifest: &Manifest = &held;
        let count = manifest.pathways.len();
        // Those of the manifest come first, in its order; a pathway may name one that it doesn't hold.
        let mut names: Vec<&GroupId> = manifest.groups.keys().collect();
        for group in manifest.pathways.values().filter_map(|pathway| pathway.group.as_ref()) {
            if !names.contains(&group) {
                names.push(group);
            }
        }
        if count > PATHWAYS_MAX || count + names.len() + 1 > LANES {
            return None;
        }
        let ids: Vec<&PathwayId> = manifest.pathways.keys().collect();
        let number = |id: &PathwayId| ids.binary_search(&id).ok().and_then(|index| u8::try_from(index).ok());
        let group_number = |id: &GroupId| names.iter().position(|group| *group == id);
        let lines = manifest
            .pathways
            .iter()
            .enumerate()
            .map(|(index, (_, pathway))| {
                let group = pathway.group.as_ref().and_then(group_number).and_then(|group| u8::try_from(group).ok());
                let mut apart = 0;
                for (other, theirs) in manifest.pathways.values().enumerate() {
                    let disjoint = theirs.failure_domains.is_disjoint(&pathway.failure_domains);
                    apart |= u64::from(disjoint) << other;
                }
                let target = group.map_or(index, |group| count + usize::from(group)) as u8;
                Line { state: pathway.state, group, target, apart }
            })
            .collect();
        let groups = names
            .iter()
            .map(|group| {
                let nodes = manifest.groups.get(*group).into_iter().flat_map(|group| &group.nodes);
                nodes.filter_map(|(id, weight)| Some(Node { index: number(id)?, weight: *weight })).collect()
            })
            .collect();
        let texts: Vec<&str> = manifest
            .pathways
            .keys()
            .map(PathwayId::as_str)
            .chain(names.iter().map(|group| group.as_str()))
            .chain(core::iter::once("control"))
            .collect();
        let mut sorted: Vec<usize> = (0..texts.len()).collect();
        sorted.sort_by_key(|index| texts[*index]);
        let mut name_order = alloc::vec![0; texts.len()];
        for (place, index) in sorted.into_iter().enumerate() {
            name_order[index] = place as u8;
        }
        let everything = crate::Serves::default();
        let rules = Rules::new(manifest, &ids)?;
        let names = Names::new(&texts);
        let restricted = manifest.pathways.values().any(|pathway| pathway.serves != everything);
        let ids = ids.into_iter().cloned().collect();
        Some(Self { manifest: held, ids, lines, groups, rules, names, name_order, restricted })
    }

    /// The pathway of a [`Placed`].
    #[must_use]
    pub fn pathway(&self, index: u8) -> &PathwayId {
        &self.ids[usize::from(index)]
    }

    /// The order of [`rank()`](crate::rank()) for `session`, into `out`, which is emptied first.
    pub fn rank(&self, session: &Session<'_>, content: &ContentId, out: &mut Order) {
        out.placed.clear();
        let mut asked = Asked {
            ranker: self,
            session,
            eligible: self.eligible(session),
            draws: [0; LANES],
            by_content: [0; LANES],
            replicas: 1,
        };
        self.names.hashes(prefix(session.id), &mut asked.draws);
        if !self.groups.is_empty() {
            self.names.hashes(prefix(content.as_str()), &mut asked.by_content);
            if !self.manifest.hot_titles.is_empty() {
                asked.replicas = self.manifest.hot_titles.get(content).map_or(1, |count| *count as usize);
            }
            asked.order_nodes(out);
        }
        let rule = self.rules.find(session);
        let first = asked.first(rule, out);
        if let Some((index, place)) = first {
            out.placed.push(Placed { index, place });
        }
        asked.rest(rule, first.map(|(index, _)| index), out);
    }

    fn eligible(&self, session: &Session<'_>) -> u64 {
        let all = if self.ids.len() == 64 { u64::MAX } else { (1 << self.ids.len()) - 1 };
        if !self.restricted {
            return all;
        }
        let fits = self.manifest.pathways.values().enumerate().filter(|(_, pathway)| serves(pathway, session));
        fits.fold(0, |mask, (index, _)| mask | 1 << index)
    }
}

/// One question.
struct Asked<'r, 's, M> {
    ranker: &'r Ranker<M>,
    session: &'s Session<'s>,
    eligible: u64,
    draws: Draws,
    by_content: Draws,
    replicas: usize,
}

impl<M: Deref<Target = Manifest>> Asked<'_, '_, M> {
    /// The nodes of each group by content, whoever is usable.
    fn order_nodes(&self, out: &mut Order) {
        out.nodes.clear();
        out.starts.clear();
        for group in &self.ranker.groups {
            let start = out.nodes.len();
            out.starts.push(start);
            let draw = |node: &Node| neg_log2(self.by_content[usize::from(node.index)]);
            out.nodes.extend(group.iter().map(|node| (draw(node), node.weight, node.index)));
            sort(&mut out.nodes[start..], node_before);
        }
        out.starts.push(out.nodes.len());
    }

    fn first(&self, rule: Option<&Rule>, order: &Order) -> Option<(u8, Place)> {
        let rules = &self.ranker.rules;
        let manifest: &Manifest = &self.ranker.manifest;
        let planned = rule.map(|rule| rules.weights(rule, self.session.started));
        let by_plan = || Some((self.pick(planned?, order)?, Place::Weight));
        let by_static = || Some((self.pick(rules.static_weights(), order)?, Place::Static));
        let mode = mode_rule(self.session, manifest);
        let control_draw = self.draws[self.ranker.names.len() - 1];
        let share = ((u64::from(control_draw) * 1_000_000) >> 32) as u32;
        if mode.is_some_and(|rule| rule.mode == Mode::Control && share < rule.control.0) {
            return self.probe().map(|id| (id, Place::Probe)).or_else(by_plan).or_else(by_static);
        }
        let incumbent = self.pick_among(rules.static_weights(), false, order).map(|id| (id, Place::Static));
        let dead = incumbent.is_some_and(|(id, _)| self.is_down(id));
        if dead && mode.is_some_and(controls_mode) { by_plan().or_else(by_static) } else { incumbent.or_else(by_plan) }
    }

    fn probe(&self) -> Option<u8> {
        let manifest: &Manifest = &self.ranker.manifest;
        if manifest.probes.is_empty() || manifest.issued.since(self.session.started) < PROBE_AFTER {
            return None;
        }
        let turn = |probe: &ProbeShare| share_of(self.session.id, &probe.turn) < probe.share.0;
        manifest.probes.iter().find_map(|(id, probe)| {
            let index = self.ranker.ids.binary_search(id).ok()? as u8;
            (self.is_down(index) && self.is_eligible(index) && turn(probe)).then_some(index)
        })
    }

    fn is_eligible(&self, index: u8) -> bool {
        self.eligible >> index & 1 == 1
    }

    fn is_down(&self, index: u8) -> bool {
        self.ranker.lines[usize::from(index)].state == PathwayState::Down
    }

    fn pick(&self, weights: &[Table], order: &Order) -> Option<u8> {
        self.pick_among(weights, true, order).or_else(|| self.pick_among(weights, false, order))
    }

    fn pick_among(&self, weights: &[Table], alive_only: bool, order: &Order) -> Option<u8> {
        let usable = |index: u8| self.is_eligible(index) && !(alive_only && self.is_down(index));
        let pathways = self.ranker.ids.len();
        let mut best: Option<(u64, u32, usize)> = None;
        for entry in weights {
            let target = usize::from(entry.target);
            let fits = match target.checked_sub(pathways) {
                None => usable(entry.target),
                Some(group) => self.ranker.groups[group].iter().any(|node| node.weight > 0 && usable(node.index)),
            };
            if !fits {
                continue;
            }
            let score = neg_log2(self.draws[target]);
            if best.is_none_or(|(s, w, _)| score * u64::from(w) < s * u64::from(entry.weight)) {
                best = Some((score, entry.weight, target));
            }
        }
        let target = best?.2;
        let Some(group) = target.checked_sub(pathways) else { return Some(target as u8) };
        let nodes = &order.nodes[order.starts[group]..order.starts[group + 1]];
        let mut weighted = nodes.iter().filter(|node| node.1 > 0 && usable(node.2));
        if self.replicas <= 1 {
            return weighted.next().map(|node| node.2);
        }
        let best = weighted.take(self.replicas).map(|node| self.by_session(*node));
        best.reduce(|best, node| if node_before(&node, &best) { node } else { best }).map(|node| node.2)
    }

    /// The node with the session's draw instead of the content's.
    fn by_session(&self, node: Scored) -> Scored {
        (neg_log2(self.draws[usize::from(node.2)]), node.1, node.2)
    }

    fn rest(&self, rule: Option<&Rule>, first: Option<u8>, out: &mut Order) {
        let ranker = self.ranker;
        out.rest.clear();
        out.sums.clear();
        out.sums.resize(ranker.groups.len(), 0);
        let spares = rule.map(|rule| ranker.rules.spares(rule));
        for (index, line) in ranker.lines.iter().enumerate() {
            let id = index as u8;
            if Some(id) == first || !self.is_eligible(id) {
                continue;
            }
            let weight = spares.map_or(0, |spares| spares[index]);
            let place = match (line.state, weight) {
                (PathwayState::Down, _) => Place::Dead,
                (PathwayState::Draining, _) | (_, 0) => Place::Leftover,
                _ => Place::Spare,
            };
            if let (Some(group), Place::Spare) = (line.group, place) {
                out.sums[usize::from(group)] += u64::from(weight);
            }
            let score = neg_log2(self.draws[usize::from(line.target)]);
            let weight = u64::from(weight.max(1));
            out.rest.push(Candidate { index: id, place, target: line.target, node: u8::MAX, score, weight });
        }
        let Order { placed, rest, nodes, starts, sums } = out;
        for (group, sum) in sums.iter().enumerate().filter(|(_, sum)| **sum > 0) {
            let nodes = &mut nodes[starts[group]..starts[group + 1]];
            if self.replicas > 1 {
                self.spread_replicas(nodes, first);
            }
            self.place_nodes(group, *sum, nodes, rest);
        }
        sort(rest, |a, b| self.before(a, b));
        if let Some(first) = first {
            let apart = ranker.lines[usize::from(first)].apart;
            let second = rest.iter().position(|c| c.place != Place::Dead && apart >> c.index & 1 == 1);
            if let Some(second) = second {
                rest[..=second].rotate_right(1);
            }
        }
        placed.extend(rest.iter().map(|candidate| Placed { index: candidate.index, place: candidate.place }));
    }

    /// The best nodes of a hot title among themselves by session. Those that can't follow go to the end.
    fn spread_replicas(&self, nodes: &mut [Scored], first: Option<u8>) {
        let mut usable = 0;
        for at in 0..nodes.len() {
            if Some(nodes[at].2) != first && self.is_eligible(nodes[at].2) {
                nodes[usable..=at].rotate_right(1);
                usable += 1;
            }
        }
        let replicas = self.replicas.min(usable);
        if replicas > 1 {
            for node in &mut nodes[..replicas] {
                *node = self.by_session(*node);
            }
            sort(&mut nodes[..replicas], node_before);
        }
    }

    /// The nodes of a group draw as one, with the sum of their spare weights.
    fn place_nodes(&self, group: usize, sum: u64, nodes: &[Scored], rest: &mut [Candidate]) {
        for candidate in rest.iter_mut() {
            if self.ranker.lines[usize::from(candidate.index)].group.map(usize::from) != Some(group) {
                continue;
            }
            let place = nodes.iter().position(|node| node.2 == candidate.index);
            candidate.node = place.map_or(u8::MAX, |place| place as u8);
            if candidate.place == Place::Spare {
                candidate.weight = sum.min(SPARE_MAX);
            }
        }
    }

    /// By place, then the smaller score ÷ weight, then the name of what drew, then within the group its order, then id.
    fn before(&self, a: &Candidate, b: &Candidate) -> bool {
        if a.place != b.place {
            return (a.place as u8) < b.place as u8;
        }
        let (one, other) = (a.score * b.weight, b.score * a.weight);
        if one != other {
            return one < other;
        }
        let name = |candidate: &Candidate| self.ranker.name_order[usize::from(candidate.target)];
        (name(a), a.node, a.index) < (name(b), b.node, b.index)
    }
}

/// Weighted before weightless, then the smaller score ÷ weight; ties by id.
fn node_before(a: &Scored, b: &Scored) -> bool {
    if (a.1 == 0) != (b.1 == 0) {
        return b.1 == 0;
    }
    let (one, other) = (a.0 * u64::from(b.1.max(1)), b.0 * u64::from(a.1.max(1)));
    if one == other { a.2 < b.2 } else { one < other }
}

/// Insertion: the fastest for so few.
fn sort<T: Copy>(items: &mut [T], before: impl Fn(&T, &T) -> bool) {
    for end in 1..items.len() {
        let item = items[end];
        let mut at = end;
        while at > 0 && before(&item, &items[at - 1]) {
            items[at] = items[at - 1];
            at -= 1;
        }
        items[at] = item;
    }
}
