//! Whom an answer is for: the client's subnet by EDNS (RFC 7871), else the resolver's own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use spillway_service::deployment::Deployment;
use spillway_service::geo::Client;

/// Bits that are looked at: what resolvers send at most for privacy, and no answer is finer.
const V4_BITS: u8 = 24;
const V6_BITS: u8 = 56;

/// A prefix of addresses, cut to what decides: /24 or /56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Subnet {
    /// The first address of it.
    pub(crate) address: IpAddr,
    /// Bits that count.
    pub(crate) bits: u8,
}

impl Subnet {
    /// The first `bits` of `address`, as far as they decide.
    pub(crate) fn new(address: IpAddr, bits: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = bits.min(V4_BITS);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(v6) => {
                let bits = bits.min(V6_BITS);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), bits }
            }
        }
    }

    /// The /24 or /56 of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::new(address, u8::MAX)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// A client's subnet as a query carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientSubnet {
    /// The option's data, to be sent back with the scope filled in.
    data: Vec<u8>,
    /// Address and SOURCE PREFIX-LENGTH; `None` for one that wants no tailored answer (length 0).
    of: Option<(IpAddr, u8)>,
}

impl ClientSubnet {
    /// Reads the option's data: FAMILY, SOURCE PREFIX-LENGTH, SCOPE PREFIX-LENGTH, ADDRESS. `None` if it is malformed
    /// (RFC 7871, 6 and 7.1.2): another number of address bytes than the length needs, bits beyond it, a scope. A length
    /// of 0 may come with family 0: `dig +subnet=0` sends that.
    pub(crate) fn read(data: &[u8]) -> Option<Self> {
        let (head, address) = data.split_at_checked(4)?;
        let (family, bits, scope) = (u16::from_be_bytes([head[0], head[1]]), head[2], head[3]);
        let full = match family {
            0 => 0,
            1 => 4,
            2 => 16,
            _ => return None,
        };
        if scope != 0 || address.len() > full || address.len() != usize::from(bits).div_ceil(8) {
            return None;
        }
        let beyond = (8 - bits % 8) % 8;
        if address.last().is_some_and(|last| last.trailing_zeros() < u32::from(beyond)) {
            return None;
        }
        let of = match (family, bits) {
            (_, 0) => None,
            (1, _) => Some((IpAddr::from(padded::<4>(address)), bits)),
            _ => Some((IpAddr::from(padded::<16>(address)), bits)),
        };
        // An IPv4 address in IPv6's clothes has a length that means something else.
        let of = of.filter(|(address, _)| address.to_canonical() == *address);
        Some(Self { data: data.to_vec(), of })
    }

    /// The data for the answer, valid for `scope` bits.
    pub(crate) fn answered(mut self, scope: u8) -> Vec<u8> {
        self.data[3] = scope;
        self.data
    }
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out[..bytes.len()].copy_from_slice(bytes);
    out
}

/// Whom to choose for, and how many bits of the client's subnet decided. What no `[[prefix]]` names and is no public
/// address (a resolver's own network, seen from outside) tells nothing; then the resolver's address decides.
pub(crate) fn asked_for(deployment: &Deployment, client: Option<&ClientSubnet>, resolver: IpAddr) -> (Subnet, u8) {
    let told = client.and_then(|client| client.of).map(|(address, bits)| Subnet::new(address, bits));
    let known = |subnet: &Subnet| {
        is_public(subnet.address) || deployment.locate(&Client::at(subnet.address)).told_by == "prefix"
    };
    match told.filter(known) {
        Some(subnet) => (subnet, subnet.bits),
        None => (Subnet::of(resolver), 0),
    }
}

/// Whether an address can be anybody's on the internet (IANA's special-purpose registries, without the ranges for
/// documentation: nobody has these).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && second & 0xc0 == 64;
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || first == 0 || first >= 224 || shared)
        }
        // Global unicast is 2000::/3; all else is local, multicast or not assigned.
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str, bits: u8) -> String {
        Subnet::new(text.parse().expect("address"), bits).to_string()
    }

    #[test]
    fn a_subnet_is_cut_to_what_decides() {
        assert_eq!(subnet("203.0.113.77", 32), "203.0.113.0/24");
        assert_eq!(subnet("203.0.113.77", 20), "203.0.112.0/20");
        assert_eq!(subnet("203.0.113.77", 0), "0.0.0.0/0");
        assert_eq!(subnet("2001:db8:1:2fff::9", 128), "2001:db8:1:2f00::/56");
        assert_eq!(subnet("::1", 0), "::/0");
        assert_eq!(subnet("::ffff:203.0.113.77", 24), "203.0.113.0/24");
    }

    #[test]
    fn a_malformed_option_is_told_from_a_good_one() {
        let good: [&[u8]; 7] = [
            &[0, 1, 24, 0, 203, 0, 113],
            &[0, 1, 20, 0, 203, 0, 112],
            &[0, 1, 32, 0, 1, 2, 3, 4],
            &[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 1, 0x2f],
            &[0, 1, 0, 0],
            &[0, 2, 0, 0],
            &[0, 0, 0, 0],
        ];
        for data in good {
            assert!(ClientSubnet::read(data).is_some(), "{data:?}");
        }
        let bad: [&[u8]; 9] = [
            &[],
            &[0, 1, 24],
            &[0, 1, 24, 0, 203, 0],
            &[0, 1, 24, 0, 203, 0, 113, 0],
            &[0, 1, 20, 0, 203, 0, 113],
            &[0, 1, 24, 24, 203, 0, 113],
            &[0, 1, 33, 0, 1, 2, 3, 4, 128],
            &[0, 3, 8, 0, 1],
            &[0, 0, 8, 0, 1],
        ];
        for data in bad {
            assert_eq!(ClientSubnet::read(data), None, "{data:?}");
        }
    }

    #[test]
    fn addresses_that_nobody_has_on_the_internet_are_not_public() {
        for no in [
            "10.1.2.3",
            "192.168.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.1.2.3",
            "224.0.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(!is_public(no.parse().expect("address")), "{no}");
        }
        for yes in ["203.0.113.1", "8.8.8.8", "100.128.0.1", "2001:db8::1"] {
            assert!(is_public(yes.parse().expect("address")), "{yes}");
        }
    }
}
