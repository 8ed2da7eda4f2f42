//! Who asks: region and network by address.

use std::net::{IpAddr, SocketAddr};

use super::{CdnConfig, UNKNOWN_ASN, UNKNOWN_REGION};

/// One client as the fault layer and the counters see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) region: String,
    pub(crate) asn: u32,
    /// Same for all requests of one address.
    pub(crate) address_hash: u64,
}

impl Client {
    /// `peer` is absent when the router runs without [`super::serve`].
    pub(crate) fn of(peer: Option<SocketAddr>, config: &CdnConfig) -> Self {
        let octets = match peer.map(|peer| peer.ip()) {
            Some(IpAddr::V4(address)) => address.octets(),
            _ => [0; 4],
        };
        Self {
            region: config.regions.get(&octets[1]).cloned().unwrap_or(UNKNOWN_REGION.to_owned()),
            asn: config.asns.get(&octets[2]).copied().unwrap_or(UNKNOWN_ASN),
            address_hash: mixed(u64::from(u32::from_be_bytes(octets))),
        }
    }
}

/// Spreads neighbouring numbers over all 64 bits (the finaliser of `SplitMix64`).
pub(crate) fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
