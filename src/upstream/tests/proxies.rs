//! Outbound proxies: tunnels for https, absolute-form for http, and what stays between us.

use super::server::{Reply, Server, header};
use super::tls::Authority;
use super::*;

#[tokio::test]
async fn https_goes_through_a_tunnel_that_sees_neither_request_nor_credentials() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.acceptor("registry.example"), |head| {
        match header(head, "authorization") {
            None => Reply::challenge("Basic realm=x"),
            Some(_) => Reply::ok("", "in"),
        }
    })
    .await;
    let port = server.port;
    let proxy = Server::start(move |_| Reply::Tunnel(port)).await;
    let file = authority.file();
    let upstream = upstream(UpstreamConfig {
        allow_private: false,
        plain_http: false,
        ca_file: Some(file.path().to_owned()),
        proxy: Some(format!("http://me:p%40ss@127.0.0.1:{}", proxy.port)),
        credentials: own("user", "hunter2"),
        ..config("https://registry.example")
    });
    assert_eq!(pull(&upstream, tag("x")).await.unwrap(), "in");
    let heads = proxy.heads();
    assert!(heads[0].starts_with("CONNECT registry.example:443 HTTP/1.1\r\n"), "{}", heads[0]);
    assert_eq!(header(&heads[0], "proxy-authorization"), Some("Basic bWU6cEBzcw=="));
    assert!(heads.iter().all(|head| header(head, "authorization").is_none()));
    let inside = server.heads();
    assert!(inside.iter().all(|head| header(head, "proxy-authorization").is_none()));
}

#[tokio::test]
async fn http_goes_through_in_absolute_form() {
    let proxy = Server::start(|_| Reply::ok("", "in")).await;
    let upstream = upstream(UpstreamConfig {
        allow_private: false,
        proxy: Some(format!("http://me:p%40ss@127.0.0.1:{}", proxy.port)),
        ..config("http://registry.example:5000")
    });
    assert_eq!(pull(&upstream, tag("x")).await.unwrap(), "in");
    let head = proxy.heads().remove(0);
    let line = "GET http://registry.example:5000/v2/team/app/manifests/x HTTP/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert_eq!(header(&head, "host"), Some("registry.example:5000"));
    assert_eq!(header(&head, "proxy-authorization"), Some("Basic bWU6cEBzcw=="));
}

#[tokio::test]
async fn a_proxy_that_refuses_makes_the_upstream_unavailable_and_is_not_gone_round() {
    let direct = Server::start(|_| Reply::ok("", "in")).await;
    let url = format!("https://127.0.0.1:{}", direct.port);
    for status in ["407 Who", "403 No", "502 Bad"] {
        let proxy = Server::start(move |_| Reply::status(status, "", "")).await;
        let through = UpstreamConfig {
            proxy: Some(format!("http://me:hunter2@127.0.0.1:{}", proxy.port)),
            ..config(&url)
        };
        let error = refusal(&upstream(through), tag("x")).await;
        assert_eq!(error, UpstreamError::unavailable(Unavailability::Proxied), "{status}");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
    assert_eq!(direct.count(), 0);
}

#[tokio::test]
async fn a_proxy_that_is_spoken_to_with_tls_tunnels_tls_in_tls() {
    let authority = Authority::new();
    let server =
        Server::start_tls(authority.acceptor("registry.example"), |_| Reply::ok("", "in")).await;
    let port = server.port;
    let proxy =
        Server::start_tls(authority.acceptor("127.0.0.1"), move |_| Reply::Tunnel(port)).await;
    let file = authority.file();
    let upstream = upstream(UpstreamConfig {
        ca_file: Some(file.path().to_owned()),
        proxy: Some(proxy.url()),
        ..config("https://registry.example")
    });
    assert_eq!(pull(&upstream, tag("x")).await.unwrap(), "in");
}
