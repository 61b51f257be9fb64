//! `[upstream."host"]`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Report, secrets};
use crate::config::problem::KeyPath;
use crate::config::raw::{RawCredentials, RawUpstream};
use crate::config::resolved::{Credentials, UpstreamConfig};
use crate::oci::Registry;
use crate::policy::matcher::Pattern;
use crate::secret::Secret;
use crate::units::Span;

/// The user's upstreams, by their canonical names.
pub(super) fn resolve(
    raw: BTreeMap<String, RawUpstream>,
    report: &mut Report<'_>,
) -> BTreeMap<Registry, UpstreamConfig> {
    let mut upstreams = BTreeMap::new();
    for (written, raw) in raw {
        let path = KeyPath::new("upstream").key(&written);
        let name: Registry = match written.parse() {
            Ok(name) => name,
            Err(error) => {
                report.add(&path, format!("it is named as references name it: {error}"));
                continue;
            }
        };
        let upstream = resolve_one(raw, &name, &path, report);
        if upstreams.insert(name.clone(), upstream).is_some() {
            report.add(&path, format!("{name} is there already, under another of its names"));
        }
    }
    upstreams
}

fn resolve_one(
    raw: RawUpstream,
    name: &Registry,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> UpstreamConfig {
    let defaults = UpstreamConfig::for_origin(default_origin(name));
    let mut limit = |key: &str, value: Option<Span>, default: Duration| {
        if value.is_some_and(|span| span.0.is_zero()) {
            report.add(&path.key(key), "it must be more than 0");
        }
        value.map_or(default, |span| span.0)
    };
    let connect_timeout = limit("connect-timeout", raw.connect_timeout, defaults.connect_timeout);
    let header_timeout = limit("header-timeout", raw.header_timeout, defaults.header_timeout);
    let body_idle_timeout =
        limit("body-idle-timeout", raw.body_idle_timeout, defaults.body_idle_timeout);
    if raw.max_connections == Some(0) {
        report.add(&path.key("max-connections"), "it must be more than 0");
    }
    check_hosts(&raw.auth_hosts, &path.key("auth-hosts"), report);
    check_repositories(&raw, path, report);
    UpstreamConfig {
        url: url(&raw, defaults.url, path, report),
        plain_http: raw.plain_http.unwrap_or(false),
        allow_private: raw.allow_private.unwrap_or(false),
        credentials: credentials(&raw, name, path, report),
        ca_file: ca_file(raw.ca_file.as_deref(), path, report),
        proxy: proxy(raw.proxy, &path.key("proxy"), report),
        auth_hosts: raw.auth_hosts,
        repositories: raw.repositories,
        connect_timeout,
        header_timeout,
        body_idle_timeout,
        max_connections: raw.max_connections.unwrap_or(defaults.max_connections),
        max_new_tags_per_hour: raw.max_new_tags_per_hour.unwrap_or(defaults.max_new_tags_per_hour),
        max_bytes_per_second: raw.max_bytes_per_second.map_or(0, |size| size.0),
    }
}

fn default_origin(name: &Registry) -> String {
    if *name == Registry::docker_io() {
        return "https://registry-1.docker.io".to_owned();
    }
    format!("https://{name}")
}

fn url(raw: &RawUpstream, default: String, path: &KeyPath, report: &mut Report<'_>) -> String {
    let key = path.key("url");
    let Some(written) = &raw.url else {
        check_address(&default, raw, path, report);
        return default;
    };
    let Some((scheme, authority)) = origin(written) else {
        // Not quoted: there may be a password in it.
        let message = "an origin is https://host[:port] or http://host[:port], without user, \
                       path or query";
        report.add(&key, message);
        return default;
    };
    if scheme == "http" && raw.plain_http != Some(true) {
        let message = "http is neither private nor authentic: use https, or set plain-http = true";
        report.add(&key, message);
    }
    let url = format!("{scheme}://{authority}");
    check_address(&url, raw, &key, report);
    url
}

/// Scheme and authority of an origin, in lower case.
fn origin(text: &str) -> Option<(&'static str, String)> {
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = match lower.split_once("://")? {
        ("http", rest) => ("http", rest),
        ("https", rest) => ("https", rest),
        _ => return None,
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    authority.parse::<Registry>().ok()?;
    Some((scheme, authority.to_owned()))
}

/// Says at once what the address guard would say at each request.
fn check_address(url: &str, raw: &RawUpstream, key: &KeyPath, report: &mut Report<'_>) {
    let authority = url.split_once("://").map_or(url, |(_, authority)| authority);
    let Some(host) = private_host(authority) else { return };
    if raw.allow_private != Some(true) {
        report.add(key, format!("{host} is a private address: set allow-private = true"));
    }
}

/// The host of `host[:port]`, if it is plain to see that it is a private one.
pub(super) fn private_host(authority: &str) -> Option<String> {
    let name: Registry = authority.parse().ok()?;
    let host = name.host().trim_start_matches('[').trim_end_matches(']');
    let is_private = match host.parse() {
        Ok(IpAddr::V4(v4)) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unique_local(),
        Err(_) => host == "localhost",
    };
    is_private.then(|| host.to_owned())
}

fn credentials(
    raw: &RawUpstream,
    name: &Registry,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Credentials {
    match raw.credentials.unwrap_or(RawCredentials::None) {
        RawCredentials::Own => secrets::own(raw, name, path, report).unwrap_or_else(|| {
            // Refused by now; still own, so that what else is wrong with that is told too.
            Credentials::Own { username: String::new(), password: Secret::new(String::new()) }
        }),
        other => {
            if !report.knows(&path.key("credentials")) {
                check_unused(raw, path, report);
            }
            match other {
                RawCredentials::Client => Credentials::Client,
                _ => Credentials::None,
            }
        }
    }
}

/// What only our own credentials need must not be there without them: somebody meant otherwise.
fn check_unused(raw: &RawUpstream, path: &KeyPath, report: &mut Report<'_>) {
    for (key, is_there) in [
        ("username", raw.username.is_some()),
        ("password", raw.password.is_some()),
        ("password-file", raw.password_file.is_some()),
        ("docker-config", raw.docker_config.is_some()),
        ("repositories", !raw.repositories.is_empty()),
    ] {
        if is_there {
            report.add(&path.key(key), "it is used only with credentials = \"own\": set that too");
        }
    }
}

fn check_hosts(hosts: &[String], path: &KeyPath, report: &mut Report<'_>) {
    for (index, host) in hosts.iter().enumerate() {
        if host.parse::<Registry>().is_err() {
            report.add(&path.at(index), format!("{host:?} is no host[:port]"));
        }
    }
}

fn check_repositories(raw: &RawUpstream, path: &KeyPath, report: &mut Report<'_>) {
    for (index, glob) in raw.repositories.iter().enumerate() {
        if let Err(error) = Pattern::new(glob) {
            report.add(&path.key("repositories").at(index), error.to_string());
        }
    }
}

pub(super) fn ca_file(
    written: Option<&Path>,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let key = path.key("ca-file");
    let file = report.absolute(&key, written?);
    match std::fs::read(&file) {
        Err(error) => report.add(&key, format!("{} cannot be read: {error}", file.display())),
        Ok(bytes) => {
            let mark = b"-----BEGIN CERTIFICATE-----";
            if !bytes.windows(mark.len()).any(|window| window == mark) {
                report.add(&key, format!("{} holds no PEM certificate", file.display()));
            }
        }
    }
    Some(file)
}

pub(super) fn proxy(
    written: Option<String>,
    key: &KeyPath,
    report: &mut Report<'_>,
) -> Option<String> {
    let written = written?;
    if written.is_empty() {
        return Some(written);
    }
    if let Some(("http", authority)) = origin(&written) {
        return Some(format!("http://{authority}"));
    }
    // Not quoted: there may be a password in it.
    let message = "a proxy is http://host:port without a user, or \"\" for none; one that wants a \
                   user is named by HTTPS_PROXY in the environment";
    report.add(key, message);
    None
}
