//! Pathways and groups by number, and what they are to each other.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use spillway_model::{GroupId, PathwayId, PathwayState};

use crate::names::{Names, SLOTS, Scores, TARGETS};
use crate::placing::places;
use crate::{Manifest, Serves};

/// A pathway of a list, with its weight there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub index: u8,
    pub weightless: bool,
    /// 1 for none.
    pub weight: u32,
}

impl Node {
    pub(crate) const fn new(index: u8, weight: u32) -> Self {
        Self { index, weightless: weight == 0, weight: if weight == 0 { 1 } else { weight } }
    }
}

/// The pathways that a target stands for.
struct List {
    /// Where they begin among the nodes; those of the group come first.
    from: usize,
    /// Where those of the group end, and then those who only say that they belong to it.
    of_group: usize,
    to: usize,
    /// Those with weight, a bit each.
    weighted: u64,
}

/// Targets: pathways by number, then groups.
pub(crate) struct Targets {
    pub pathways: usize,
    /// Those that are DOWN, a bit each.
    pub down: u64,
    /// By pathway: those that share no failure domain with it, a bit each.
    pub apart: Vec<u64>,
    /// By pathway: what draws for it after the first place, its group or itself.
    pub drawn_by: Vec<u8>,
    /// By target: place of its name in the order of names.
    pub name_order: Vec<u8>,
    /// Whether any pathway serves less than everything.
    pub restricted: bool,
    names: Vec<String>,
    lists: Vec<List>,
    nodes: Vec<Node>,
}

impl Targets {
    /// `None` if there are more than [`TARGETS`], or a group is called like a pathway.
    pub(crate) fn new(manifest: &Manifest, ids: &[&PathwayId]) -> Option<Self> {
        // Those of the manifest come first, in its order; a pathway may name one that it doesn't hold.
        let mut groups: Vec<&GroupId> = manifest.groups.keys().collect();
        for group in manifest.pathways.values().filter_map(|pathway| pathway.group.as_ref()) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let texts: Vec<&str> =
            ids.iter().map(|id| id.as_str()).chain(groups.iter().map(|group| group.as_str())).collect();
        let mut sorted: Vec<usize> = (0..texts.len()).collect();
        sorted.sort_by_key(|index| texts[*index]);
        if texts.len() > TARGETS || sorted.windows(2).any(|pair| texts[pair[0]] == texts[pair[1]]) {
            return None;
        }
        let mut name_order = alloc::vec![0; texts.len()];
        for (place, index) in sorted.into_iter().enumerate() {
            name_order[index] = place as u8;
        }
        let drawn_by = manifest.pathways.values().enumerate().map(|(index, pathway)| {
            let group = pathway.group.as_ref().and_then(|group| groups.iter().position(|other| *other == group));
            group.map_or(index, |group| ids.len() + group) as u8
        });
        let mut out = Self {
            pathways: ids.len(),
            down: bits(manifest.pathways.values().map(|pathway| pathway.state == PathwayState::Down)),
            apart: apart(manifest),
            drawn_by: drawn_by.collect(),
            name_order,
            restricted: manifest.pathways.values().any(|pathway| pathway.serves != Serves::default()),
            names: texts.iter().map(|text| (*text).into()).collect(),
            lists: Vec::new(),
            nodes: Vec::new(),
        };
        for index in 0..ids.len() as u8 {
            out.list(&[Node::new(index, 1)]);
        }
        for group in groups {
            let nodes = manifest.groups.get(group).into_iter().flat_map(|group| &group.nodes);
            let known = nodes.filter_map(|(id, weight)| Some((ids.binary_search(&id).ok()?, *weight)));
            let nodes: Vec<Node> = known.map(|(index, weight)| Node::new(index as u8, weight)).collect();
            out.list(&nodes);
        }
        Some(out)
    }

    /// Adds the list of the next target.
    fn list(&mut self, nodes: &[Node]) {
        let (target, from) = (self.lists.len(), self.nodes.len());
        let listed = |index: usize| nodes.iter().any(|node| usize::from(node.index) == index);
        let others = (0..self.pathways).filter(|index| usize::from(self.drawn_by[*index]) == target && !listed(*index));
        self.nodes.extend(nodes.iter().copied().chain(others.map(|index| Node::new(index as u8, 0))));
        let weighted = nodes.iter().filter(|node| !node.weightless).fold(0, |bits, node| bits | 1 << node.index);
        self.lists.push(List { from, of_group: from + nodes.len(), to: self.nodes.len(), weighted });
    }

    /// The names of those targets that `which` chooses.
    pub(crate) fn names(&self, which: impl Fn(u8) -> bool) -> Names {
        let targets = (0..).zip(&self.names).filter(|(target, _)| which(*target));
        Names::new(targets.map(|(target, name)| (target, name.as_str())))
    }

    /// Whether it is a node of a group.
    pub(crate) fn is_node(&self, target: u8) -> bool {
        self.groups().any(|group| self.nodes[group].iter().any(|node| node.index == target))
    }

    /// Whether there are groups at all.
    pub(crate) fn has_groups(&self) -> bool {
        self.lists.len() > self.pathways
    }

    /// A bit for each pathway.
    pub(crate) const fn all(&self) -> u64 {
        (1 << self.pathways) - 1
    }

    /// Those of a target with weight there, a bit each.
    pub(crate) fn weighted(&self, target: u8) -> u64 {
        self.lists[usize::from(target)].weighted
    }

    /// The pathways of a target, among `nodes`.
    pub(crate) fn of<'n>(&self, target: u8, nodes: &'n [Node]) -> &'n [Node] {
        let list = &self.lists[usize::from(target)];
        &nodes[list.from..list.to]
    }

    /// Where each group's nodes are among all.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        self.lists[self.pathways..].iter().map(|list| list.from..list.of_group)
    }

    /// Every target's pathways into `out`, those of groups by score.
    pub(crate) fn order(&self, scores: &Scores, out: &mut Vec<Node>) {
        out.clear();
        out.extend_from_slice(&self.nodes);
        for group in self.groups() {
            put_in_order(&self.nodes[group.clone()], scores, &mut out[group]);
        }
    }
}

/// `nodes` into `out` by score; those of equal score keep their order.
pub(crate) fn put_in_order(nodes: &[Node], scores: &Scores, out: &mut [Node]) {
    let mut at = [0; SLOTS];
    places(nodes, |earlier, later| before(scores, later, earlier), |_| 1, &mut at);
    for (node, at) in nodes.iter().zip(at) {
        out[usize::from(at)] = *node;
    }
}

/// The one that comes first; of equals the one with the smaller id.
pub(crate) fn better_of<'n>(scores: &Scores, a: &'n Node, b: &'n Node) -> &'n Node {
    let (a, b) = if a.index < b.index { (a, b) } else { (b, a) };
    if before(scores, b, a) { b } else { a }
}

/// Weighted before weightless, then the smaller score ÷ weight. Equals aren't before each other.
fn before(scores: &Scores, a: &Node, b: &Node) -> bool {
    let score = |node: &Node| scores[usize::from(node.index) % SLOTS];
    let by_score = score(a) * u64::from(b.weight) < score(b) * u64::from(a.weight);
    if a.weightless == b.weightless { by_score } else { b.weightless }
}

fn bits(which: impl Iterator<Item = bool>) -> u64 {
    which.enumerate().fold(0, |bits, (index, yes)| bits | u64::from(yes) << index)
}

fn apart(manifest: &Manifest) -> Vec<u64> {
    let pathways = || manifest.pathways.values();
    let of = |domains| bits(pathways().map(move |other| other.failure_domains.is_disjoint(domains)));
    pathways().map(|pathway| of(&pathway.failure_domains)).collect()
}
