//! Fixed-point log2 by table, so that no machine's floating point can change an order.

const TABLE_BITS: u32 = 8;
const TABLE_LEN: usize = (1 << TABLE_BITS) + 1;

/// `TABLE[i] = log2(1 + i/256)` in units of 2^-32, rounded down.
static TABLE: [u64; TABLE_LEN] = table();

const fn table() -> [u64; TABLE_LEN] {
    let mut out = [0; TABLE_LEN];
    let mut index = 0;
    while index < TABLE_LEN - 1 {
        out[index] = log2_fraction((1 << 31) + ((index as u64) << (31 - TABLE_BITS)));
        index += 1;
    }
    out[TABLE_LEN - 1] = 1 << 32;
    out
}

/// 32 fraction bits of log2(m / 2^31) for m in [2^31, 2^32): square, and each time it passes 2, that bit is one.
const fn log2_fraction(mantissa: u64) -> u64 {
    let mut m = mantissa;
    let mut out = 0;
    let mut bit = 0;
    while bit < 32 {
        m = (m * m) >> 31;
        out <<= 1;
        if m >= 1 << 32 {
            out |= 1;
            m >>= 1;
        }
        bit += 1;
    }
    out
}

/// `-log2((hash + 1) / 2^32)` in units of 2^-32; 0 for the largest hash, 32 × 2^32 for hash 0. Linear between the
/// table's 256 steps (error below 3 × 10^-6).
pub(crate) fn neg_log2(hash: u32) -> u64 {
    let x = u64::from(hash) + 1;
    // The highest one moved to bit 63: the 32 bits below it are the fraction.
    let zeros = x.leading_zeros();
    let fraction = x << zeros >> 31;
    let index = (fraction >> (32 - TABLE_BITS)) as usize % (TABLE_LEN - 1);
    let rest = fraction & ((1 << (32 - TABLE_BITS)) - 1);
    let step = TABLE[index + 1] - TABLE[index];
    (u64::from(zeros) << 32) - (31 << 32) - TABLE[index] - ((step * rest) >> (32 - TABLE_BITS))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn it_agrees_with_floating_point() {
        for hash in [0, 1, 2, 255, 256, 65_535, 1 << 20, 3_000_000_000, u32::MAX - 1, u32::MAX] {
            let exact = 32.0 - (f64::from(hash) + 1.0).log2();
            let ours = neg_log2(hash) as f64 / 4_294_967_296.0;
            assert!((exact - ours).abs() < 3e-6, "hash {hash}: {exact} against {ours}");
        }
    }

    #[test]
    fn a_larger_hash_never_scores_more() {
        let mut last = neg_log2(0);
        for hash in (0..=u32::MAX).step_by(65_521) {
            let score = neg_log2(hash);
            assert!(score <= last);
            last = score;
        }
    }
}
