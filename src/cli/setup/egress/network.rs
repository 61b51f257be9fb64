//! Networks, as rules name them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The private networks.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// The networks of one host or one link.
const NEAR: [&str; 4] = ["127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"];

/// A network, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether it is one of IPv4.
    pub(super) const fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    /// Reads `10.0.0.0/8` or `10.0.0.7`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("{text} is no network: 10.0.0.0/8, fd00::/8, 203.0.113.7");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wanted())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| wanted())?;
        if prefix == 0 || prefix > most || !has_no_host(address, prefix) {
            return Err(wanted());
        }
        Ok(Self { address, prefix })
    }
}

/// Whether no bit is set behind the prefix.
fn has_no_host(address: IpAddr, prefix: u8) -> bool {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    bits.checked_shl(u32::from(prefix)).unwrap_or(0) == 0
}

/// The private networks and these, each once.
pub(super) fn private_and(allowed: &[Network]) -> Vec<Network> {
    sorted(&PRIVATE, allowed)
}

/// The same with what is on this host and its links.
pub(super) fn near_and(allowed: &[Network]) -> Vec<Network> {
    sorted(&NEAR, &private_and(allowed))
}

fn sorted(texts: &[&str], more: &[Network]) -> Vec<Network> {
    let known = texts.iter().filter_map(|text| text.parse().ok());
    let mut networks: Vec<Network> = known.chain(more.iter().copied()).collect();
    networks.sort();
    networks.dedup();
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_with_a_prefix_and_no_host() {
        for (text, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("203.0.113.7", Some("203.0.113.7/32")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("10.0.0.1/8", None),
            ("0.0.0.0/0", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/x", None),
            ("registry.example", None),
        ] {
            let found = text.parse::<Network>().ok().map(|network| network.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        assert_eq!(near_and(&private_and(&[])).len(), PRIVATE.len() + NEAR.len());
    }
}
