//! The rules of a manifest by number, found by class, network and device class in one step however many there are.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use spillway_model::{PathwayId, TimestampMs};

use crate::index::Index;
use crate::spares::{self, Row, Spares};
use crate::{CohortRule, Manifest, Session, Target, Weights};

/// A weight above zero: pathways by number, groups after them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    pub target: u8,
    pub weight: u32,
}

/// What a rule says. Rules, tables and rows of spares that many networks have in common are kept once, so that they
/// stay in the processor's cache however many networks there are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    /// Where its table begins, and its length.
    new_views: (u32, u8),
    running: (u32, u8),
    row: u32,
    running_before: TimestampMs,
}

/// Rules and tables that were seen, by content.
#[derive(Default)]
struct Seen {
    rules: BTreeMap<Rule, u32>,
    tables: BTreeMap<Vec<Table>, u32>,
    rows: spares::Seen,
}

/// Networks with their rule.
type Networks = Vec<(u32, u32)>;

/// All rules.
pub(crate) struct Rules {
    rules: Vec<Rule>,
    tables: Vec<Table>,
    spares: Spares,
    static_weights: Vec<Table>,
    classes: Vec<String>,
    devices: Vec<String>,
    /// Which combinations of class (4), network (2) and device class (1) are named at all, the most specific first.
    kinds: Vec<u8>,
    /// By class and device class: rules by network.
    networks: Vec<(u32, Index)>,
}

/// Class and device class by number, and which of the three are named.
const fn who(kind: u8, class: usize, device: usize) -> u32 {
    ((kind as u32) << 29) | ((class as u32) << 16) | device as u32
}

impl Rules {
    /// `drawn_by`: what draws for each pathway after the first place. `None` for more rules, classes or device classes
    /// than numbers.
    pub(crate) fn new(manifest: &Manifest, ids: &[&PathwayId], drawn_by: &[u8]) -> Option<Self> {
        let mut out = Self {
            rules: Vec::new(),
            tables: Vec::new(),
            spares: Spares::new(manifest, drawn_by),
            static_weights: tables(manifest, ids, &manifest.static_weights),
            classes: Vec::new(),
            devices: Vec::new(),
            kinds: Vec::new(),
            networks: Vec::new(),
        };
        let mut seen = Seen::default();
        let mut by_who: BTreeMap<u32, Networks> = BTreeMap::new();
        for rule in &manifest.cohorts {
            let number = out.add(manifest, ids, rule, &mut seen)?;
            by_who.entry(out.who(rule)?).or_default().push((rule.asn.unwrap_or(0), number));
        }
        out.kinds = (0..8).rev().filter(|kind| by_who.keys().any(|who| who >> 29 == u32::from(*kind))).collect();
        out.networks = by_who.into_iter().map(|(who, networks)| (who, index(&networks))).collect();
        Some(out)
    }

    /// The number of what a rule says.
    fn add(&mut self, manifest: &Manifest, ids: &[&PathwayId], rule: &CohortRule, seen: &mut Seen) -> Option<u32> {
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
        let row = self.spares.add(manifest, &rule.spare, &mut seen.rows)?;
        let kept = Rule { new_views, running, row, running_before: rule.running_before };
        let next = u32::try_from(self.rules.len()).ok().filter(|next| *next < u32::MAX)?;
        Some(*seen.rules.entry(kept).or_insert_with(|| {
            self.rules.push(kept);
            next
        }))
    }

    /// Whom a rule is for, apart from the network.
    fn who(&mut self, rule: &CohortRule) -> Option<u32> {
        let class = match &rule.class {
            Some(class) => number(&mut self.classes, class.as_str(), 1 << 12)?,
            None => 0,
        };
        let device = match &rule.device_class {
            Some(device) => number(&mut self.devices, device, 1 << 15)?,
            None => 0,
        };
        let named = [rule.class.is_some(), rule.asn.is_some(), rule.device_class.is_some()];
        let kind = named.iter().fold(0, |kind, named| kind << 1 | u8::from(*named));
        Some(who(kind, class, device))
    }

    /// The rule that fits `session` and names the most: class before network before device class.
    pub(crate) fn find(&self, session: &Session<'_>) -> Option<&Rule> {
        let class = session.class.and_then(|class| self.classes.iter().position(|known| known == class.as_str()));
        let device = session.device_class.and_then(|class| self.devices.iter().position(|known| known == class));
        let number = self.kinds.iter().find_map(|kind| {
            let class = if kind & 4 != 0 { class? } else { 0 };
            let asn = if kind & 2 != 0 { session.asn? } else { 0 };
            let device = if kind & 1 != 0 { device? } else { 0 };
            let who = who(*kind, class, device);
            let at = self.networks.binary_search_by_key(&who, |(who, _)| *who).ok()?;
            self.networks[at].1.get(asn)
        })?;
        Some(&self.rules[number as usize])
    }

    /// The weights that count for a view that started then.
    pub(crate) fn weights(&self, rule: &Rule, started: TimestampMs) -> &[Table] {
        let (from, count) = if started < rule.running_before { rule.running } else { rule.new_views };
        &self.tables[from as usize..from as usize + usize::from(count)]
    }

    pub(crate) fn static_weights(&self) -> &[Table] {
        &self.static_weights
    }

    /// Whether a table names it.
    pub(crate) fn names(&self, target: u8) -> bool {
        self.tables.iter().chain(&self.static_weights).any(|entry| entry.target == target)
    }

    /// What the others are ordered by.
    pub(crate) fn row(&self, rule: Option<&Rule>) -> Row<'_> {
        self.spares.row(rule.map_or(Spares::NONE, |rule| rule.row))
    }
}

fn index(networks: &Networks) -> Index {
    let mut out = Index::new(networks.len());
    networks.iter().for_each(|(asn, rule)| out.put(*asn, *rule));
    out
}

/// The number of a text, given if it is new; `None` beyond `most`.
fn number(known: &mut Vec<String>, text: &str, most: usize) -> Option<usize> {
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
