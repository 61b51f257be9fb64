//! Finds upstreams by registry name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntCounter;

use super::ask::{Observers, Upstream};
use super::builtin::BuiltIn;
use super::client::Observer;
use super::limit::LimitObserver;
use super::proxy::Proxy;
use super::rate::Meter;
use super::setup::{Setup, SetupProblem, Shared, UpstreamSetupError};
use super::tls::Trust;
use super::token::Tokens;
use crate::config::{Credentials, UpstreamConfig};
use crate::oci::Registry;

/// Clients of so many registries are kept; names come from whoever asks, and patterns have many.
const MAX_KEPT: usize = 256;

/// Finds upstreams by registry name: the configured ones, and those that are known without
/// configuration. Rebuilt on a reload.
///
/// A registry's name is looked up here and never dialled: what is unknown is not asked.
pub struct Upstreams {
    configured: BTreeMap<Registry, Setup>,
    shared: Shared,
    tokens: Tokens,
    observers: Observers,
    kept: Mutex<HashMap<Registry, Arc<Upstream>>>,
}

impl Upstreams {
    /// Checks the configured upstreams and reads the environment's proxies.
    pub fn new(
        configured: &BTreeMap<Registry, UpstreamConfig>,
    ) -> Result<Self, UpstreamSetupError> {
        let environment = Proxy::from_environment().ok_or_else(|| UpstreamSetupError {
            registry: Registry::docker_io(),
            problem: SetupProblem::SpoilsProxy,
        })?;
        let shared =
            Shared { environment: Arc::new(environment), system: Arc::new(Trust::system()) };
        let configured = configured
            .iter()
            .map(|(name, config)| Ok((name.clone(), Setup::configured(name, config, &shared)?)))
            .collect::<Result<_, UpstreamSetupError>>()?;
        Ok(Self {
            configured,
            shared,
            tokens: Tokens::new(),
            observers: Observers {
                requests: Arc::new(|_, _, _| {}),
                meter: Arc::new(|_| {
                    IntCounter::new("uncounted", "not registered").expect("a valid name")
                }),
                limits: Arc::new(|_, _, _| {}),
            },
            kept: Mutex::default(),
        })
    }

    /// The same upstreams, with somebody who is told of every request.
    #[must_use]
    pub fn with_observer(self, observer: Observer) -> Self {
        let observers = Observers { requests: observer, ..self.observers };
        Self { observers, kept: Mutex::default(), ..self }
    }

    /// The same upstreams, which count the bytes of their bodies.
    #[must_use]
    pub fn with_meter(self, meter: Meter) -> Self {
        let observers = Observers { meter, ..self.observers };
        Self { observers, kept: Mutex::default(), ..self }
    }

    /// The same upstreams, with somebody who is told what they say of their limits.
    #[must_use]
    pub fn with_limits(self, limits: LimitObserver) -> Self {
        let observers = Observers { limits, ..self.observers };
        Self { observers, kept: Mutex::default(), ..self }
    }

    /// What metrics and bounds call an upstream: a name that only a built-in pattern knows is the
    /// client's choice, and all of these are one.
    pub fn label<'a>(&self, name: &'a Registry) -> &'a str {
        let known = BuiltIn::find(name).filter(|_| !self.configured.contains_key(name));
        known.map_or(name.as_str(), |known| known.pattern)
    }

    /// Whether a configured upstream is asked with these credentials.
    pub fn any_takes(&self, credentials: &Credentials) -> bool {
        self.configured.values().any(|setup| setup.config.credentials == *credentials)
    }

    /// The upstream of this name; `None`: nobody knows it.
    pub fn locate(&self, registry: &Registry) -> Option<Arc<Upstream>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upstream) = kept.get(registry) {
            return Some(upstream.clone());
        }
        let configured = self.configured.get(registry).cloned();
        let setup = configured.or_else(|| Setup::built_in(registry, &self.shared))?;
        let upstream = Arc::new(Upstream::new(
            registry.clone(),
            setup,
            self.tokens.clone(),
            self.observers.clone(),
        ));
        if kept.len() >= MAX_KEPT {
            // Any that came by a pattern: its client is rebuilt when it is asked for again.
            let other = kept.keys().find(|name| !self.configured.contains_key(name)).cloned();
            other.and_then(|name| kept.remove(&name));
        }
        kept.insert(registry.clone(), upstream.clone());
        Some(upstream)
    }
}
