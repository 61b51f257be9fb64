//! Upstreams: the registries that we may ask, and everything that is between us and them.
//!
//! A request runs down one line ([`Upstream::ask`]): a place among the connections, an
//! authorization (challenge, token, cache), the address guard, an outbound proxy, TLS, redirects,
//! retries, and back up as an [`Answer`] whose [`Body`] is pulled. What an upstream says steers
//! none of it beyond the rules of the design, section 7: credentials go to the upstream's own
//! origin and its token realm, connections to public addresses, unless the configuration says
//! otherwise. Every read is bounded in size and time.

mod answer;
mod ask;
mod body;
mod breaker;
mod builtin;
mod challenge;
mod client;
mod connect;
mod credential;
mod error;
mod guard;
mod limit;
mod locate;
mod proxy;
mod rate;
mod retry;
mod setup;
mod tls;
mod token;
mod url;

pub use answer::{Answer, Ask, Method, Resource};
pub use ask::Upstream;
pub use body::Body;
pub use builtin::{BUILT_IN, BuiltIn};
pub use client::Observer;
pub use credential::{ClientCredential, CredentialKey};
pub use error::{TlsFault, Unavailability, UpstreamError};
pub use guard::{Guard, Host, Reach, reach, read_host};
pub use limit::LimitObserver;
pub use locate::Upstreams;
pub use rate::Meter;
pub use setup::{SetupProblem, UpstreamSetupError};

// What webhooks are reached by, too: one guard, one trust, one way out.
pub(crate) use connect::{ConnectFault, Connector, Way, find_fault};
pub(crate) use proxy::Proxy;
pub(crate) use retry::read_retry_after;
pub(crate) use tls::Trust;
pub(crate) use url::Url;

#[cfg(test)]
mod tests;
