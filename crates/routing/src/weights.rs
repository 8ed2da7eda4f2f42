//! How much each target gets.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter::Map;
use core::ops::Index;
use core::slice::Iter;

use crate::Target;

/// Parts per million by target, in the order of targets. New, running and static weights sum to exactly 1,000,000;
/// spare weights are free.
///
/// A slice that copies share, and no tree: a node keeps some tables for each of a hundred thousand cohorts, most of them
/// of three targets, and many alike. They are made at once and never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weights(Arc<[(Target, u32)]>);

/// Targets with their weights.
type Pairs<'a> = Map<Iter<'a, (Target, u32)>, fn(&'a (Target, u32)) -> (&'a Target, &'a u32)>;

impl Weights {
    /// Of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The weight of a target, if it is named.
    #[must_use]
    pub fn get(&self, target: &Target) -> Option<&u32> {
        let at = self.0.binary_search_by(|(other, _)| other.cmp(target)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether a target is named.
    #[must_use]
    pub fn contains_key(&self, target: &Target) -> bool {
        self.get(target).is_some()
    }

    /// Targets with their weights, in the order of targets.
    pub fn iter(&self) -> Pairs<'_> {
        self.0.iter().map(|(target, weight)| (target, weight))
    }

    /// The targets, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &Target> {
        self.0.iter().map(|(target, _)| target)
    }

    /// The weights, in the order of targets.
    pub fn values(&self) -> impl Iterator<Item = &u32> {
        self.0.iter().map(|(_, weight)| weight)
    }

    /// How many targets are named.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Weights {
    type Item = (&'a Target, &'a u32);
    type IntoIter = Pairs<'a>;

    fn into_iter(self) -> Pairs<'a> {
        self.iter()
    }
}

impl Index<&Target> for Weights {
    type Output = u32;

    /// Panics where the target is not named.
    fn index(&self, target: &Target) -> &u32 {
        self.get(target).expect("a named target")
    }
}

impl From<BTreeMap<Target, u32>> for Weights {
    fn from(by_target: BTreeMap<Target, u32>) -> Self {
        Self(by_target.into_iter().collect::<Vec<_>>().into())
    }
}

impl FromIterator<(Target, u32)> for Weights {
    /// Of a target that comes twice the last counts.
    fn from_iter<I: IntoIterator<Item = (Target, u32)>>(pairs: I) -> Self {
        pairs.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl<const N: usize> From<[(Target, u32); N]> for Weights {
    fn from(pairs: [(Target, u32); N]) -> Self {
        pairs.into_iter().collect()
    }
}
