//! The upstream client against scripted servers on loopback: what it must survive and refuse.

mod bodies;
mod failures;
mod proxies;
mod redirects;
mod server;
mod tls;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{Credentials, UpstreamConfig};
use crate::oci::{Digest, ManifestReference, Registry};
use crate::secret::Secret;

const NAME: &str = "registry.example";

/// A configuration for a server of a test: http and loopback allowed, no proxy.
fn config(url: &str) -> UpstreamConfig {
    UpstreamConfig {
        url: url.to_owned(),
        plain_http: true,
        allow_private: true,
        ca_file: None,
        proxy: Some(String::new()),
        credentials: Credentials::None,
        auth_hosts: Vec::new(),
        repositories: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        header_timeout: Duration::from_secs(5),
        body_idle_timeout: Duration::from_secs(5),
        max_connections: 8,
        max_new_tags_per_hour: 0,
        max_bytes_per_second: 0,
    }
}

fn own(username: &str, password: &str) -> Credentials {
    Credentials::Own { username: username.to_owned(), password: Secret::new(password.to_owned()) }
}

fn upstream(config: UpstreamConfig) -> Arc<Upstream> {
    let name: Registry = NAME.parse().unwrap();
    let upstreams = Upstreams::new(&BTreeMap::from([(name.clone(), config)])).unwrap();
    upstreams.locate(&name).unwrap()
}

fn ask_for(resource: Resource) -> Ask {
    Ask {
        method: Method::Get,
        repository: "team/app".parse().unwrap(),
        resource,
        accept: None,
        range_from: None,
        credential: None,
        deadline: None,
    }
}

fn tag(name: &str) -> Ask {
    ask_for(Resource::Manifest(ManifestReference::Tag(name.parse().unwrap())))
}

fn blob() -> Ask {
    ask_for(Resource::Blob(Digest::sha256([7; 32])))
}

/// The answer's whole body.
async fn pull(upstream: &Upstream, ask: Ask) -> Result<String, UpstreamError> {
    let answer = upstream.ask(ask).await?;
    let bytes = answer.body.collect(1 << 20).await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// The error of an ask that must fail.
async fn refusal(upstream: &Upstream, ask: Ask) -> UpstreamError {
    pull(upstream, ask).await.expect_err("an error")
}

#[tokio::test]
async fn a_request_carries_what_is_on_the_list_and_an_answer_is_read() {
    let digest = Digest::sha256([9; 32]);
    let server = server::Server::start(move |_| {
        server::Reply::ok(
            &format!(
                "Content-Type: Application/Vnd.Oci.Image.Index.V1+Json; charset=utf-8\r\n\
                 Docker-Content-Digest: {digest}\r\nLink: </x>; rel=\"next\"\r\n\
                 OCI-Filters-Applied: artifactType\r\nX-Other: y\r\n"
            ),
            "{}",
        )
    })
    .await;
    let upstream = upstream(config(&server.url()));
    let ask = Ask { accept: Some("a/b, c/d".into()), range_from: None, ..tag("1.2.3") };
    let answer = upstream.ask(ask).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.content_type.unwrap().as_str(), "application/vnd.oci.image.index.v1+json");
    assert_eq!(answer.content_length, Some(2));
    assert_eq!(answer.digest, Some(digest));
    assert_eq!(answer.link.as_deref(), Some("</x>; rel=\"next\""));
    assert_eq!(answer.filters_applied.as_deref(), Some("artifactType"));
    assert!(!answer.content_encoded);
    assert_eq!(answer.body.collect(10).await.unwrap(), "{}");
    let heads = server.heads();
    let mut lines: Vec<_> = heads[0].lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.remove(0), "GET /v2/team/app/manifests/1.2.3 HTTP/1.1");
    lines.sort_unstable();
    let agent = format!("user-agent: immutag/{}", env!("CARGO_PKG_VERSION"));
    let host = format!("host: {}", server.url().trim_start_matches("http://"));
    assert_eq!(lines, ["accept-encoding: identity", "accept: a/b, c/d", &host, &agent]);
}

#[tokio::test]
async fn unknown_registries_are_nobodys_and_every_built_in_one_is_found() {
    let upstreams = Upstreams::new(&BTreeMap::new()).unwrap();
    for name in ["localhost:2375", "169.254.169.254", "evil.com", "pkg.dev", "docker.io:80"] {
        assert!(upstreams.locate(&name.parse().unwrap()).is_none(), "{name}");
    }
    for known in BUILT_IN {
        let name: Registry = known.pattern.replace('*', "one").parse().unwrap();
        let upstream = upstreams.locate(&name).unwrap();
        assert_eq!(upstream.config.credentials, Credentials::None);
        assert!(upstream.config.url.starts_with("https://"));
    }
    let hub = upstreams.locate(&"index.docker.io".parse().unwrap()).unwrap();
    assert_eq!(hub.config.url, "https://registry-1.docker.io");
    assert!(Arc::ptr_eq(&hub, &upstreams.locate(&Registry::docker_io()).unwrap()));
    for number in 0..1000 {
        assert!(upstreams.locate(&format!("r{number}.azurecr.io").parse().unwrap()).is_some());
    }
}

#[test]
fn what_cannot_be_an_upstream_is_refused_at_the_start() {
    let name: Registry = NAME.parse().unwrap();
    let good = || config("https://registry.example:5000");
    let strict = |url: &str| UpstreamConfig { allow_private: false, ..config(url) };
    let problem = |config: UpstreamConfig| {
        let error = Upstreams::new(&BTreeMap::from([(name.clone(), config)])).err();
        error.map(|error| error.problem.to_string().split([' ', ':']).next().unwrap().to_owned())
    };
    assert_eq!(problem(good()), None);
    for url in ["", "registry.example", "https://a.example/v2", "https://u:p@a.example", "ftp://a"]
    {
        assert_eq!(problem(config(url)).as_deref(), Some("url"), "{url}");
    }
    for url in ["https://127.0.0.1", "https://localhost:5000", "https://0x7f.1", "https://[::1]"] {
        assert_eq!(problem(strict(url)).as_deref(), Some("url"), "{url}");
    }
    assert_eq!(problem(config("https://169.254.169.254")).as_deref(), Some("url"));
    let http = UpstreamConfig { plain_http: false, ..config("http://registry.example") };
    assert_eq!(problem(http).as_deref(), Some("url"));
    let spoilt = UpstreamConfig { auth_hosts: vec!["a/b".into()], ..good() };
    assert_eq!(problem(spoilt).as_deref(), Some("auth-hosts"));
    let spoilt = UpstreamConfig { proxy: Some("socks5://p:1".into()), ..good() };
    assert_eq!(problem(spoilt).as_deref(), Some("the"));
    let spoilt = UpstreamConfig { ca_file: Some("missing.pem".into()), ..good() };
    assert_eq!(problem(spoilt).as_deref(), Some("ca-file"));
    let spoilt = UpstreamConfig { repositories: vec!["[".into()], ..good() };
    assert_eq!(problem(spoilt).as_deref(), Some("repositories"));
}
