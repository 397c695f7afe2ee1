//! Sets of addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashSet;

/// Whether a network is of IPv6, and how many bits are fixed.
pub type Size = (bool, u8);

/// An address or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// Its size.
    pub size: Size,
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

    /// The network of one of these sizes that an address is in, for each of them that it can be in.
    pub fn around_each(sizes: &[Size], address: IpAddr) -> impl Iterator<Item = Self> {
        let sizes = sizes.iter().filter(move |(is_ipv6, _)| *is_ipv6 == address.is_ipv6());
        sizes.map(move |&(_, prefix)| Self::around(address, prefix))
    }

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
    sizes: Box<[Size]>,
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
        Network::around_each(&self.sizes, address).any(|network| self.networks.contains(&network))
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Network> {
        self.networks.iter().copied()
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
