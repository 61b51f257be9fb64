//! The configuration as it is written. The manual for every key is `config/immutag.toml`.
//!
//! Every field is optional here: what a missing one means, and whether it may be missing, is said
//! by `resolve`, which can name the line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use super::resolved::{LedgerKind, WebhookFormat};
use crate::policy::Reaction;
use crate::secret::Secret;
use crate::triage::Severity;
use crate::units::{ByteSize, DiskSize, Percent, Span};

/// Everything that can be written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawConfig {
    /// Where ledger, held content, cache and anchor are.
    pub(super) data_dir: Option<PathBuf>,
    /// How long recorded tags get the last verified answer while their upstream fails; 0: not.
    pub(super) stale_if_error: Option<Span>,
    /// Ask no upstream; pinned and cached content goes on.
    pub(super) offline: Option<bool>,
    /// Whether the built-in rules follow the user's.
    pub(super) builtin_rules: Option<bool>,
    /// How long SIGTERM waits for running pulls.
    pub(super) drain: Option<Span>,
    /// Where clients come in.
    pub(super) listener: Option<Vec<RawListener>>,
    /// Metrics and health.
    pub(super) admin: RawAdmin,
    /// The watch over what upstreams answer.
    pub(super) audit: RawAudit,
    /// Who pulled what.
    pub(super) journal: RawJournal,
    /// The ledger.
    pub(super) ledger: RawLedger,
    /// The lock file.
    pub(super) lock: RawLock,
    /// The cache.
    pub(super) cache: RawCache,
    /// Which tags are immutable, and what happens on a conflict.
    pub(super) rule: Vec<RawRule>,
    /// Registries that we may ask, by the name that references carry.
    pub(super) upstream: BTreeMap<String, RawUpstream>,
    /// Whom events are told.
    pub(super) webhook: Vec<RawWebhook>,
}

/// `[[listener]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawListener {
    /// Address and port; port 0 takes any that is free.
    pub(super) address: Option<SocketAddr>,
    /// What it speaks.
    pub(super) kind: Option<RawListenerKind>,
    /// `mirror` only: the registry of requests that name none.
    pub(super) default_upstream: Option<String>,
    /// Networks of clients; others are refused.
    pub(super) allow_from: Vec<String>,
    /// Whoever reaches the listener may read what our own credentials can.
    pub(super) share_private: Option<bool>,
    /// The certificate that it shows; missing: it speaks plain HTTP.
    pub(super) tls: Option<RawListenerTls>,
    /// Connections served at once.
    pub(super) max_connections: Option<usize>,
    /// Connections served at once that come from one address; 0: as many as there are.
    pub(super) max_connections_per_client: Option<usize>,
    /// HTTP/2 only: requests that one connection may have open at once.
    pub(super) max_streams: Option<u32>,
    /// Time for a TLS handshake, and for a request's head.
    pub(super) head_timeout: Option<Span>,
}

/// `listener.tls`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawListenerTls {
    /// The certificate and those between it and its authority, as PEM.
    pub(super) cert_file: Option<PathBuf>,
    /// Its private key, as PEM.
    pub(super) key_file: Option<PathBuf>,
}

/// `listener.kind`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawListenerKind {
    /// Explicit references, by path prefix.
    Direct,
    /// A registry mirror.
    Mirror,
}

/// `[admin]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawAdmin {
    /// Address and port.
    pub(super) address: Option<SocketAddr>,
    /// Host names, beside addresses and localhost, under which it may be asked.
    pub(super) hosts: Vec<String>,
}

/// `[audit]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawAudit {
    /// How often each tag is asked for again; 0: never.
    pub(super) interval: Option<Span>,
}

/// `[journal]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawJournal {
    /// How long it is kept; 0: none is written.
    pub(super) keep: Option<Span>,
    /// The most that it may take.
    pub(super) max_size: Option<ByteSize>,
}

/// `[ledger]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLedger {
    /// The only ledger id to start with.
    pub(super) expect: Option<String>,
    /// Where it is kept.
    pub(super) store: Option<LedgerKind>,
}

/// `[lock]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLock {
    /// The file.
    pub(super) file: Option<PathBuf>,
    /// Refuse what is not in it.
    pub(super) locked: Option<bool>,
}

/// `[cache]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCache {
    /// The most that stored content may take.
    pub(super) max_size: Option<DiskSize>,
    /// Nothing is cached while the disk has less free space than this.
    pub(super) min_free: Option<DiskSize>,
    /// What is synced to the disk before it counts as stored.
    pub(super) durable: Option<RawDurable>,
    /// What is kept of what a pin needs.
    pub(super) retain: Option<RawRetain>,
    /// How long held content stays without a pull.
    pub(super) retain_idle: Option<Span>,
    /// Within what time all stored content is hashed again; 0: never.
    pub(super) scrub: Option<Span>,
    /// How many blobs are fetched at once.
    pub(super) max_fills: Option<usize>,
    /// What share of a blob must be here for its fetch to go on without a reader.
    pub(super) finish_from: Option<Percent>,
}

/// `cache.durable`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawDurable {
    /// Everything.
    All,
    /// What pins need.
    Held,
    /// Nothing.
    None,
}

/// `cache.retain`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawRetain {
    /// Everything that the pin leads to.
    AllPlatforms,
    /// What clients have pulled.
    Pulled,
}

/// `[[rule]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawRule {
    /// Glob for the registry.
    pub(super) registry: Option<String>,
    /// Glob for the repository.
    pub(super) repository: Option<String>,
    /// Which tags.
    pub(super) tag: Option<RawTag>,
    /// The reaction.
    pub(super) on_conflict: Option<Reaction>,
    /// `hold` only: follow when the new digest has stood unchanged this long.
    pub(super) accept_after: Option<Span>,
    /// How long a tag that was never seen must have stood before it is served.
    pub(super) min_age: Option<Span>,
    /// How long after first sight an index may still gain platforms.
    pub(super) settle: Option<Span>,
    /// How old an upstream's answer may be.
    pub(super) recheck: Option<Span>,
    /// Also tags that are mutable by specification.
    pub(super) include_referrers: Option<bool>,
}

/// `rule.tag`: exactly one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawTag {
    /// A form of version.
    pub(super) version: Option<RawVersion>,
    /// A glob.
    pub(super) glob: Option<String>,
    /// A regular expression for the whole tag.
    pub(super) regex: Option<String>,
    /// Endings.
    pub(super) suffix: Option<Vec<String>>,
}

/// `rule.tag.version`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawVersion {
    /// Three numbers or more.
    Full,
    /// One or two numbers.
    Partial,
}

/// `[upstream."host"]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawUpstream {
    /// The origin.
    pub(super) url: Option<String>,
    /// Http is allowed.
    pub(super) plain_http: Option<bool>,
    /// Private and loopback addresses are allowed.
    pub(super) allow_private: Option<bool>,
    /// PEM certificates to trust besides the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// The outbound proxy; empty: none; missing: from the environment.
    pub(super) proxy: Option<String>,
    /// Whose credentials it is asked with.
    pub(super) credentials: Option<RawCredentials>,
    /// With own credentials: the user name.
    pub(super) username: Option<String>,
    /// With own credentials: the password, in `IMMUTAG__UPSTREAM` only.
    pub(super) password: Option<RawSecret>,
    /// With own credentials: a file that holds the password.
    pub(super) password_file: Option<PathBuf>,
    /// With own credentials: a Docker config.json that holds them or names a helper.
    pub(super) docker_config: Option<PathBuf>,
    /// Hosts, besides its own, to which its token realm may point.
    pub(super) auth_hosts: Vec<String>,
    /// With own credentials: only these repositories.
    pub(super) repositories: Vec<String>,
    /// Time for connecting, TLS included.
    pub(super) connect_timeout: Option<Span>,
    /// Time from the request to the answer's header.
    pub(super) header_timeout: Option<Span>,
    /// Time without a byte of a body.
    pub(super) body_idle_timeout: Option<Span>,
    /// Requests and bodies under way at once.
    pub(super) max_connections: Option<usize>,
    /// How many tags that were never seen are taken in an hour; 0: as many as come.
    pub(super) max_new_tags_per_hour: Option<u32>,
    /// How fast its bodies are read, all together; 0: as fast as they come.
    pub(super) max_bytes_per_second: Option<ByteSize>,
}

/// `upstream.credentials`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawCredentials {
    /// The client's.
    Client,
    /// Nobody's.
    None,
    /// Ours.
    Own,
}

/// `[[webhook]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawWebhook {
    /// Its name.
    pub(super) name: Option<String>,
    /// Where messages are sent.
    pub(super) url: Option<RawSecret>,
    /// A file that holds the URL.
    pub(super) url_file: Option<PathBuf>,
    /// What a message looks like.
    pub(super) format: Option<WebhookFormat>,
    /// A file that holds the keys for signatures.
    pub(super) secret_file: Option<PathBuf>,
    /// Messages are not signed.
    pub(super) unsigned: Option<bool>,
    /// The kinds of events that are told.
    pub(super) events: Option<Vec<String>>,
    /// What is less severe is not told.
    pub(super) min_severity: Option<Severity>,
    /// Http is allowed.
    pub(super) plain_http: Option<bool>,
    /// Private and loopback addresses are allowed.
    pub(super) allow_private: Option<bool>,
    /// PEM certificates to trust besides the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// The outbound proxy; empty: none; missing: from the environment.
    pub(super) proxy: Option<String>,
    /// How long one try may take.
    pub(super) timeout: Option<Span>,
}

/// A secret whose errors do not quote it.
#[derive(Debug)]
pub(super) struct RawSecret(pub(super) Secret);

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;
        impl Visitor<'_> for SecretVisitor {
            type Value = RawSecret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawSecret, E> {
                Ok(RawSecret(Secret::new(text.to_owned())))
            }
        }
        deserializer.deserialize_any(SecretVisitor)
    }
}
