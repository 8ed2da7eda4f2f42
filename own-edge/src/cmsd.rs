//! What an edge near its ceiling tells players (CMSD, CTA-5006): that it is under duress, and which bitrate it could
//! carry for all of them. Players that read it (dash.js) take a lower rendition before anybody must be turned away.

use std::sync::{PoisonError, RwLock};

use http::{HeaderName, HeaderValue};

/// The field that a node adds what it knows to.
pub(crate) const CMSD_DYNAMIC: HeaderName = HeaderName::from_static("cmsd-dynamic");
/// From this share of its ceiling on a node suggests a bitrate, ppm.
const SUGGESTS_PPM: u64 = 900_000;
/// From this share on it says that it is under duress, ppm.
const DURESS_PPM: u64 = 970_000;
/// No suggestion is lower: below it nothing is worth watching.
const SUGGESTED_MIN_KBPS: u64 = 200;

/// What is told now.
#[derive(Debug, Default)]
pub(crate) struct Advice(RwLock<Option<HeaderValue>>);

impl Advice {
    /// The header of every answer of media, while there is something to say.
    pub(crate) fn current(&self) -> Option<HeaderValue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what was measured.
    pub(crate) fn update(&self, node: &str, bits_out_bps: u64, ceiling_bps: u64, viewers: u64) {
        let advice = advice(node, bits_out_bps, ceiling_bps, viewers);
        let header = advice.map(|text| HeaderValue::from_str(&text).expect("an id and numbers are a header value"));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = header;
    }
}

/// `"node";du;mb=kbps`, the bitrate in hundreds of kbit/s as CTA-5006 has it.
fn advice(node: &str, bits_out_bps: u64, ceiling_bps: u64, viewers: u64) -> Option<String> {
    let used_ppm = u128::from(bits_out_bps) * 1_000_000 / u128::from(ceiling_bps.max(1));
    if used_ppm < u128::from(SUGGESTS_PPM) || viewers == 0 {
        return None;
    }
    // What would bring the node back to where it says nothing.
    let share_kbps = u128::from(ceiling_bps) * u128::from(SUGGESTS_PPM) / 1_000_000 / u128::from(viewers) / 1_000;
    let mb = (share_kbps / 100 * 100).max(u128::from(SUGGESTED_MIN_KBPS));
    let duress = if used_ppm >= u128::from(DURESS_PPM) { ";du" } else { "" };
    Some(format!("\"{node}\"{duress};mb={mb}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_near_its_ceiling_suggests_what_it_could_carry_for_all() {
        let of = |bits, viewers| advice("own-x-1", bits, 100_000_000, viewers);
        assert_eq!(of(89_999_999, 10), None);
        assert_eq!(of(90_000_000, 10).as_deref(), Some("\"own-x-1\";mb=9000"));
        assert_eq!(of(97_000_000, 32).as_deref(), Some("\"own-x-1\";du;mb=2800"));
        assert_eq!(of(500_000_000, 100_000).as_deref(), Some("\"own-x-1\";du;mb=200"));
        assert_eq!(of(100_000_000, 0), None);
        assert_eq!(advice("own-x-1", u64::MAX, 0, u64::MAX).as_deref(), Some("\"own-x-1\";du;mb=200"));
    }
}
