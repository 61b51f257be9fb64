//! Who may connect: networks of addresses.

use std::net::IpAddr;

/// Who may connect.
#[derive(Clone, Debug, Default)]
pub struct AllowFrom(pub Vec<(IpAddr, u8)>);

impl AllowFrom {
    /// Whether `address` is in one of the networks; with none given everybody may connect.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.is_empty() || self.0.iter().any(|(network, bits)| contains(*network, *bits, address))
    }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        for (network, bits, address, inside) in [
            ("10.0.0.0", 8, "10.1.2.3", true),
            ("10.0.0.0", 8, "11.1.2.3", false),
            ("0.0.0.0", 0, "1.2.3.4", true),
            ("127.0.0.1", 32, "127.0.0.1", true),
            ("127.0.0.1", 32, "127.0.0.2", false),
            ("fd00::", 8, "fd12::1", true),
            ("::", 0, "1.2.3.4", false),
            ("10.0.0.0", 8, "::ffff:10.0.0.1", true),
        ] {
            let allow = AllowFrom(vec![(network.parse().unwrap(), bits)]);
            assert_eq!(allow.admits(address.parse().unwrap()), inside, "{network} {address}");
        }
        assert!(AllowFrom::default().admits("1.2.3.4".parse().unwrap()));
    }
}
