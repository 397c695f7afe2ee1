//! Sets of addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashSet;

/// An address or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// Whether it is of IPv6, and how many bits are fixed.
    size: (bool, u8),
    /// The fixed bits; the others are zero.
    first: IpAddr,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then(|| Self::around(address, prefix))
    }

    /// The network of that size that an address is in.
    fn around(address: IpAddr, prefix: u8) -> Self {
        let first = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Self { size: (address.is_ipv6(), prefix), first }
    }
}

/// Networks, by their size: a look-up costs one probe for each size that there is, not one for each network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    sizes: Box<[(bool, u8)]>,
    networks: HashSet<Network>,
}

impl Networks {
    /// Makes one.
    pub fn new(networks: impl Iterator<Item = Network>) -> Self {
        let networks: HashSet<Network> = networks.collect();
        let mut sizes: Vec<_> = networks.iter().map(|network| network.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        Self { sizes: sizes.into(), networks }
    }

    /// Whether an address is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.sizes.iter().any(|&(is_ipv6, prefix)| {
            is_ipv6 == address.is_ipv6() && self.networks.contains(&Network::around(address, prefix))
        })
    }
}

impl std::hash::Hash for Networks {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.sizes, self.networks.len()).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        for (network, address, holds) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.9.9.9/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("169.254.169.254", "169.254.169.254", true),
            ("169.254.169.254", "169.254.169.253", false),
            ("fd00::/8", "fd00:ec2::254", true),
            ("::/0", "1.2.3.4", false),
        ] {
            let networks = Networks::new([Network::parse(network).unwrap()].into_iter());
            assert_eq!(networks.contain(address.parse().unwrap()), holds, "{network} {address}");
        }
        for text in ["10.0.0.0/33", "10.0.0", "x", "::/129", "", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(text), None);
        }
    }
}
