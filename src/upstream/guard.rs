//! The address guard: where we may connect, as a pure function of an address or a host's text.
//!
//! Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its
//! updates); RFC 6052 and RFC 8215 for addresses with IPv4 inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody's registry: link-local, metadata services, multicast, reserved.
    Never,
    /// This machine or a private network: only where `allow-private` says so.
    Private,
    /// The internet.
    Public,
}

/// A host as a URL writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address, in its usual form.
    Address(IpAddr),
    /// A name, to be resolved.
    Name,
    /// Neither, or an address in a form that is only good for hiding it (`0x7f.1`, `2130706433`).
    Odd,
}

/// What one upstream may connect to.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// The upstream's `allow-private`.
    pub allow_private: bool,
}

impl Guard {
    /// Whether this address may be connected to.
    pub fn allows(self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Never => false,
            Reach::Private => self.allow_private,
            Reach::Public => true,
        }
    }

    /// Whether this host may be asked for, before any name is resolved.
    ///
    /// It is all there is when an outbound proxy resolves names, so a name for this machine counts
    /// as private too.
    pub fn allows_host(self, host: &str) -> bool {
        match read_host(host) {
            Host::Address(address) => self.allows(address),
            Host::Name => {
                let last = host.rsplit('.').next().unwrap_or_default();
                self.allow_private || !last.eq_ignore_ascii_case("localhost")
            }
            Host::Odd => false,
        }
    }
}

/// Tells addresses from names, the way the most lenient resolver would.
///
/// Whatever ends in a number is an address to somebody (the C library, browsers): in the four
/// decimal parts that all agree on it is one, in any other form it is odd.
pub fn read_host(host: &str) -> Host {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().map_or(Host::Odd, |v6| Host::Address(v6.into()));
    }
    if let Ok(v4) = host.parse::<Ipv4Addr>() {
        return Host::Address(v4.into());
    }
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels_fit =
        host.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(letters));
    let last = host.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let digits = last.strip_prefix("0x").unwrap_or(&last);
    let radix = if digits.len() == last.len() { 10 } else { 16 };
    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
    if labels_fit && !is_number && host.len() <= 253 { Host::Name } else { Host::Odd }
}

/// How far an address reaches.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        // The first two: metadata and control addresses of clouds, outside link-local.
        [100, 100, 100, 200]
        | [168, 63, 129, 16]
        | [0 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Reach::Never,
        [10 | 127, ..] | [100, 64..=127, ..] | [172, 16..=31, ..] | [192, 168, ..] => {
            Reach::Private
        }
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4-mapped, and NAT64's well-known prefix: the address inside decides.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        // NAT64 of a local network: never public, and never a way to what is never allowed.
        [0x64, 0xff9b, 1, _, _, _, high, low] => match embedded(high, low) {
            Reach::Never => Reach::Never,
            Reach::Private | Reach::Public => Reach::Private,
        },
        // 6to4: the address inside is that of the relay; a private one is no lawful relay.
        [0x2002, high, low, ..] => match embedded(high, low) {
            Reach::Never | Reach::Private => Reach::Never,
            Reach::Public => Reach::Public,
        },
        // A cloud's metadata service, protocol assignments (Teredo with them), documentation.
        [0xfd00, 0x0ec2, ..] | [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => {
            Reach::Never
        }
        [0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff, ..] => Reach::Private,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_reach(table: &[(&str, Reach)]) {
        for (text, expected) in table {
            assert_eq!(reach(text.parse().unwrap()), *expected, "{text}");
        }
    }

    #[test]
    fn addresses_of_ipv4_reach_as_far_as_the_registries_say() {
        assert_reach(&[
            ("8.8.8.8", Reach::Public),
            ("172.15.0.1", Reach::Public),
            ("172.32.0.1", Reach::Public),
            ("100.63.0.1", Reach::Public),
            ("192.0.1.1", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("127.255.255.254", Reach::Private),
            ("10.0.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("100.127.255.255", Reach::Private),
            ("0.0.0.0", Reach::Never),
            ("0.1.2.3", Reach::Never),
            ("169.254.169.254", Reach::Never),
            ("100.100.100.200", Reach::Never),
            ("168.63.129.16", Reach::Never),
            ("192.0.0.192", Reach::Never),
            ("192.0.2.1", Reach::Never),
            ("198.18.0.1", Reach::Never),
            ("198.19.255.255", Reach::Never),
            ("198.51.100.1", Reach::Never),
            ("203.0.113.1", Reach::Never),
            ("192.88.99.1", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("240.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
        ]);
    }

    #[test]
    fn addresses_of_ipv6_reach_as_far_as_the_registries_say() {
        assert_reach(&[
            ("2606:4700::1", Reach::Public),
            ("2a00:1450:4001::1", Reach::Public),
            ("::1", Reach::Private),
            ("fd12::1", Reach::Private),
            ("fc00::1", Reach::Private),
            ("::", Reach::Never),
            ("fe80::1", Reach::Never),
            ("fec0::1", Reach::Never),
            ("ff02::1", Reach::Never),
            ("fd00:ec2::254", Reach::Never),
            ("2001:db8::1", Reach::Never),
            ("2001::1", Reach::Never),
            ("3fff::1", Reach::Never),
            ("100::1", Reach::Never),
            ("::ffff:127.0.0.1", Reach::Private),
            ("::ffff:169.254.169.254", Reach::Never),
            ("::ffff:8.8.8.8", Reach::Public),
            ("::127.0.0.1", Reach::Never),
            ("::8.8.8.8", Reach::Never),
            ("::ffff:0:127.0.0.1", Reach::Never),
            ("64:ff9b::7f00:1", Reach::Private),
            ("64:ff9b::a9fe:a9fe", Reach::Never),
            ("64:ff9b::808:808", Reach::Public),
            ("64:ff9b:1::808:808", Reach::Private),
            ("64:ff9b:1::a9fe:a9fe", Reach::Never),
            ("2002:7f00:1::", Reach::Never),
            ("2002:a9fe:a9fe::", Reach::Never),
            ("2002:0808:0808::1", Reach::Public),
        ]);
    }

    #[test]
    fn hosts_in_every_spelling_are_seen_through() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        for (text, expected) in [
            ("127.0.0.1", address("127.0.0.1")),
            ("[::1]", address("::1")),
            ("[::ffff:127.0.0.1]", address("::ffff:127.0.0.1")),
            ("[64:ff9b::7f00:1]", address("64:ff9b::7f00:1")),
            ("registry-1.docker.io", Host::Name),
            ("localhost", Host::Name),
            ("a_b.example", Host::Name),
            ("1.2.3.4.example", Host::Name),
            ("0x7f.example", Host::Name),
            ("0x7f.1", Host::Odd),
            ("0x7f000001", Host::Odd),
            ("0x", Host::Odd),
            ("2130706433", Host::Odd),
            ("0177.0.0.1", Host::Odd),
            ("127.0.0.01", Host::Odd),
            ("127.1", Host::Odd),
            ("127.0.0.1.", Host::Odd),
            ("127.0.0.0x1", Host::Odd),
            ("example.com.", Host::Odd),
            ("a..b", Host::Odd),
            ("", Host::Odd),
            ("[fe80::1%25eth0]", Host::Odd),
            ("[::1", Host::Odd),
            ("::1", Host::Odd),
            ("127。0。0。1", Host::Odd),
            ("%31%32%37.0.0.1", Host::Odd),
            ("a b", Host::Odd),
        ] {
            assert_eq!(read_host(text), expected, "{text}");
        }
    }

    #[test]
    fn private_places_need_allow_private_and_the_rest_is_never_allowed() {
        let (strict, lax) = (Guard { allow_private: false }, Guard { allow_private: true });
        for (host, by_strict, by_lax) in [
            ("registry.example", true, true),
            ("8.8.8.8", true, true),
            ("127.0.0.1", false, true),
            ("localhost", false, true),
            ("a.LocalHost", false, true),
            ("169.254.169.254", false, false),
            ("[::ffff:169.254.169.254]", false, false),
            ("0x7f.1", false, false),
            ("2130706433", false, false),
        ] {
            assert_eq!(strict.allows_host(host), by_strict, "{host}");
            assert_eq!(lax.allows_host(host), by_lax, "{host}");
        }
    }

    proptest! {
        #[test]
        fn an_address_behind_a_mapping_reaches_no_further(raw: u32) {
            let v4 = Ipv4Addr::from(raw);
            prop_assert_eq!(reach(v4.to_ipv6_mapped().into()), reach(v4.into()));
        }

        #[test]
        fn reading_a_host_never_panics(host in ".*") {
            read_host(&host);
        }
    }
}
