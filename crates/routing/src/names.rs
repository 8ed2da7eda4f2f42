//! Many short names hashed after one prefix: what they begin with in common is hashed once.

use alloc::vec::Vec;

use crate::hash::{finish, step};
use crate::log2::neg_log2;

/// Pathways and groups at most.
pub(crate) const TARGETS: usize = 48;
/// Length of a table by target: a power of two, so that no index is out of bounds.
pub(crate) const SLOTS: usize = 64;

/// `-log2` of each target's hash.
pub(crate) type Scores = [u64; SLOTS];

/// The hash's state after each beginning: of n names, 2n at most, and the prefix alone.
#[derive(Clone, Debug)]
pub(crate) struct States([u32; 2 * SLOTS]);

impl Default for States {
    fn default() -> Self {
        Self([0; 2 * SLOTS])
    }
}

/// Up to eight more bytes, the first the lowest.
#[derive(Clone, Copy)]
struct Edge {
    bytes: u64,
    count: u8,
    from: u8,
    to: u8,
}

/// Names of targets as a tree of their beginnings.
pub(crate) struct Names {
    /// Beginnings before what follows them.
    edges: Vec<Edge>,
    /// Target and where its name ends.
    ends: Vec<(u8, u8)>,
}

impl Names {
    /// At most [`TARGETS`] different ones, each with its target, which is below [`SLOTS`].
    pub(crate) fn new<'a>(names: impl Iterator<Item = (u8, &'a str)>) -> Self {
        let mut names: Vec<(&[u8], u8)> = names.map(|(target, name)| (name.as_bytes(), target)).collect();
        names.sort_unstable();
        let mut out = Self { edges: Vec::new(), ends: Vec::new() };
        let mut states = 1;
        out.grow(&names, 0, 0, &mut states);
        out
    }

    /// Adds what follows `state`, in which the first `done` bytes of all `names` are hashed. They are sorted.
    fn grow(&mut self, names: &[(&[u8], u8)], done: usize, state: u8, states: &mut u8) {
        let mut left = names;
        while let Some((name, target)) = left.first() {
            let Some(byte) = name.get(done) else {
                self.ends.push((*target, state));
                left = &left[1..];
                continue;
            };
            let (same, rest) = left.split_at(left.partition_point(|(name, _)| name.get(done) <= Some(byte)));
            let last = same[same.len() - 1].0;
            let common = name.iter().zip(last).take_while(|(a, b)| a == b).count();
            let to = *states;
            *states += 1;
            let mut from = state;
            for part in name[done..common].chunks(8) {
                let bytes = part.iter().rev().fold(0, |bytes, byte| bytes << 8 | u64::from(*byte));
                self.edges.push(Edge { bytes, count: part.len() as u8, from, to });
                from = to;
            }
            self.grow(same, common, to, states);
            left = rest;
        }
    }

    /// `-log2` of [`hash_pair`](crate::hash_pair) of what made `prefix` and each name, by target.
    pub(crate) fn scores(&self, prefix: u32, states: &mut States, out: &mut Scores) {
        let states = &mut states.0;
        states[0] = prefix;
        for edge in &self.edges {
            let mut hash = states[usize::from(edge.from) % (2 * SLOTS)];
            let mut bytes = edge.bytes;
            for _ in 0..edge.count {
                hash = step(hash, bytes as u8);
                bytes >>= 8;
            }
            states[usize::from(edge.to) % (2 * SLOTS)] = hash;
        }
        for (target, state) in &self.ends {
            let hash = states[usize::from(*state) % (2 * SLOTS)];
            out[usize::from(*target) % SLOTS] = neg_log2(finish(hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::prefix;
    use crate::hash_pair;

    #[test]
    fn the_tree_agrees_with_the_plain_hash() {
        let names = [
            "cdn-a",
            "own-eu-west-1",
            "",
            "x",
            "own-eu-west-2",
            "own-eu-west-2-of-a-very-long-name",
            "own-eu-west-2-of-a-very-long-game",
            "control",
            "cdn-b",
            "cdn",
            "a",
            "ab",
            "abc",
            "the fourteenth",
            "16",
            "17",
            "1",
            "é",
            "è",
        ];
        let (mut states, mut scores) = (States::default(), [0; SLOTS]);
        let numbered = || names.iter().enumerate().map(|(index, name)| (index as u8, *name));
        Names::new(numbered()).scores(prefix("view-1"), &mut states, &mut scores);
        for (name, score) in names.iter().zip(scores) {
            assert_eq!(score, neg_log2(hash_pair("view-1", name)), "{name}");
        }
        Names::new(numbered().take(0)).scores(prefix("view-1"), &mut states, &mut scores);
    }

    #[test]
    fn as_many_names_as_fit_need_no_more_states_than_there_are() {
        // Each is the beginning of the next: the most states per name.
        let long = "x".repeat(TARGETS);
        let names = (0..TARGETS).map(|count| (count as u8, &long[..count]));
        let (mut states, mut scores) = (States::default(), [0; SLOTS]);
        Names::new(names).scores(prefix("view-1"), &mut states, &mut scores);
        for (count, score) in scores[..TARGETS].iter().enumerate() {
            assert_eq!(*score, neg_log2(hash_pair("view-1", &long[..count])), "{count}");
        }
    }
}
