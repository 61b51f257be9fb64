//! The name of an image, without what a client puts in front of it to reach a proxy.

use anyhow::Context as _;

use crate::config::{ListenerConfig, ListenerKind};
use crate::oci::{Reference, Registry};

/// Reads a name; where its registry is a direct listener of ours, or one of `proxies`, what stands
/// behind that is the name.
pub(super) fn read(
    name: &str,
    listeners: &[ListenerConfig],
    proxies: &[Registry],
) -> anyhow::Result<Reference> {
    let reference: Reference = name.parse().context("the name is no reference")?;
    let is_ours = proxies.contains(&reference.registry)
        || listeners.iter().any(|listener| is_at(listener, &reference.registry));
    match name.split_once('/') {
        Some((_, rest)) if is_ours && begins_with_registry(rest) => {
            rest.parse().context("the name behind the proxy's is no reference")
        }
        _ => Ok(reference),
    }
}

/// Whether references that name this registry go to the listener.
fn is_at(listener: &ListenerConfig, registry: &Registry) -> bool {
    let address = listener.address;
    let port = address.port();
    let is_local = address.ip().is_loopback() || address.ip().is_unspecified();
    let locals = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("{host}:{port}"));
    listener.kind == ListenerKind::Direct
        && (registry.as_str() == address.to_string()
            || is_local && locals.iter().any(|local| local == registry.as_str()))
}

fn begins_with_registry(path: &str) -> bool {
    let first = path.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| first == "localhost" || first.contains(['.', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn a_proxys_name_in_front_is_left_out_and_nothing_else_is() {
        let config =
            load(Sources { data_dir: Some("/nowhere".into()), ..Sources::default() }).unwrap();
        let proxies = ["mirror.example".parse().unwrap()];
        for (name, expected) in [
            ("docker.io/library/alpine:3.19", "docker.io/library/alpine:3.19"),
            ("127.0.0.1:5051/docker.io/library/alpine:3.19", "docker.io/library/alpine:3.19"),
            ("localhost:5051/ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("mirror.example/localhost/b:1", "localhost/b:1"),
            ("mirror.example/quay.io/a/b", "quay.io/a/b"),
            // The mirror listener takes no such names, and this one names no registry.
            ("127.0.0.1:5050/docker.io/a/b:1", "127.0.0.1:5050/docker.io/a/b:1"),
            ("127.0.0.1:5051/alpine:1", "127.0.0.1:5051/alpine:1"),
            ("other.example/docker.io/a:1", "other.example/docker.io/a:1"),
        ] {
            let read = read(name, &config.listeners, &proxies).unwrap();
            assert_eq!(read, expected.parse().unwrap(), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_an_error() {
        for name in ["", "-x", "a b:1", "a\u{1b}[2J:1", "A/B:1", "x:1@sha256:0", "a/../b:1"] {
            assert!(read(name, &[], &[]).is_err(), "{name:?}");
        }
    }
}
