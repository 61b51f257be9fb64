//! A configuration that is valid.

mod cache;
mod lock;
mod webhook;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::oci::Registry;
use crate::policy::Policy;
use crate::policy::builtin::builtin_rules;
use crate::secret::Secret;

pub use cache::{CacheConfig, Durability, Retention};
pub use lock::{LedgerKind, LockConfig};
pub use webhook::{WebhookConfig, WebhookFormat};

/// Everything that `serve` needs, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where ledger, held content, cache and anchor are.
    pub data_dir: PathBuf,
    /// How long recorded tags get the last verified answer while their upstream fails; 0: not.
    pub stale_if_error: Duration,
    /// Ask no upstream; pinned and cached content goes on.
    pub offline: bool,
    /// Where clients come in.
    pub listeners: Vec<ListenerConfig>,
    /// The admin listener.
    pub admin: AdminConfig,
    /// How often each tag is asked for again, whether it is pulled or not; 0: never.
    pub audit_interval: Duration,
    /// Who pulled what.
    pub journal: JournalConfig,
    /// The effective rules.
    pub policy: Policy,
    /// The user's upstreams by the name that references carry; the built-in ones are not here,
    /// unless the user changes one.
    pub upstreams: BTreeMap<Registry, UpstreamConfig>,
    /// Whom events are told.
    pub webhooks: Vec<WebhookConfig>,
    /// The cache.
    pub cache: CacheConfig,
    /// Where the ledger is kept.
    pub ledger: LedgerKind,
    /// The reviewed list of what may be pulled, if there is one.
    pub lock: Option<LockConfig>,
    /// `ledger.expect`: the only ledger id to start with.
    pub expected_ledger: Option<String>,
    /// How long SIGTERM waits for running pulls.
    pub drain: Duration,
}

impl Config {
    /// The defaults, with the built-in rules: what `serve` does on a machine without configuration.
    pub fn with_data_dir(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            stale_if_error: Duration::from_hours(24),
            offline: false,
            listeners: vec![
                ListenerConfig::new(loopback(5050), ListenerKind::Mirror),
                ListenerConfig::new(loopback(5051), ListenerKind::Direct),
            ],
            admin: AdminConfig { address: loopback(5052), hosts: Vec::new() },
            audit_interval: Duration::from_hours(24),
            journal: JournalConfig::default(),
            policy: Policy { rules: builtin_rules() },
            upstreams: BTreeMap::new(),
            webhooks: Vec::new(),
            cache: CacheConfig::default(),
            ledger: LedgerKind::File,
            lock: None,
            expected_ledger: None,
            drain: Duration::from_secs(30),
        }
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// How long a listener waits for a request's head, unless it is configured; the admin's always.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How many connections a listener serves at once, unless it is configured; the admin's always.
pub const MAX_CONNECTIONS: usize = 16_384;

/// How many requests an HTTP/2 connection may have open at once, unless it is configured.
pub const MAX_STREAMS: u32 = 32;

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub kind: ListenerKind,
    /// `mirror` only: the registry of requests that name none.
    pub default_upstream: Registry,
    /// Clients outside these networks are refused, as (address, prefix length); empty: none are.
    pub allow_from: Vec<(IpAddr, u8)>,
    /// Whoever reaches the listener may read what our own credentials can.
    pub share_private: bool,
    /// The certificate that it shows; `None`: it speaks plain HTTP.
    pub tls: Option<ListenerTls>,
    /// How long a client may take for a TLS handshake, for a request's head, or to come with its
    /// next request.
    pub head_timeout: Duration,
    /// Connections served at once; more wait to be accepted.
    pub max_connections: usize,
    /// Connections served at once that come from one address (of IPv6: from one /64 network);
    /// more are closed. 0: no bound.
    pub max_connections_per_client: usize,
    /// HTTP/2 only: requests that one connection may have open at once.
    pub max_streams: u32,
}

impl ListenerConfig {
    /// A listener that everybody who reaches it may use, with docker.io as default upstream.
    pub fn new(address: SocketAddr, kind: ListenerKind) -> Self {
        Self {
            address,
            kind,
            default_upstream: Registry::docker_io(),
            allow_from: Vec::new(),
            share_private: false,
            tls: None,
            head_timeout: HEAD_TIMEOUT,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_client: 0,
            max_streams: MAX_STREAMS,
        }
    }

    /// `https` or `http`.
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// An address that a client on this host can use for a listener at `address`.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return loopback(address.port());
    }
    address
}

/// The files of a listener's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The certificate and those between it and its authority, as PEM.
    pub cert_file: PathBuf,
    /// Its private key, as PEM.
    pub key_file: PathBuf,
}

/// What a listener speaks: design, "Ways in".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Explicit references, by path prefix.
    Direct,
    /// A registry mirror.
    Mirror,
}

impl ListenerKind {
    /// The name, as the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Mirror => "mirror",
        }
    }
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Host names, beside addresses and localhost, under which it may be asked.
    pub hosts: Vec<String>,
}

/// The journal of pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// How long it is kept; 0: none is written.
    pub keep: Duration,
    /// The most that it may take, in bytes.
    pub max_size_bytes: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { keep: Duration::from_hours(90 * 24), max_size_bytes: 1 << 30 }
    }
}

/// A registry that we may ask.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The origin, `https://host[:port]` or `http://host[:port]`, without a path.
    pub url: String,
    /// Http is allowed for it.
    pub plain_http: bool,
    /// Private and loopback addresses are allowed for it.
    pub allow_private: bool,
    /// PEM certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The outbound proxy; `None`: from the environment; `Some("")`: none.
    pub proxy: Option<String>,
    /// Whose credentials it is asked with.
    pub credentials: Credentials,
    /// Hosts, `host[:port]`, besides its own, to which its token realm may point.
    pub auth_hosts: Vec<String>,
    /// With our own credentials: only these repositories (globs); empty: all.
    pub repositories: Vec<String>,
    /// Time for connecting, TLS included.
    pub connect_timeout: Duration,
    /// Time from the request to the answer's header.
    pub header_timeout: Duration,
    /// Time without a byte of a body.
    pub body_idle_timeout: Duration,
    /// Requests and bodies under way at once; more wait.
    pub max_connections: usize,
    /// How many tags that were never seen are taken in an hour; 0: as many as come.
    pub max_new_tags_per_hour: u32,
    /// How fast its bodies are read, all together, in bytes a second; 0: as fast as they come.
    pub max_bytes_per_second: u64,
}

impl UpstreamConfig {
    /// An upstream at `url` (see [`UpstreamConfig::url`]) of which nothing else is said: anonymous,
    /// at public addresses, with the default time limits.
    pub fn for_origin(url: String) -> Self {
        Self {
            url,
            plain_http: false,
            allow_private: false,
            ca_file: None,
            proxy: None,
            credentials: Credentials::None,
            auth_hosts: Vec::new(),
            repositories: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_mins(1),
            max_connections: 64,
            max_new_tags_per_hour: 10_000,
            max_bytes_per_second: 0,
        }
    }
}

/// Whose credentials an upstream is asked with: design, section 7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The client's own, passed on (`direct` only; through a `mirror` listener as `None`).
    Client,
    /// Nobody's.
    None,
    /// Ours: user name and password (or token).
    Own {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
}
