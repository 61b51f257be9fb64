//! What can be said on the command line about a client's settings.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};

use super::options::{Options, Pushes, Scope, Target};
use crate::cli::clients::{DockerStore, Endpoint, Endpoints, Version};
use crate::config::Config;
use crate::oci::Registry;
use crate::upstream::BuiltIn;

/// What every client takes.
#[derive(Debug, Args)]
pub(super) struct ClientArgs {
    /// Where the client reaches the mirror listener [default: as configured, on this host]
    #[arg(long, value_name = "URL")]
    mirror: Option<Endpoint>,
    /// Where the client reaches the direct listener [default: as configured, on this host]
    #[arg(long, value_name = "URL")]
    direct: Option<Endpoint>,
    /// The CA certificate that the client must trust, where a listener's is a private one's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A registry to pull through immutag; `*` for every one that is not named; may be repeated
    /// [default: docker.io and the configured upstreams]
    #[arg(long, value_name = "NAME", value_parser = parse_scope)]
    registry: Vec<Scope>,
}

/// What containerd takes besides.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub(super) struct ContainerdArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The version of containerd [default: the installed one's]
    #[arg(id = "client-version", long = "version", value_name = "VERSION")]
    pub(super) version: Option<Version>,
    /// Where hosts.toml files are
    #[arg(long, value_name = "DIR", default_value = "/etc/containerd/certs.d")]
    hosts_dir: String,
    /// Where pushes go: to the registry itself, or nowhere
    #[arg(long, value_enum, default_value_t)]
    pushes: PushesArg,
}

/// What Docker takes besides.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub(super) struct DockerArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The version of Docker Engine [default: the installed one's]
    #[arg(id = "client-version", long = "version", value_name = "VERSION")]
    pub(super) version: Option<Version>,
    /// Docker's image store [default: the running daemon's]
    #[arg(long, value_enum)]
    pub(super) store: Option<DockerStore>,
    /// Containerd store: where pushes go, to the registry itself or nowhere
    #[arg(long, value_enum, default_value_t)]
    pushes: PushesArg,
}

/// Where pushes go.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum PushesArg {
    #[default]
    Direct,
    Refused,
}

impl ClientArgs {
    /// What the settings are made from.
    pub(super) fn options(&self, config: &Config) -> anyhow::Result<Options> {
        let configured = Endpoints::of(config);
        Ok(Options {
            endpoints: Endpoints {
                direct: self.direct.clone().or(configured.direct),
                mirror: self.mirror.clone().or(configured.mirror),
            },
            targets: targets(&self.registry, config),
            ca: self.ca_file.as_deref().map(read_ca).transpose()?,
            pushes: Pushes::Direct,
            hosts_dir: String::new(),
        })
    }
}

impl ContainerdArgs {
    pub(super) fn options(&self, config: &Config) -> anyhow::Result<Options> {
        let is_absolute = self.hosts_dir.starts_with('/') && !self.hosts_dir.contains(':');
        ensure!(is_absolute, "--hosts-dir is one absolute path, without a colon");
        let hosts_dir = self.hosts_dir.trim_end_matches('/').to_owned();
        Ok(Options { pushes: self.pushes.into(), hosts_dir, ..self.client.options(config)? })
    }
}

impl DockerArgs {
    pub(super) fn options(&self, config: &Config) -> anyhow::Result<Options> {
        let hosts_dir = "/etc/docker/certs.d".to_owned();
        Ok(Options { pushes: self.pushes.into(), hosts_dir, ..self.client.options(config)? })
    }
}

impl From<PushesArg> for Pushes {
    fn from(arg: PushesArg) -> Self {
        match arg {
            PushesArg::Direct => Self::Direct,
            PushesArg::Refused => Self::Refused,
        }
    }
}

/// The registries that were named, else docker.io and the configured upstreams; each once.
fn targets(named: &[Scope], config: &Config) -> Vec<Target> {
    let docker_io = Registry::docker_io();
    let by_default =
        [&docker_io].into_iter().chain(config.upstreams.keys().filter(|name| **name != docker_io));
    let by_default: Vec<_> = by_default.cloned().map(Scope::Named).collect();
    let mut scopes = if named.is_empty() { by_default } else { named.to_vec() };
    let mut seen = std::collections::BTreeSet::new();
    scopes.retain(|scope| seen.insert(scope.clone()));
    let origin = |scope: &Scope| match scope {
        Scope::Every => None,
        Scope::Named(name) => Some(origin(name, config)),
    };
    scopes.into_iter().map(|scope| Target { origin: origin(&scope), scope }).collect()
}

/// Where a registry itself is.
fn origin(name: &Registry, config: &Config) -> String {
    if let Some(upstream) = config.upstreams.get(name) {
        return upstream.url.clone();
    }
    let built_in = BuiltIn::find(name).map(|known| known.config(name).url);
    built_in.unwrap_or_else(|| format!("https://{name}"))
}

fn read_ca(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let pem = std::fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    let is_pem = pem.contains("-----BEGIN CERTIFICATE-----") && !pem.contains("PRIVATE KEY");
    ensure!(is_pem, "{name} is no CA certificate in PEM");
    Ok(format!("{}\n", pem.trim_end()))
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    if text == "*" {
        return Ok(Scope::Every);
    }
    text.parse().map(Scope::Named).map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_docker_io_and_the_upstreams_unless_they_are_named() {
        let mut config = Config::with_data_dir("/nowhere".into());
        let upstream = crate::config::UpstreamConfig::for_origin("http://10.0.0.7:5000".to_owned());
        config.upstreams.insert("registry.local".parse().unwrap(), upstream);
        let by_default = targets(&[], &config);
        let origins: Vec<_> = by_default.iter().map(|target| target.origin.as_deref()).collect();
        assert_eq!(origins, [Some("https://registry-1.docker.io"), Some("http://10.0.0.7:5000")]);
        let named = ["ghcr.io", "*", "GHCR.IO", "nowhere.example:5000"];
        let named: Vec<_> = named.map(|name| parse_scope(name).unwrap()).into();
        let named = targets(&named, &config);
        let origins: Vec<_> = named.iter().map(|target| target.origin.as_deref()).collect();
        let expected = [Some("https://ghcr.io"), None, Some("https://nowhere.example:5000")];
        assert_eq!(origins, expected);
    }
}
