//! Address prefix → something, longest first.

use std::net::IpAddr;

/// Prefixes with what they say.
#[derive(Clone, Debug)]
pub(crate) struct PrefixTable<T> {
    /// (is IPv6, length, network bits, value); longest first.
    prefixes: Vec<(bool, u8, u128, T)>,
}

impl<T> Default for PrefixTable<T> {
    fn default() -> Self {
        Self { prefixes: Vec::new() }
    }
}

impl<T> PrefixTable<T> {
    /// Adds `address/length`; false if `prefix` is none.
    pub(crate) fn add(&mut self, prefix: &str, value: T) -> bool {
        let Some((address, length)) = prefix.split_once('/') else { return false };
        let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>()) else { return false };
        if length > if address.is_ipv6() { 128 } else { 32 } {
            return false;
        }
        let after = self.prefixes.partition_point(|(_, other, ..)| *other >= length);
        self.prefixes.insert(after, (address.is_ipv6(), length, network(address, length), value));
        true
    }

    /// What the longest prefix that holds `address` says.
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<&T> {
        let address = address.to_canonical();
        self.prefixes
            .iter()
            .find(|(v6, length, bits, _)| *v6 == address.is_ipv6() && network(address, *length) == *bits)
            .map(|(.., value)| value)
    }
}

fn network(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    if length == 0 { 0 } else { bits >> (width - u32::from(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let mut table = PrefixTable::default();
        for prefix in ["10.0.0.0/8", "10.1.2.0/24", "10.1.0.0/16", "::/0"] {
            assert!(table.add(prefix, prefix), "{prefix}");
        }
        let of = |text: &str| table.lookup(text.parse().expect("address")).copied();
        assert_eq!(of("10.1.2.9"), Some("10.1.2.0/24"));
        assert_eq!(of("::ffff:10.1.3.9"), Some("10.1.0.0/16"));
        assert_eq!((of("10.2.0.1"), of("192.0.2.1"), of("2001:db8::1")), (Some("10.0.0.0/8"), None, Some("::/0")));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        let mut table = PrefixTable::default();
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "a/8"] {
            assert!(!table.add(bad, ()), "{bad}");
        }
    }
}
