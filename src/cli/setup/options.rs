//! What settings are made from, whatever the client.

use super::setting::{About, Merge, Refusal, Setting};
use crate::cli::clients::{Endpoint, Endpoints};
use crate::oci::Registry;

/// Where the CA certificate is put for clients that name its file.
pub(super) const CA_FILE: &str = "/etc/immutag/ca.crt";

/// What settings are made from.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) endpoints: Endpoints,
    pub(super) targets: Vec<Target>,
    /// The CA certificate that the client must trust, as PEM.
    pub(super) ca: Option<String>,
    pub(super) pushes: Pushes,
    /// Where hosts.toml files are, where the client has such.
    pub(super) hosts_dir: String,
}

/// A registry that is to be pulled through immutag.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) scope: Scope,
    /// Where the registry itself is, as a URL; `None` for every registry.
    pub(super) origin: Option<String>,
}

/// Which registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// All that are not named.
    Every,
    /// This one.
    Named(Registry),
}

/// Where pushes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushes {
    /// To the registry itself.
    Direct,
    /// Nowhere.
    Refused,
}

impl Options {
    /// The mirror listener.
    pub(super) fn mirror(&self) -> Result<&Endpoint, Refusal> {
        self.endpoints.mirror.as_ref().ok_or(Refusal::NeedsListener { kind: "mirror" })
    }

    /// The direct listener.
    pub(super) fn direct(&self) -> Result<&Endpoint, Refusal> {
        self.endpoints.direct.as_ref().ok_or(Refusal::NeedsListener { kind: "direct" })
    }

    /// The registries, for a client that has no words for all of them.
    pub(super) fn named(&self, client: &'static str) -> Result<Vec<&Registry>, Refusal> {
        if self.covers_every_registry() {
            return Err(Refusal::LacksWildcard { client });
        }
        Ok(self.targets.iter().filter_map(|target| target.scope.registry()).collect())
    }

    /// Whether every registry is meant, named or not.
    pub(super) fn covers_every_registry(&self) -> bool {
        self.targets.iter().any(|target| target.scope == Scope::Every)
    }

    /// Whether docker.io is among them, named or not.
    pub(super) fn covers_docker_io(&self) -> bool {
        let docker_io = Scope::Named(Registry::docker_io());
        self.covers_every_registry() || self.targets.iter().any(|it| it.scope == docker_io)
    }

    /// The registries' names, for words: `docker.io, ghcr.io`.
    pub(super) fn names(&self) -> String {
        let name = |target: &Target| match &target.scope {
            Scope::Every => "every other registry".to_owned(),
            Scope::Named(name) => name.to_string(),
        };
        self.targets.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// The path of the CA certificate in the client's settings for `endpoint`, if one is needed.
    /// Over plain http it would do harm: containerd tries TLS first where one is named.
    pub(super) fn ca_path(&self, endpoint: &Endpoint) -> Option<&'static str> {
        (endpoint.is_tls && self.ca.is_some()).then_some(CA_FILE)
    }

    /// Adds the CA certificate's file where [`Options::ca_path`] names it.
    pub(super) fn put_ca(&self, endpoint: &Endpoint, setting: &mut Setting) {
        if let (Some(path), Some(pem)) = (self.ca_path(endpoint), &self.ca) {
            setting.file(path, pem.clone(), Merge::Certificates);
        }
        note_trust(endpoint, self.ca.is_some(), setting);
    }

    /// Adds the CA certificate's file at a path that the client looks into by itself.
    pub(super) fn put_ca_at(&self, path: String, endpoint: &Endpoint, setting: &mut Setting) {
        if let Some(pem) = self.ca.as_ref().filter(|_| endpoint.is_tls) {
            setting.file(path, pem.clone(), Merge::Certificates);
        }
        note_trust(endpoint, self.ca.is_some(), setting);
    }

    /// Says what is not covered because it is not named.
    pub(super) fn note_unnamed(&self, setting: &mut Setting) {
        if !self.covers_every_registry() {
            let names = self.names();
            let text = format!(
                "only what is named is covered ({names}): every other registry is asked directly. \
                 --registry takes the place of this list"
            );
            setting.note(About::Open, text);
        }
    }
}

fn note_trust(endpoint: &Endpoint, has_ca: bool, setting: &mut Setting) {
    if endpoint.is_tls && !has_ca {
        let text = format!(
            "the client must trust the certificate of {endpoint}, and it must be for that name: if \
             a private CA signed it, run this again with --ca-file"
        );
        setting.note(About::Then, text);
    } else if !endpoint.is_tls && !endpoint.is_loopback() {
        let text = format!(
            "{endpoint} is plain http through a network: whoever is between can change what is \
             pulled by tag. Give the listener TLS"
        );
        setting.note(About::Open, text);
    }
}

impl Scope {
    /// The registry, if it is one.
    pub(super) const fn registry(&self) -> Option<&Registry> {
        match self {
            Self::Every => None,
            Self::Named(name) => Some(name),
        }
    }

    /// The names under which clients look the registry up. They know docker.io also by its host,
    /// which is another registry to them; `every` is their word for every registry.
    pub(super) fn names(&self, every: &'static str) -> Vec<&str> {
        match self {
            Self::Every => vec![every],
            Self::Named(name) => names_of(name),
        }
    }
}

/// The names under which clients look a registry up.
pub(super) fn names_of(registry: &Registry) -> Vec<&str> {
    match registry.as_str() {
        "docker.io" => vec!["docker.io", "registry-1.docker.io"],
        name => vec![name],
    }
}

#[cfg(test)]
pub(super) mod fixtures {
    use super::*;

    /// Options for docker.io and these registries, with the default listeners.
    pub(crate) fn options(more: &[&str]) -> Options {
        let endpoint = |port| Endpoint { is_tls: false, authority: format!("127.0.0.1:{port}") };
        let target = |name: &&str| {
            let origin = match *name {
                "*" => return Target { scope: Scope::Every, origin: None },
                "docker.io" => "registry-1.docker.io",
                name => name,
            };
            let scope = Scope::Named(name.parse().unwrap());
            Target { scope, origin: Some(format!("https://{origin}")) }
        };
        Options {
            endpoints: Endpoints { direct: Some(endpoint(5051)), mirror: Some(endpoint(5050)) },
            targets: ["docker.io"].iter().chain(more).map(target).collect(),
            ca: None,
            pushes: Pushes::Direct,
            hosts_dir: "/etc/containerd/certs.d".to_owned(),
        }
    }

    /// The same at another host with TLS by a private CA.
    pub(crate) fn private_options(more: &[&str]) -> Options {
        let endpoint = |port| Endpoint { is_tls: true, authority: format!("proxy.example:{port}") };
        let endpoints = Endpoints { direct: Some(endpoint(5051)), mirror: Some(endpoint(5050)) };
        let ca = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n".to_owned();
        Options { endpoints, ca: Some(ca), ..options(more) }
    }
}
