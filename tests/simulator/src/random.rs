//! Seeded luck. Every draw is named by what it is for (seed, second, place, purpose), not by the order in which it is
//! asked for: two policies that ask different questions still have the same luck in everything that they share.

/// A number of 64 bits out of named parts: splitmix64's finaliser (Steele, Lea, Flood 2014) over each part.
pub(crate) fn mix(parts: &[u64]) -> u64 {
    let mut z = 0x51_7c_c1_b7_27_22_0a_95_u64;
    for part in parts {
        z = (z ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
    }
    z
}

/// Evenly in 0 to 1, without either end.
pub(crate) fn unit(parts: &[u64]) -> f64 {
    ((mix(parts) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// Standard normal.
pub(crate) fn normal(parts: &[u64]) -> f64 {
    normal_quantile(unit(parts))
}

/// Standard normal quantile, Acklam's rational approximation (relative error below 1.2e-9).
pub(crate) fn normal_quantile(u: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_8,
        220.946_098_424_521,
        -275.928_510_446_969,
        138.357_751_867_269,
        -30.664_798_066_147_2,
        2.506_628_277_459_24,
    ];
    const B: [f64; 5] =
        [-54.476_098_798_224_1, 161.585_836_858_041, -155.698_979_859_887, 66.801_311_887_719_7, -13.280_681_552_885_7];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_29,
        -0.322_396_458_041_136,
        -2.400_758_277_161_84,
        -2.549_732_539_343_73,
        4.374_664_141_464_97,
        2.938_163_982_698_78,
    ];
    const D: [f64; 4] = [0.007_784_695_709_041_46, 0.322_467_129_070_04, 2.445_134_137_143, 3.754_408_661_907_42];
    let tail = |q: f64| {
        (((((C[0] * q + C[1]) * q + C[2]) * q + C[3]) * q + C[4]) * q + C[5])
            / ((((D[0] * q + D[1]) * q + D[2]) * q + D[3]) * q + 1.0)
    };
    if u < 0.02425 {
        tail((-2.0 * u.ln()).sqrt())
    } else if u > 1.0 - 0.02425 {
        -tail((-2.0 * (1.0 - u).ln()).sqrt())
    } else {
        let q = u - 0.5;
        let r = q * q;
        (((((A[0] * r + A[1]) * r + A[2]) * r + A[3]) * r + A[4]) * r + A[5]) * q
            / (((((B[0] * r + B[1]) * r + B[2]) * r + B[3]) * r + B[4]) * r + 1.0)
    }
}

/// The `u`-quantile of a binomial count: exact by summing where it is small, normal with rounding where it is large.
/// `trials` may be a fluid number; it is rounded by the same luck.
pub(crate) fn binomial(trials: f64, probability: f64, u: f64) -> u64 {
    // The fractional trial exists or not; another use of the same luck, far from the first one.
    let fraction = (u * 7919.0).fract();
    let n = (trials.max(0.0) + fraction).floor();
    let p = probability.clamp(0.0, 1.0);
    if n < 1.0 || p <= 0.0 {
        return 0;
    }
    if p > 0.5 {
        return n as u64 - small_side(n, 1.0 - p, 1.0 - u);
    }
    small_side(n, p, u)
}

fn small_side(n: f64, p: f64, u: f64) -> u64 {
    if p <= 0.0 {
        return 0;
    }
    let mean = n * p;
    if mean > 25.0 {
        let value = mean + normal_quantile(u) * (mean * (1.0 - p)).sqrt();
        return value.round().clamp(0.0, n) as u64;
    }
    let ratio = p / (1.0 - p);
    let mut term = (n * (-p).ln_1p()).exp();
    let mut sum = term;
    let mut k = 0.0;
    while sum < u && k < n && k < 200.0 {
        term *= (n - k) / (k + 1.0) * ratio;
        k += 1.0;
        sum += term;
    }
    k as u64
}

/// A stream of numbers, where an order is natural (one player's own life).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(parts: &[u64]) -> Self {
        Self(mix(parts))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in 0 to 1, without either end.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomial_counts_have_the_right_mean_and_spread() {
        for (n, p) in [(40.0, 0.01), (2000.0, 0.012), (500.0, 0.4), (300.0, 0.97), (12.5, 0.5)] {
            let draws: Vec<f64> = (0..20_000).map(|i| binomial(n, p, unit(&[7, i])) as f64).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            let sd = (n * p * (1.0 - p)).sqrt();
            assert!((mean - n * p).abs() < 0.05 * sd + 0.01, "{n} {p}: mean {mean}");
            assert!((variance.sqrt() - sd).abs() < 0.06 * sd + 0.05, "{n} {p}: sd {} instead of {sd}", variance.sqrt());
        }
    }

    #[test]
    fn the_normal_quantile_is_symmetric_and_right_at_known_points() {
        for (u, z) in [(0.5, 0.0), (0.975, 1.959_963_985), (0.001, -3.090_232_306)] {
            assert!((normal_quantile(u) - z).abs() < 1e-6, "{u}");
        }
    }
}
