//! The clients that people set to immutag, and where they find it: what `setup` writes and `doctor`
//! looks for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::ValueEnum;
use serde::Serialize;

use crate::config::{Config, ListenerConfig, ListenerKind};

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

/// An address that a client on this host can use.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
    }
    address
}
