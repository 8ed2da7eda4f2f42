//! Who stands after the first by which weight, as far as it doesn't depend on the session.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use spillway_model::limits::WEIGHT_TOTAL_PPM;
use spillway_model::{PathwayId, PathwayState};

use crate::{Manifest, Pathway, Place, Target, Weights};

/// What draws as one: a pathway alone, or those nodes of a group that have something to spare.
#[derive(Clone, Copy)]
pub(crate) struct Unit {
    pub place: Place,
    /// What its draw is by.
    pub target: u8,
    /// Its pathways, a bit each.
    pub members: u64,
    /// How many they are.
    pub count: u8,
    /// Sum of their weights; 1 for nothing to spare.
    pub weight: u32,
}

/// Units by place, and the spare weight of each pathway, ppm.
#[derive(Clone, Copy)]
pub(crate) struct Row<'s> {
    pub units: &'s [Unit],
    pub weights: &'s [u32],
}

impl Row<'_> {
    /// Weight of those of `unit` that are in `left`.
    pub(crate) fn weight(&self, unit: &Unit, left: u64) -> u64 {
        let gone = unit.members & !left;
        let weights = self.weights.iter().enumerate().filter(|(index, _)| gone >> index & 1 == 1);
        u64::from(unit.weight) - weights.map(|(_, weight)| u64::from(*weight)).sum::<u64>().min(unit.weight.into())
    }
}

/// Rows by the weights that they are of.
pub(crate) type Seen = BTreeMap<Vec<u32>, u32>;

/// All rows; each different one once.
pub(crate) struct Spares {
    units: Vec<Unit>,
    /// Where each row's units begin, and at last where they end.
    starts: Vec<u32>,
    weights: Vec<u32>,
    /// What draws for each pathway after the first place: its group, or itself.
    drawn_by: Vec<u8>,
}

impl Spares {
    /// The row of nothing to spare.
    pub(crate) const NONE: u32 = 0;

    pub(crate) fn new(manifest: &Manifest, drawn_by: &[u8]) -> Self {
        let mut out =
            Self { units: Vec::new(), starts: alloc::vec![0], weights: Vec::new(), drawn_by: drawn_by.to_vec() };
        out.put(manifest, &alloc::vec![0; drawn_by.len()]);
        out
    }

    /// The row of a rule; `None` for more rows than numbers.
    pub(crate) fn add(&mut self, manifest: &Manifest, spare: &Weights, seen: &mut Seen) -> Option<u32> {
        let weights: Vec<u32> =
            manifest.pathways.iter().map(|(id, pathway)| spare_of(manifest, id, pathway, spare)).collect();
        if let Some(row) = seen.get(&weights) {
            return Some(*row);
        }
        let next = u32::try_from(self.starts.len() - 1).ok()?;
        u32::try_from(self.units.len() + weights.len()).ok()?;
        self.put(manifest, &weights);
        seen.insert(weights, next);
        Some(next)
    }

    fn put(&mut self, manifest: &Manifest, weights: &[u32]) {
        let from = self.units.len();
        for (index, (pathway, weight)) in manifest.pathways.values().zip(weights).enumerate() {
            let place = match (pathway.state, *weight) {
                (PathwayState::Down, _) => Place::Dead,
                (PathwayState::Draining, _) | (_, 0) => Place::Leftover,
                _ => Place::Spare,
            };
            let (target, weight) = (self.drawn_by[index], (*weight).max(1));
            let same = self.units[from..].iter_mut().find(|unit| unit.target == target && unit.place == place);
            match same.filter(|unit| unit.place == Place::Spare) {
                Some(unit) => {
                    unit.members |= 1 << index;
                    unit.count += 1;
                    unit.weight += weight;
                }
                None => self.units.push(Unit { place, target, members: 1 << index, count: 1, weight }),
            }
        }
        self.units[from..].sort_by_key(|unit| unit.place as u8);
        self.starts.push(self.units.len() as u32);
        self.weights.extend(weights);
    }

    pub(crate) fn row(&self, row: u32) -> Row<'_> {
        let (row, pathways) = (row as usize, self.drawn_by.len());
        Row {
            units: &self.units[self.starts[row] as usize..self.starts[row + 1] as usize],
            weights: &self.weights[row * pathways..(row + 1) * pathways],
        }
    }
}

/// Spare weight of a pathway: its own, or its share of its group's.
fn spare_of(manifest: &Manifest, id: &PathwayId, pathway: &Pathway, spare: &Weights) -> u32 {
    if let Some(weight) = spare.get(&Target::Pathway(id.clone())) {
        return (*weight).min(WEIGHT_TOTAL_PPM);
    }
    let Some(group) = &pathway.group else { return 0 };
    let of_group = spare.get(&Target::Group(group.clone())).copied().unwrap_or(0).min(WEIGHT_TOTAL_PPM);
    let of_node = manifest.groups.get(group).and_then(|group| group.nodes.get(id)).copied().unwrap_or(0);
    ((u64::from(of_group) * u64::from(of_node)) / u64::from(WEIGHT_TOTAL_PPM)) as u32
}
