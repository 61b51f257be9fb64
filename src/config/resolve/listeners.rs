//! `[[listener]]` and `[admin]`.

mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::Report;
use crate::config::problem::KeyPath;
use crate::config::raw::{RawAdmin, RawListener, RawListenerKind};
use crate::config::resolved::{
    AdminConfig, Credentials, ListenerConfig, ListenerKind, UpstreamConfig,
};
use crate::oci::Registry;

/// The listeners; the default ones if none is written.
pub(super) fn resolve(
    raw: Option<Vec<RawListener>>,
    defaults: Vec<ListenerConfig>,
    report: &mut Report<'_>,
) -> Vec<ListenerConfig> {
    let Some(raw) = raw else { return defaults };
    if raw.is_empty() {
        let message = "without a listener no client can come in: leave it out for the default ones";
        report.add(&KeyPath::new("listener"), message);
    }
    // A wrong one keeps its place, so that what is said of the others names the right one.
    let wrong = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)), ListenerKind::Direct);
    let listener = |(index, raw): (usize, &RawListener)| {
        resolve_one(raw, &KeyPath::new("listener").at(index), report)
            .unwrap_or_else(|| wrong.clone())
    };
    raw.iter().enumerate().map(listener).collect()
}

/// The admin listener.
pub(super) fn resolve_admin(raw: &RawAdmin, default_address: SocketAddr) -> AdminConfig {
    AdminConfig {
        address: raw.address.unwrap_or(default_address),
        hosts: raw.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
    }
}

/// No two listeners may want the same port of the same address.
pub(super) fn check_addresses(
    listeners: &[ListenerConfig],
    admin: &AdminConfig,
    report: &mut Report<'_>,
) {
    let mut taken: Vec<(SocketAddr, KeyPath)> = Vec::new();
    let addresses = listeners.iter().enumerate().map(|(index, listener)| {
        (listener.address, KeyPath::new("listener").at(index).key("address"))
    });
    let admin = (admin.address, KeyPath::new("admin").key("address"));
    for (address, path) in addresses.chain([admin]) {
        if let Some((_, other)) = taken.iter().find(|(other, _)| collide(*other, address)) {
            report.add(&path, format!("{address} is taken by {other}: choose another port"));
        }
        taken.push((address, path));
    }
}

/// Our own credentials must not be for everybody by accident (design, section 7).
pub(super) fn check_sharing(
    listeners: &[ListenerConfig],
    upstreams: &BTreeMap<Registry, UpstreamConfig>,
    report: &mut Report<'_>,
) {
    let own = |(_, upstream): &(&Registry, &UpstreamConfig)| {
        matches!(upstream.credentials, Credentials::Own { .. })
    };
    let Some((name, _)) = upstreams.iter().find(own) else { return };
    for (index, listener) in listeners.iter().enumerate() {
        let is_open = !listener.address.ip().is_loopback()
            && listener.allow_from.is_empty()
            && !listener.share_private;
        if is_open {
            let message = format!(
                "whoever reaches {} could read what our credentials for {name} can: set \
                 allow-from to the networks that may, or share-private = true if all may",
                listener.address
            );
            report.add(&KeyPath::new("listener").at(index), message);
        }
    }
}

fn resolve_one(
    raw: &RawListener,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Option<ListenerConfig> {
    if raw.address.is_none() {
        report.add(&path.key("address"), "it is missing: give one such as \"127.0.0.1:5050\"");
    }
    if raw.kind.is_none() {
        report.add(&path.key("kind"), "it is missing: give \"mirror\" or \"direct\"");
    }
    let allow_from = networks(&raw.allow_from, &path.key("allow-from"), report);
    let default_upstream = default_upstream(raw, &path.key("default-upstream"), report);
    let head_timeout = above_zero(
        raw.head_timeout.map(|span| span.0),
        &path.key("head-timeout"),
        "with 0, no client could send a request in time: give one such as \"30s\"",
        report,
    );
    let max_connections = above_zero(
        raw.max_connections,
        &path.key("max-connections"),
        "with 0, no client could come in: leave it out for the default",
        report,
    );
    let max_streams = above_zero(
        raw.max_streams,
        &path.key("max-streams"),
        "with 0, no client could ask anything: leave it out for the default",
        report,
    );
    let kind = match raw.kind? {
        RawListenerKind::Direct => ListenerKind::Direct,
        RawListenerKind::Mirror => ListenerKind::Mirror,
    };
    let tls = raw.tls.as_ref().and_then(|raw| tls::resolve(raw, &path.key("tls"), report));
    let defaults = ListenerConfig::new(raw.address?, kind);
    Some(ListenerConfig {
        default_upstream: default_upstream.unwrap_or_else(Registry::docker_io),
        allow_from,
        share_private: raw.share_private.unwrap_or(false),
        tls,
        head_timeout: head_timeout.unwrap_or(defaults.head_timeout),
        max_connections: max_connections.unwrap_or(defaults.max_connections),
        max_connections_per_client: raw.max_connections_per_client.unwrap_or(0),
        max_streams: max_streams.unwrap_or(defaults.max_streams),
        ..defaults
    })
}

/// A number that must not be 0, or what 0 would mean.
fn above_zero<T: Copy + Default + PartialEq>(
    written: Option<T>,
    path: &KeyPath,
    what: &str,
    report: &mut Report<'_>,
) -> Option<T> {
    if written == Some(T::default()) {
        report.add(path, what);
    }
    written
}

fn default_upstream(
    raw: &RawListener,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Option<Registry> {
    let written = raw.default_upstream.as_deref()?;
    if let Some(RawListenerKind::Direct) = raw.kind {
        let message = "only a mirror listener has one; through a direct one, references name \
                       their registry";
        report.add(path, message);
    }
    written.parse().map_err(|error| report.add(path, format!("{written:?}: {error}"))).ok()
}

fn networks(written: &[String], path: &KeyPath, report: &mut Report<'_>) -> Vec<(IpAddr, u8)> {
    let mut networks = Vec::new();
    for (index, text) in written.iter().enumerate() {
        match network(text) {
            Ok(network) => networks.push(network),
            Err(message) => report.add(&path.at(index), message),
        }
    }
    networks
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let spoils = || format!("{text:?} is no network: write one such as \"10.0.0.0/8\"");
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = address.parse().map_err(|_| spoils())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix: u8 = prefix.map_or(Ok(bits), str::parse).map_err(|_| spoils())?;
    if prefix > bits {
        return Err(spoils());
    }
    let first = masked(address, prefix);
    if first != address {
        return Err(format!("{text:?} has bits after its prefix: write \"{first}/{prefix}\""));
    }
    Ok((address, prefix))
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() != 0
        && one.port() == other.port()
        && (a == b || a.is_unspecified() || b.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_with_a_prefix() {
        assert_eq!(network("10.0.0.0/8"), Ok(("10.0.0.0".parse().unwrap(), 8)));
        assert_eq!(network("0.0.0.0/0"), Ok(("0.0.0.0".parse().unwrap(), 0)));
        assert_eq!(network("::/0"), Ok(("::".parse().unwrap(), 0)));
        assert_eq!(network("10.1.2.3"), Ok(("10.1.2.3".parse().unwrap(), 32)));
        assert_eq!(network("fd00::/8"), Ok(("fd00::".parse().unwrap(), 8)));
        assert!(network("10.0.0.7/8").unwrap_err().contains("write \"10.0.0.0/8\""));
        for text in ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0/8"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
