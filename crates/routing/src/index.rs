//! Numbers by number, found by reading one line of the processor's cache.

use alloc::vec::Vec;

/// Entries of one bucket: it fills 64 bytes, a cache line.
const BUCKET: usize = 8;

/// Keys, and values + 1; 0 is free. Filled from the front.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket {
    keys: [u32; BUCKET],
    values: [u32; BUCKET],
}

/// A map of fixed capacity. What doesn't fit into a key's bucket is in the next.
pub(crate) struct Index {
    buckets: Vec<Bucket>,
    shift: u32,
}

impl Index {
    /// For so many keys: at least a fifth stays free, so that few of them are in another bucket than their own.
    pub(crate) fn new(keys: usize) -> Self {
        let bits = (keys * 5 / (BUCKET * 4) + 1).next_power_of_two().trailing_zeros();
        Self { buckets: alloc::vec![Bucket::default(); 1 << bits], shift: 32 - bits }
    }

    fn place(&self, key: u32) -> usize {
        (u64::from(key.wrapping_mul(0x9e37_79b1)) >> self.shift) as usize
    }

    /// Of two values for the same key the later one counts. `value` is below `u32::MAX`.
    pub(crate) fn put(&mut self, key: u32, value: u32) {
        let mask = self.buckets.len() - 1;
        let mut at = self.place(key);
        loop {
            let bucket = &mut self.buckets[at];
            let fits = (0..BUCKET).find(|slot| bucket.values[*slot] == 0 || bucket.keys[*slot] == key);
            if let Some(slot) = fits {
                (bucket.keys[slot], bucket.values[slot]) = (key, value + 1);
                return;
            }
            at = (at + 1) & mask;
        }
    }

    pub(crate) fn get(&self, key: u32) -> Option<u32> {
        let mask = self.buckets.len() - 1;
        let mut at = self.place(key);
        loop {
            let bucket = &self.buckets[at];
            // No early end: a jump that depends on chance costs more than eight comparisons.
            let pairs = bucket.keys.iter().zip(&bucket.values);
            let found = pairs.fold(0, |found, (other, value)| found | if *other == key { *value } else { 0 });
            if found != 0 {
                return Some(found - 1);
            }
            if bucket.values[BUCKET - 1] == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_with_its_last_value_and_no_other() {
        for keys in [0_u32, 1, 5, 8, 9, 1000, 100_000] {
            let mut index = Index::new(keys as usize);
            let key = |n: u32| n.wrapping_mul(0x27d4_eb2f) ^ n >> 3;
            let known: alloc::collections::BTreeMap<u32, u32> = (0..keys).map(|n| (key(n), n + 7)).collect();
            (0..keys).for_each(|n| index.put(key(n), n));
            known.iter().for_each(|(key, value)| index.put(*key, *value));
            for (key, value) in &known {
                assert_eq!(index.get(*key), Some(*value), "{key} of {keys}");
            }
            for other in (0..50_000).filter(|other| !known.contains_key(other)) {
                assert_eq!(index.get(other), None, "{other} of {keys}");
            }
        }
    }
}
