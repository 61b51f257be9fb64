//! Configuration: as written (`raw`), then valid (`resolved`), with every problem at once.

pub mod certificate;
mod document;
mod environment;
pub mod load;
mod lock_file;
pub mod problem;
mod raw;
mod read;
mod resolve;
pub mod resolved;
mod secret_file;

pub use load::{Sources, load};
pub use lock_file::{LockFault, read_lock};
pub use problem::{ConfigError, Place, Problem};
pub use resolved::{
    AdminConfig, CacheConfig, Config, Credentials, Durability, HEAD_TIMEOUT, JournalConfig,
    LedgerKind, ListenerConfig, ListenerKind, ListenerTls, LockConfig, MAX_CONNECTIONS,
    MAX_STREAMS, Retention, UpstreamConfig, WebhookConfig, WebhookFormat, reachable,
};
