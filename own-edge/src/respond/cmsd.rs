//! What an edge tells players (CMSD, CTA-5006): how far away they are and what the connection gives them, and near its
//! ceiling that it is under duress, and which bitrate it could carry for all of them. Players that read it take a lower
//! rendition before anybody must be turned away.

use std::sync::{PoisonError, RwLock};

use http::{HeaderName, HeaderValue};

use crate::serve::tcp_info::TcpInfo;

/// The field that a node adds what it knows to.
pub(crate) const CMSD_DYNAMIC: HeaderName = HeaderName::from_static("cmsd-dynamic");
/// From this share of its ceiling on a node suggests a bitrate, ppm.
const SUGGESTS_PPM: u64 = 900_000;
/// From this share on it says that it is under duress, ppm.
const DURESS_PPM: u64 = 970_000;
/// No suggestion is lower: below it nothing is worth watching.
const SUGGESTED_MIN_KBPS: u64 = 200;

/// What all players are told now.
#[derive(Debug, Default)]
pub(crate) struct Advice(RwLock<Option<Suggestion>>);

/// What a node near its ceiling asks of players.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suggestion {
    /// It is under duress.
    duress: bool,
    /// It could carry this for all of them.
    max_bitrate_kbps: u64,
}

impl Advice {
    /// While there is something to ask.
    pub(crate) fn current(&self) -> Option<Suggestion> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was measured.
    pub(crate) fn update(&self, bits_out_bps: u64, ceiling_bps: u64, viewers: u64) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = suggestion(bits_out_bps, ceiling_bps, viewers);
    }
}

fn suggestion(bits_out_bps: u64, ceiling_bps: u64, viewers: u64) -> Option<Suggestion> {
    let used_ppm = u128::from(bits_out_bps) * 1_000_000 / u128::from(ceiling_bps.max(1));
    if used_ppm < u128::from(SUGGESTS_PPM) || viewers == 0 {
        return None;
    }
    // What would bring the node back to where it says nothing.
    let share_kbps = u128::from(ceiling_bps) * u128::from(SUGGESTS_PPM) / 1_000_000 / u128::from(viewers) / 1_000;
    let hundreds = u64::try_from(share_kbps / 100 * 100).unwrap_or(u64::MAX);
    let max_bitrate_kbps = hundreds.max(SUGGESTED_MIN_KBPS);
    Some(Suggestion { duress: used_ppm >= u128::from(DURESS_PPM), max_bitrate_kbps })
}

/// `"node";du;etp=kbps;mb=kbps;rtt=ms`, as far as there is something to say: the bitrate in hundreds of kbit/s, the rest
/// rounded up, as CTA-5006 has it.
pub(crate) fn header(node: &str, suggestion: Option<Suggestion>, tcp: Option<TcpInfo>) -> Option<HeaderValue> {
    if suggestion.is_none() && tcp.is_none() {
        return None;
    }
    let mut text = format!("\"{node}\"");
    let mut add = |key: &str, value: Option<u64>| {
        if let Some(value) = value {
            text.push_str(key);
            text.push_str(itoa::Buffer::new().format(value));
        }
    };
    add(";etp=", tcp.and_then(|tcp| tcp.rate_bps).map(|bps| bps.div_ceil(1_000)));
    add(";mb=", suggestion.map(|suggestion| suggestion.max_bitrate_kbps));
    add(";rtt=", tcp.map(|tcp| u64::from(tcp.rtt_us.div_ceil(1_000))));
    if suggestion.is_some_and(|suggestion| suggestion.duress) {
        text.insert_str(node.len() + 2, ";du");
    }
    Some(HeaderValue::from_str(&text).expect("an id and numbers are a header value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_near_its_ceiling_suggests_what_it_could_carry_for_all() {
        let of =
            |bits, viewers| suggestion(bits, 100_000_000, viewers).map(|asked| (asked.duress, asked.max_bitrate_kbps));
        assert_eq!(of(89_999_999, 10), None);
        assert_eq!(of(90_000_000, 10), Some((false, 9_000)));
        assert_eq!(of(97_000_000, 32), Some((true, 2_800)));
        assert_eq!(of(500_000_000, 100_000), Some((true, 200)));
        assert_eq!(of(100_000_000, 0), None);
        assert!(suggestion(u64::MAX, 0, u64::MAX).is_some_and(|asked| asked.max_bitrate_kbps == 200));
    }

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let asked = |duress| Some(Suggestion { duress, max_bitrate_kbps: 700 });
        let tcp = |rate_bps| Some(TcpInfo { rtt_us: 18_001, rate_bps });
        for (suggestion, tcp, expected) in [
            (None, None, None),
            (None, tcp(None), Some("\"own-x\";rtt=19")),
            (None, tcp(Some(5_000_001)), Some("\"own-x\";etp=5001;rtt=19")),
            (asked(false), None, Some("\"own-x\";mb=700")),
            (asked(true), tcp(Some(9_000)), Some("\"own-x\";du;etp=9;mb=700;rtt=19")),
        ] {
            let told = header("own-x", suggestion, tcp);
            assert_eq!(told.as_ref().map(|told| told.as_bytes()), expected.map(str::as_bytes));
        }
    }
}
