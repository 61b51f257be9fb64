//! What a request asks for: pure.
//!
//! Source: OCI distribution-spec 1.1, "Endpoints"; for the ways to name a registry the design,
//! "Ways in". Names that come out of here are look-up keys, never addresses to dial.

use thiserror::Error;

use crate::config::ListenerKind;
use crate::oci::Registry;

/// A request, taken apart but not yet checked for valid names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`.
    Ping,
    /// Something of a repository.
    Resource {
        /// The registry; `None` is the listener's default upstream.
        registry: Option<Registry>,
        /// The repository as written.
        repository: String,
        /// What of it.
        resource: Resource,
        /// Whether `ns` named the registry, which is echoed then.
        by_ns: bool,
        /// The query without `ns`.
        query: String,
    },
}

/// What of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `blobs/<digest>`.
    Blob(String),
    /// `manifests/<reference>`.
    Manifest(String),
    /// `referrers/<digest>`.
    Referrers(String),
    /// `tags/list`.
    Tags,
    /// `blobs/uploads/…`.
    Upload,
}

/// Why a request has no route.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// The path has characters, escapes or parts (`..`) that no name has.
    #[error("the path has characters or parts that no repository, tag or digest has")]
    Escapes,
    /// The path is none of the specification's.
    #[error("this is no path of the distribution specification")]
    NotFound,
    /// The registry's name is none, or stands there twice.
    #[error("the registry's name {0:?} is none that could be configured")]
    UnknownRegistry(String),
}

/// Finds the route of a path and a query.
pub fn route(kind: ListenerKind, path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    let path = unescape(path)?;
    let (ns, query) = match kind {
        ListenerKind::Mirror => split_ns(query.unwrap_or_default())?,
        ListenerKind::Direct => (None, query.unwrap_or_default().to_owned()),
    };
    let rest = path.strip_prefix('/').ok_or(RouteError::NotFound)?;
    let (outer, rest) = match rest.split_once('/') {
        _ if rest == "v2" => return Ok(Route::Ping),
        Some(("v2", rest)) => (None, rest),
        Some((host, rest)) => match rest.strip_prefix("v2") {
            Some("" | "/") if is_registry(host) => return Ok(Route::Ping),
            Some(rest) if is_registry(host) && rest.starts_with('/') => {
                (Some(registry(host)?), &rest[1..])
            }
            _ => return Err(RouteError::NotFound),
        },
        None => return Err(RouteError::NotFound),
    };
    if rest.is_empty() {
        return Ok(Route::Ping);
    }
    let (path, resource) = split_resource(rest)?;
    let (inner, repository) = split_registry(path, ns.as_ref().or(outer.as_ref()))?;
    let by_ns = ns.is_some();
    let registry = outer.or(inner).or(ns);
    if registry.is_none() && kind == ListenerKind::Direct {
        return Err(unknown(first(path)));
    }
    Ok(Route::Resource { registry, repository: repository.to_owned(), resource, by_ns, query })
}

fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// No name needs an escape; some clients write the colon of a digest as one.
fn unescape(path: &str) -> Result<String, RouteError> {
    let path = path.replace("%3A", ":").replace("%3a", ":");
    let lawful = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'/' | b'.' | b'_' | b'-' | b':' | b'[' | b']' | b'+' | b'=')
    };
    let climbs = path.split('/').any(|part| matches!(part, "." | ".."));
    if path.bytes().all(lawful) && !climbs { Ok(path) } else { Err(RouteError::Escapes) }
}

/// Takes `ns` out of a query: at most one.
fn split_ns(query: &str) -> Result<(Option<Registry>, String), RouteError> {
    let (names, rest): (Vec<&str>, Vec<&str>) =
        query.split('&').filter(|pair| !pair.is_empty()).partition(|pair| is_ns(pair));
    let ns = match names.as_slice() {
        [] => None,
        [pair] => {
            let name = pair.split_once('=').map_or("", |(_, name)| name);
            Some(registry(&name.replace("%3A", ":").replace("%3a", ":"))?)
        }
        [..] => return Err(unknown(&names.join("&"))),
    };
    Ok((ns, rest.join("&")))
}

fn is_ns(pair: &str) -> bool {
    pair.split('=').next() == Some("ns")
}

fn registry(name: &str) -> Result<Registry, RouteError> {
    name.parse().map_err(|_| unknown(name))
}

/// As much of the name as can be told and remembered: it may be as long as a request's target.
fn unknown(name: &str) -> RouteError {
    RouteError::UnknownRegistry(name.chars().take(80).collect())
}

/// Docker's rule for telling a registry from the first part of a repository.
fn is_registry(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

/// A registry in front of the repository. Behind a registry that was already named, only the
/// same name again is one.
fn split_registry<'a>(
    path: &'a str,
    named: Option<&Registry>,
) -> Result<(Option<Registry>, &'a str), RouteError> {
    let Some((first, rest)) = path.split_once('/').filter(|(first, _)| is_registry(first)) else {
        return Ok((None, path));
    };
    match named {
        None => Ok((Some(registry(first)?), rest)),
        Some(named) if first.parse::<Registry>().as_ref() == Ok(named) => Ok((None, rest)),
        Some(_) => Ok((None, path)),
    }
}

/// Takes the resource off the end: a repository may contain the same words.
fn split_resource(path: &str) -> Result<(&str, Resource), RouteError> {
    if let Some(at) = path.find("/blobs/uploads") {
        return Ok((&path[..at], Resource::Upload));
    }
    if let Some(repository) = path.strip_suffix("/tags/list") {
        return Ok((repository, Resource::Tags));
    }
    let (rest, name) = path.rsplit_once('/').ok_or(RouteError::NotFound)?;
    let (repository, noun) = rest.rsplit_once('/').ok_or(RouteError::NotFound)?;
    let name = name.to_owned();
    let resource = match noun {
        "blobs" => Resource::Blob(name),
        "manifests" => Resource::Manifest(name),
        "referrers" => Resource::Referrers(name),
        _ => return Err(RouteError::NotFound),
    };
    Ok((repository, resource))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(registry: Option<&str>, repository: &str, by_ns: bool) -> Route {
        Route::Resource {
            registry: registry.map(|name| name.parse().unwrap()),
            repository: repository.into(),
            resource: Resource::Manifest("1".into()),
            by_ns,
            query: String::new(),
        }
    }

    #[test]
    fn a_mirror_takes_ns_both_prefixes_and_the_default() {
        let hub = Some("docker.io");
        for (path, query, expected) in [
            ("/v2/library/x/manifests/1", None, manifest(None, "library/x", false)),
            ("/v2/x/manifests/1", Some("ns=docker.io"), manifest(hub, "x", true)),
            ("/v2/x/manifests/1", Some("ns=DOCKER.IO%3A443"), manifest(hub, "x", true)),
            ("/v2/docker.io/library/x/manifests/1", None, manifest(hub, "library/x", false)),
            ("/docker.io/v2/library/x/manifests/1", None, manifest(hub, "library/x", false)),
            ("/docker.io/v2/x/manifests/1", Some("ns=docker.io"), manifest(hub, "x", true)),
            ("/v2/docker.io/x/manifests/1", Some("ns=docker.io"), manifest(hub, "x", true)),
            (
                "/v2/a/x/manifests/1",
                Some("ns=localhost%3A5000"),
                manifest(Some("localhost:5000"), "a/x", true),
            ),
        ] {
            assert_eq!(route(ListenerKind::Mirror, path, query), Ok(expected), "{path} {query:?}");
        }
    }

    #[test]
    fn direct_needs_a_registry_and_knows_no_ns() {
        let direct = |path| route(ListenerKind::Direct, path, Some("ns=ghcr.io"));
        let Ok(Route::Resource { registry, query, by_ns, .. }) =
            direct("/v2/docker.io/library/x/manifests/1")
        else {
            panic!("no route")
        };
        assert_eq!(registry.unwrap().as_str(), "docker.io");
        assert_eq!((query.as_str(), by_ns), ("ns=ghcr.io", false));
        assert!(matches!(direct("/v2/library/x/manifests/1"), Err(RouteError::UnknownRegistry(_))));
    }

    #[test]
    fn every_resource_is_found_from_the_end() {
        for (path, repository, resource) in [
            ("/v2/a/b/blobs/sha256:0", "a/b", Resource::Blob("sha256:0".into())),
            ("/v2/a/b/blobs/sha256%3A0", "a/b", Resource::Blob("sha256:0".into())),
            ("/v2/manifests/manifests/x", "manifests", Resource::Manifest("x".into())),
            ("/v2/a/tags/list", "a", Resource::Tags),
            ("/v2/a/referrers/d", "a", Resource::Referrers("d".into())),
            ("/v2/a/blobs/uploads/", "a", Resource::Upload),
            ("/v2/a/blobs/uploads/uuid", "a", Resource::Upload),
        ] {
            let Ok(Route::Resource { repository: r, resource: s, .. }) =
                route(ListenerKind::Mirror, path, None)
            else {
                panic!("{path} has no route")
            };
            assert_eq!((r.as_str(), s), (repository, resource), "{path}");
        }
        for path in ["/v2", "/v2/", "/docker.io/v2/", "/docker.io/v2"] {
            assert_eq!(route(ListenerKind::Mirror, path, None), Ok(Route::Ping), "{path}");
        }
    }

    #[test]
    fn what_is_no_path_has_no_route() {
        for path in [
            "/",
            "/v1/",
            "/V2/",
            "//v2/",
            "/v2/x",
            "/v2/x/manifests",
            "/metrics",
            "/v22/",
            "/v2/..%2f..%2fetc/passwd",
            "/v2/a/manifests/sha256:../../x",
            "/v2/./a/manifests/x",
            "/v2/../v2/a/manifests/x",
            "/v2/a/manifests/%00",
            "/v2/a/manifests/x;y",
            "/v2/é/x",
            "v2/",
            "",
            "/evil/v2/a/manifests/1",
        ] {
            assert!(route(ListenerKind::Mirror, path, None).is_err(), "{path}");
        }
        for ns in ["ns=", "ns", "ns=docker.io&ns=evil.com", "ns=docker.io.", "ns=a/b", "ns=%00"] {
            let routed = route(ListenerKind::Mirror, "/v2/a/manifests/1", Some(ns));
            assert!(matches!(routed, Err(RouteError::UnknownRegistry(_))), "{ns}: {routed:?}");
        }
    }

    #[test]
    fn an_unknown_registrys_name_is_told_in_part() {
        let long = "x".repeat(60_000);
        let [path, name] = [format!("/v2/{long}/manifests/1"), format!("ns={long}")];
        for (kind, path, query) in [
            (ListenerKind::Direct, &*path, None),
            (ListenerKind::Mirror, "/v2/a/manifests/1", Some(&*name)),
            (ListenerKind::Mirror, "/v2/a/manifests/1", Some(&*format!("{name}&{name}"))),
            (ListenerKind::Mirror, &*format!("/v2/{long}.x/a/manifests/1"), None),
        ] {
            let Err(RouteError::UnknownRegistry(told)) = route(kind, path, query) else {
                panic!("{kind:?}")
            };
            assert!(told.len() <= 80, "{} bytes", told.len());
        }
    }

    proptest! {
        #[test]
        fn routing_never_panics(path in ".*", query in ".*", tame in "[a-z0-9./:%?&=-]{0,60}") {
            for kind in [ListenerKind::Direct, ListenerKind::Mirror] {
                let _ = route(kind, &path, Some(&query));
                let _ = route(kind, &tame, Some(&tame));
                let _ = route(kind, &format!("/v2/{tame}/manifests/x"), None);
            }
        }
    }
}
