//! Many short names hashed after one prefix at once: the chains don't depend on each other, so that a processor takes
//! several in one step.

use alloc::vec::Vec;

use crate::hash::{PRIME, finish};

/// Names at most.
pub(crate) const LANES: usize = 48;
/// Names of one block.
const BLOCK: usize = 16;

/// One byte of each name of a block; the mask is all ones where the name has it.
struct Column {
    bytes: [u32; BLOCK],
    mask: [u32; BLOCK],
}

/// Names, byte by byte.
pub(crate) struct Names {
    blocks: Vec<Vec<Column>>,
    count: usize,
}

impl Names {
    /// At most [`LANES`] of them.
    pub(crate) fn new(names: &[&str]) -> Self {
        let blocks = names
            .chunks(BLOCK)
            .map(|names| {
                let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
                (0..longest)
                    .map(|at| {
                        let mut column = Column { bytes: [0; BLOCK], mask: [0; BLOCK] };
                        for (lane, name) in names.iter().enumerate() {
                            if let Some(byte) = name.as_bytes().get(at) {
                                column.bytes[lane] = u32::from(*byte);
                                column.mask[lane] = u32::MAX;
                            }
                        }
                        column
                    })
                    .collect()
            })
            .collect();
        Self { blocks, count: names.len() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// [`hash_pair`](crate::hash_pair) of what made `prefix` and each name.
    pub(crate) fn hashes(&self, prefix: u32, out: &mut [u32; LANES]) {
        for (block, out) in self.blocks.iter().zip(out.chunks_exact_mut(BLOCK)) {
            let mut lanes = [prefix; BLOCK];
            for column in block {
                for ((lane, byte), mask) in lanes.iter_mut().zip(&column.bytes).zip(&column.mask) {
                    let next = (*lane ^ byte).wrapping_mul(PRIME);
                    *lane ^= (next ^ *lane) & mask;
                }
            }
            for (out, lane) in out.iter_mut().zip(lanes) {
                *out = finish(lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::prefix;
    use crate::hash_pair;

    #[test]
    fn lanes_agree_with_the_plain_hash() {
        let names = [
            "cdn-a",
            "own-eu-west-1",
            "",
            "x",
            "control",
            "cdn-b",
            "a",
            "b",
            "c",
            "d",
            "e",
            "f",
            "g",
            "h",
            "i",
            "j",
            "the seventeenth",
            "18",
        ];
        let mut hashes = [0; LANES];
        Names::new(&names).hashes(prefix("view-1"), &mut hashes);
        for (name, hash) in names.iter().zip(hashes) {
            assert_eq!(hash, hash_pair("view-1", name), "{name}");
        }
    }
}
