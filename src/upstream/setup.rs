//! An upstream's configuration, checked once, in the form in which it is used.

use std::path::PathBuf;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use thiserror::Error;

use super::builtin::BuiltIn;
use super::connect::Way;
use super::guard::Guard;
use super::proxy::Proxy;
use super::tls::Trust;
use super::url::{Origin, Url};
use crate::config::{Credentials, UpstreamConfig};
use crate::oci::{Registry, Repository};

/// A configured upstream that cannot be used.
#[derive(Debug, Error)]
#[error("upstream {registry}: {problem}")]
pub struct UpstreamSetupError {
    /// The registry's name.
    pub registry: Registry,
    /// What is wrong with it.
    #[source]
    pub problem: SetupProblem,
}

/// What is wrong with an upstream's configuration.
#[derive(Debug, Error)]
pub enum SetupProblem {
    /// The address of `url` is not allowed.
    #[error("url names a private address; set allow-private = true if that is intended")]
    LacksAllowPrivate,
    /// The `url` is http.
    #[error("url is http; set plain-http = true if that is intended")]
    LacksPlainHttp,
    /// The `ca-file` cannot be read.
    #[error("ca-file {} cannot be read", path.display())]
    LosesCaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The `url` is not an origin.
    #[error("url must be https://host[:port], without a path")]
    SpoilsUrl,
    /// An entry of `auth-hosts` is no host.
    #[error("auth-hosts: \"{0}\" is not host[:port]")]
    SpoilsAuthHost(String),
    /// The `ca-file` holds no certificate, or one that is not valid.
    #[error("ca-file {} holds no usable PEM certificate", .0.display())]
    SpoilsCaFile(PathBuf),
    /// The proxy, or one of the environment's, cannot be used. Its text may hold a password.
    #[error(
        "the outbound proxy (proxy, or HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) must be http://host:port or https://host:port"
    )]
    SpoilsProxy,
    /// The URL of a webhook cannot be used. It is not shown.
    #[error("url must be https://host[:port]/path, without a user")]
    SpoilsWebhook,
    /// An entry of `repositories` is no glob.
    #[error("repositories: \"{0}\" is not a glob")]
    SpoilsRepositories(String),
}

/// An upstream's configuration, checked.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) config: UpstreamConfig,
    pub(crate) origin: Origin,
    pub(crate) auth_hosts: Vec<String>,
    pub(crate) guard: Guard,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) trust: Arc<Trust>,
    repositories: Option<GlobSet>,
}

/// What all upstreams share.
pub(crate) struct Shared {
    pub(crate) environment: Arc<Proxy>,
    pub(crate) system: Arc<Trust>,
}

impl Setup {
    /// Checks a user's upstream. One of a built-in name keeps the built-in token hosts.
    pub(crate) fn configured(
        registry: &Registry,
        config: &UpstreamConfig,
        shared: &Shared,
    ) -> Result<Self, UpstreamSetupError> {
        Self::check(BuiltIn::find(registry), registry, config.clone(), shared)
            .map_err(|problem| UpstreamSetupError { registry: registry.clone(), problem })
    }

    /// The set-up of a registry that is known without configuration.
    pub(crate) fn built_in(registry: &Registry, shared: &Shared) -> Option<Self> {
        let known = BuiltIn::find(registry)?;
        Self::check(Some(known), registry, known.config(registry), shared).ok()
    }

    fn check(
        known: Option<&BuiltIn>,
        registry: &Registry,
        mut config: UpstreamConfig,
        shared: &Shared,
    ) -> Result<Self, SetupProblem> {
        if let (Some(known), true) = (known, config.url.is_empty()) {
            config.url = known.config(registry).url;
        }
        let guard = Guard { allow_private: config.allow_private };
        let origin = check_origin(&config, guard)?;
        let known_hosts = known.map_or(&[][..], |known| known.auth_hosts);
        let auth_hosts = known_hosts.iter().map(ToString::to_string);
        let auth_hosts: Vec<String> = auth_hosts.chain(config.auth_hosts.clone()).collect();
        for host in &auth_hosts {
            let url = Url::parse(&format!("https://{host}"));
            if host.contains('/') || url.is_none() {
                return Err(SetupProblem::SpoilsAuthHost(host.clone()));
            }
        }
        let proxy = match &config.proxy {
            None => shared.environment.clone(),
            Some(text) => Arc::new(Proxy::fixed(text).ok_or(SetupProblem::SpoilsProxy)?),
        };
        let trust = match &config.ca_file {
            None => shared.system.clone(),
            Some(path) => Arc::new(Trust::with_file(path)?),
        };
        let repositories = check_globs(&config.repositories)?;
        Ok(Self { config, origin, auth_hosts, guard, proxy, trust, repositories })
    }

    /// How connections are made.
    pub(crate) fn way(&self) -> Way {
        Way {
            guard: self.guard,
            proxy: self.proxy.clone(),
            trust: self.trust.clone(),
            timeout: self.config.connect_timeout,
        }
    }

    /// Whether a token realm may be at this place.
    pub(crate) fn allows_realm(&self, realm: &Origin) -> bool {
        let is_own = *realm == self.origin;
        let is_secure = realm.is_https() || self.config.plain_http;
        is_secure && (is_own || self.auth_hosts.iter().any(|place| realm.is_at(place)))
    }

    /// Whether our own credentials go with requests for this repository.
    pub(crate) fn covers(&self, repository: &Repository) -> bool {
        matches!(self.config.credentials, Credentials::Own { .. })
            && self.repositories.as_ref().is_none_or(|globs| globs.is_match(repository.as_str()))
    }
}

fn check_origin(config: &UpstreamConfig, guard: Guard) -> Result<Origin, SetupProblem> {
    let url = Url::parse(&config.url).ok_or(SetupProblem::SpoilsUrl)?;
    if url.uri().path() != "/" || url.uri().query().is_some() {
        return Err(SetupProblem::SpoilsUrl);
    }
    let origin = url.origin().clone();
    if !origin.is_https() && !config.plain_http {
        return Err(SetupProblem::LacksPlainHttp);
    }
    if !guard.allows_host(origin.host()) {
        return Err(SetupProblem::LacksAllowPrivate);
    }
    Ok(origin)
}

fn check_globs(globs: &[String]) -> Result<Option<GlobSet>, SetupProblem> {
    let mut set = GlobSetBuilder::new();
    for text in globs {
        let spoilt = |_| SetupProblem::SpoilsRepositories(text.clone());
        set.add(GlobBuilder::new(text).literal_separator(true).build().map_err(spoilt)?);
    }
    let too_large = |_| SetupProblem::SpoilsRepositories(globs.join(", "));
    if globs.is_empty() { Ok(None) } else { set.build().map(Some).map_err(too_large) }
}
