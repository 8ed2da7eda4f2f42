//! The rules of a manifest by number, found by class, network and device class in one step however many there are.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use spillway_model::limits::WEIGHT_TOTAL_PPM;
use spillway_model::{PathwayId, TimestampMs};

use crate::{CohortRule, Manifest, Pathway, Session, Target, Weights};

/// A weight above zero: pathways by number, groups after them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    pub target: u8,
    pub weight: u32,
}

/// A rule. Rules, tables and lists of spares that many networks have in common are kept once, so that they stay in
/// the processor's cache however many networks there are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    /// What it is for, apart from the network.
    who: u32,
    /// Where its table begins, and its length.
    new_views: (u32, u8),
    running: (u32, u8),
    spares: u32,
    running_before: TimestampMs,
}

/// Tables and spares that were seen, by content.
#[derive(Default)]
struct Seen {
    rules: BTreeMap<Rule, u32>,
    tables: BTreeMap<Vec<Table>, u32>,
    spares: BTreeMap<Vec<u32>, u32>,
}

/// All rules.
pub(crate) struct Rules {
    rules: Vec<Rule>,
    tables: Vec<Table>,
    /// Spare weights, one per pathway.
    spares: Vec<u32>,
    pathways: usize,
    static_weights: Vec<Table>,
    classes: Vec<alloc::string::String>,
    devices: Vec<alloc::string::String>,
    /// Which combinations of class (4), network (2) and device class (1) are named at all.
    kinds: [bool; 8],
    /// Open addressing: network, and rule + 1; 0 is free.
    index: Vec<(u32, u32)>,
    shift: u32,
}

/// Class and device class by number, and which of the three are named.
const fn who(kind: usize, class: usize, device: usize) -> u32 {
    ((kind as u32) << 29) | ((class as u32) << 16) | device as u32
}

impl Rules {
    /// `None` for more rules, classes or device classes than numbers.
    pub(crate) fn new(manifest: &Manifest, ids: &[&PathwayId]) -> Option<Self> {
        let mut out = Self {
            rules: Vec::new(),
            tables: Vec::new(),
            spares: Vec::new(),
            pathways: ids.len(),
            static_weights: Vec::new(),
            classes: Vec::new(),
            devices: Vec::new(),
            kinds: [false; 8],
            index: Vec::new(),
            shift: 0,
        };
        let bits = (usize::BITS - (manifest.cohorts.len() * 2).leading_zeros()).max(4);
        out.index = alloc::vec![(0, 0); 1 << bits];
        out.shift = 64 - bits;
        out.static_weights = tables(manifest, ids, &manifest.static_weights);
        let mut seen = Seen::default();
        for rule in &manifest.cohorts {
            out.add(manifest, ids, rule, &mut seen)?;
        }
        Some(out)
    }

    fn add(&mut self, manifest: &Manifest, ids: &[&PathwayId], rule: &CohortRule, seen: &mut Seen) -> Option<()> {
        let mut keep = |weights: &Weights| {
            let table = tables(manifest, ids, weights);
            let count = u8::try_from(table.len()).ok()?;
            let next = u32::try_from(self.tables.len()).ok()?;
            let start = *seen.tables.entry(table).or_insert_with_key(|table| {
                self.tables.extend(table);
                next
            });
            Some((start, count))
        };
        let (new_views, running) = (keep(&rule.weights_new)?, keep(&rule.weights_running)?);
        let list: Vec<u32> =
            manifest.pathways.iter().map(|(id, pathway)| spare_of(manifest, id, pathway, rule)).collect();
        let next = u32::try_from(self.spares.len()).ok()?;
        let spares = *seen.spares.entry(list).or_insert_with_key(|list| {
            self.spares.extend(list);
            next
        });
        let class = match &rule.class {
            Some(class) => number(&mut self.classes, class.as_str(), 1 << 12)?,
            None => 0,
        };
        let device = match &rule.device_class {
            Some(device) => number(&mut self.devices, device, 1 << 15)?,
            None => 0,
        };
        let kind = usize::from(rule.class.is_some()) * 4
            + usize::from(rule.asn.is_some()) * 2
            + usize::from(rule.device_class.is_some());
        self.kinds[kind] = true;
        let who = who(kind, class, device);
        let kept = Rule { who, new_views, running, spares, running_before: rule.running_before };
        let number = *seen.rules.entry(kept).or_insert_with(|| {
            self.rules.push(kept);
            self.rules.len() as u32
        });
        self.put(who, rule.asn.unwrap_or(0), number);
        Some(())
    }

    fn place(&self, who: u32, asn: u32) -> usize {
        let key = (u64::from(who) << 32) | u64::from(asn);
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    fn is(&self, (network, rule): (u32, u32), who: u32, asn: u32) -> bool {
        network == asn && self.rules[rule as usize - 1].who == who
    }

    /// Of two rules for the same the later one counts.
    fn put(&mut self, who: u32, asn: u32, rule: u32) {
        let mask = self.index.len() - 1;
        let mut at = self.place(who, asn);
        while self.index[at].1 != 0 && !self.is(self.index[at], who, asn) {
            at = (at + 1) & mask;
        }
        self.index[at] = (asn, rule);
    }

    fn get(&self, who: u32, asn: u32) -> Option<&Rule> {
        let mask = self.index.len() - 1;
        let mut at = self.place(who, asn);
        while self.index[at].1 != 0 {
            if self.is(self.index[at], who, asn) {
                return Some(&self.rules[self.index[at].1 as usize - 1]);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The rule that fits `session` and names the most: class before network before device class.
    pub(crate) fn find(&self, session: &Session<'_>) -> Option<&Rule> {
        let class = session.class.and_then(|class| self.classes.iter().position(|known| known == class.as_str()));
        let device = session.device_class.and_then(|class| self.devices.iter().position(|known| known == class));
        (0..8).rev().filter(|kind| self.kinds[*kind]).find_map(|kind| {
            let class = if kind & 4 != 0 { class? } else { 0 };
            let asn = if kind & 2 != 0 { session.asn? } else { 0 };
            let device = if kind & 1 != 0 { device? } else { 0 };
            self.get(who(kind, class, device), asn)
        })
    }

    /// The weights that count for a view that started then.
    pub(crate) fn weights(&self, rule: &Rule, started: TimestampMs) -> &[Table] {
        let (from, count) = if started < rule.running_before { rule.running } else { rule.new_views };
        &self.tables[from as usize..from as usize + usize::from(count)]
    }

    pub(crate) fn static_weights(&self) -> &[Table] {
        &self.static_weights
    }

    /// Spare weights by pathway, ppm.
    pub(crate) fn spares(&self, rule: &Rule) -> &[u32] {
        &self.spares[rule.spares as usize..rule.spares as usize + self.pathways]
    }
}

/// Spare weight of a pathway: its own, or its share of its group's.
fn spare_of(manifest: &Manifest, id: &PathwayId, pathway: &Pathway, rule: &CohortRule) -> u32 {
    if let Some(weight) = rule.spare.get(&Target::Pathway(id.clone())) {
        return (*weight).min(WEIGHT_TOTAL_PPM);
    }
    let Some(group) = &pathway.group else { return 0 };
    let of_group = rule.spare.get(&Target::Group(group.clone())).copied().unwrap_or(0).min(WEIGHT_TOTAL_PPM);
    let of_node = manifest.groups.get(group).and_then(|group| group.nodes.get(id)).copied().unwrap_or(0);
    ((u64::from(of_group) * u64::from(of_node)) / u64::from(WEIGHT_TOTAL_PPM)) as u32
}

/// The number of a text, given if it is new; `None` beyond `most`.
fn number(known: &mut Vec<alloc::string::String>, text: &str, most: usize) -> Option<usize> {
    if let Some(index) = known.iter().position(|other| other == text) {
        return Some(index);
    }
    known.push(text.into());
    (known.len() <= most).then_some(known.len() - 1)
}

/// Weights above zero of what the manifest knows, in the order of targets: ties go to the earlier one.
fn tables(manifest: &Manifest, ids: &[&PathwayId], weights: &Weights) -> Vec<Table> {
    let number = |target: &Target| match target {
        Target::Pathway(id) => ids.binary_search(&id).ok(),
        Target::Group(id) => manifest.groups.keys().position(|group| group == id).map(|group| ids.len() + group),
    };
    let known = weights.iter().filter(|(_, weight)| **weight > 0);
    known.filter_map(|(target, weight)| Some(Table { target: number(target)? as u8, weight: *weight })).collect()
}
