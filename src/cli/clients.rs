//! The clients that people set to immutag, and where they find it: what `setup` writes and `doctor`
//! looks for.

mod version;

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;

use crate::config::{Config, ListenerConfig, ListenerKind, reachable};
pub(super) use version::{Version, printed};

/// The plugin of containerd that has the settings of registries: in files of version 2, which
/// containerd 1 and 2 read, and of version 3 and later, which containerd 2 reads.
pub(super) const CRI_PLUGINS: [&str; 2] =
    ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"];

/// A client whose settings name immutag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ClientKind {
    Buildkit,
    Containerd,
    Crio,
    Docker,
    K3s,
    Podman,
    Rke2,
    Talos,
}

impl ClientKind {
    /// The name, as it is typed and printed.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Buildkit => "buildkit",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Docker => "docker",
            Self::K3s => "k3s",
            Self::Podman => "podman",
            Self::Rke2 => "rke2",
            Self::Talos => "talos",
        }
    }
}

/// Docker's image store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DockerStore {
    /// Docker's own, with storage drivers such as overlay2.
    Classic,
    /// containerd's, the default of new installations from 29 on.
    Containerd,
}

/// Where a listener is, as a client names it: `http://127.0.0.1:5050`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) is_tls: bool,
    /// `host:port`, or `host` where the port is the scheme's.
    pub(super) authority: String,
}

/// Where the listeners of a configuration are, the first of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) direct: Option<Endpoint>,
    pub(super) mirror: Option<Endpoint>,
}

impl Endpoint {
    fn of(listener: &ListenerConfig) -> Self {
        let authority = reachable(listener.address).to_string();
        Self { is_tls: listener.tls.is_some(), authority }
    }

    /// Whether it is on this host by its own words.
    pub(super) fn is_loopback(&self) -> bool {
        let port = self.authority.rfind(':').filter(|_| !self.authority.ends_with(']'));
        is_loopback(&self.authority[..port.unwrap_or(self.authority.len())])
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// Reads `http://host:port` or `https://host[:port]`. It goes into files of several syntaxes:
    /// nothing but what a host and a port are made of is taken.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted =
            || "a URL without a path is meant: http://host:port or https://host".to_owned();
        let uri: hyper::Uri = text.parse().map_err(|_| wanted())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wanted()),
        };
        let authority = uri.authority().ok_or_else(wanted)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ".-:[]_".contains(letter);
        let has_good_port =
            authority.host() == authority.as_str() || authority.port_u16().is_some();
        if !is_bare || !has_good_port || !authority.as_str().chars().all(is_plain) {
            return Err(wanted());
        }
        Ok(Self { is_tls, authority: authority.as_str().to_owned() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl Endpoints {
    /// Those of a configuration, as clients on this host reach them.
    pub(super) fn of(config: &Config) -> Self {
        let first =
            |kind| config.listeners.iter().find(|listener| listener.kind == kind).map(Endpoint::of);
        Self { direct: first(ListenerKind::Direct), mirror: first(ListenerKind::Mirror) }
    }
}

/// Whether a host's name or address is this host's own by its words.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

/// The directory of a registry's `hosts.toml` that is looked for first: with `host_port_` beside
/// it, `host:port` is not read.
pub(super) fn hosts_folder(registry: &str) -> String {
    match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => format!("{host}_{port}_"),
        _ => registry.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_and_an_authority() {
        for (text, expected) in [
            ("http://127.0.0.1:5050", Some("http://127.0.0.1:5050")),
            ("https://proxy.example/", Some("https://proxy.example")),
            ("https://[fd00::1]:5050", Some("https://[fd00::1]:5050")),
            ("https://[::1]", Some("https://[::1]")),
            ("proxy.example:5050", None),
            ("proxy.example", None),
            ("ftp://proxy.example", None),
            ("https://proxy.example/v2", None),
            ("https://user:word@proxy.example", None),
            ("https://proxy.example?x=1", None),
            ("https://proxy.example:99999", None),
            ("https://proxy.example:", None),
            ("https://", None),
            ("https://a\"b", None),
        ] {
            let found = text.parse::<Endpoint>().ok().map(|endpoint| endpoint.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_loopback_address_is_told_from_others() {
        for (authority, expected) in [
            ("127.0.0.1:5050", true),
            ("127.1.2.3", true),
            ("localhost:5050", true),
            ("[::1]:5050", true),
            ("[::1]", true),
            ("10.0.0.1:5050", false),
            ("localhost.example:5050", false),
            ("[fd00::1]:5050", false),
        ] {
            let endpoint = Endpoint { is_tls: false, authority: authority.to_owned() };
            assert_eq!(endpoint.is_loopback(), expected, "{authority}");
        }
    }
}
