//! Configuration: as written (`raw`), then valid (`resolved`), with every problem at once.

pub mod resolved;

pub use resolved::{
    AdminConfig, CacheConfig, Config, Credentials, ListenerConfig, ListenerKind, UpstreamConfig,
};
