//! S-02, S-04, S-05, S-06: where a redirect may lead, and what goes with it.

use super::server::{Reply, Server, header};
use super::*;

/// An upstream with a public name, played by an outbound proxy, so that the guard is at its
/// strictest while all is on loopback.
async fn public(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (Server, Arc<Upstream>) {
    let server = Server::start(script).await;
    let upstream = upstream(UpstreamConfig {
        allow_private: false,
        proxy: Some(server.url()),
        ..config("http://registry.example")
    });
    (server, upstream)
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_place_ends_before_a_packet_leaves() {
    for location in [
        "http://127.0.0.1/x",
        "http://127.0.0.1:2375/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://0x7f.1/x",
        "http://0177.0.0.1/x",
        "http://2130706433/x",
        "http://127.1/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "//169.254.169.254/latest/meta-data",
        "http://localhost/x",
        "https://metadata.localhost/x",
    ] {
        let (server, upstream) = public(move |_| Reply::redirect(location)).await;
        let error = refusal(&upstream, blob()).await;
        assert_eq!(error, UpstreamError::AddressNotAllowed, "{location}");
        assert_eq!(server.count(), 1, "{location}");
    }
}

#[tokio::test]
async fn link_local_addresses_are_refused_even_where_private_ones_are_allowed() {
    for location in ["http://169.254.169.254/x", "http://[::ffff:169.254.169.254]/x"] {
        let server = Server::start(move |_| Reply::redirect(location)).await;
        let error = refusal(&upstream(config(&server.url())), blob()).await;
        assert_eq!(error, UpstreamError::AddressNotAllowed, "{location}");
    }
}

#[tokio::test]
async fn odd_redirects_are_refused() {
    for location in [
        "",
        "file:///etc/passwd",
        "gopher://registry.example/x",
        "javascript:alert(1)",
        "http://user@registry.example/x",
        "http://user:pass@registry.example/x",
        "http:///x",
        "/v2/team/app/../x",
        "/v2/team/app/manifests/self",
    ] {
        let (server, upstream) = public(move |_| Reply::redirect(location)).await;
        let error = refusal(&upstream, tag("self")).await;
        assert_eq!(error, UpstreamError::RedirectNotAllowed, "{location}");
        assert_eq!(server.count(), 1, "{location}");
    }
    let (_server, upstream) = public(|_| Reply::redirect("/a\rX-Evil: b")).await;
    assert!(matches!(refusal(&upstream, tag("cr")).await, UpstreamError::Invalid(_)));
    let two = "Location: /a\r\nLocation: /b\r\n";
    let (_server, upstream) = public(|_| Reply::status("302 Found", two, "")).await;
    assert_eq!(refusal(&upstream, tag("two")).await, UpstreamError::RedirectNotAllowed);
    let (_server, upstream) = public(|_| Reply::status("300 Multiple Choices", "", "")).await;
    assert!(matches!(refusal(&upstream, tag("choices")).await, UpstreamError::Invalid(_)));
}

#[tokio::test]
async fn five_hops_are_followed_and_loops_and_six_are_not() {
    let hops = |last: u32| {
        move |head: &str| {
            let path = head.split(' ').nth(1).unwrap();
            let hop = path.rsplit("/hop").next().unwrap().parse::<u32>().unwrap_or(0);
            if hop == last {
                Reply::ok("", "there")
            } else {
                Reply::redirect(&format!("/hop{}", hop + 1))
            }
        }
    };
    let server = Server::start(hops(5)).await;
    assert_eq!(pull(&upstream(config(&server.url())), blob()).await.unwrap(), "there");
    let server = Server::start(hops(6)).await;
    let error = refusal(&upstream(config(&server.url())), blob()).await;
    assert_eq!((error, server.count()), (UpstreamError::RedirectNotAllowed, 6));
    let server =
        Server::start(|head| Reply::redirect(if head.contains("/a ") { "/b" } else { "/a" })).await;
    let error = refusal(&upstream(config(&server.url())), blob()).await;
    assert_eq!((error, server.count()), (UpstreamError::RedirectNotAllowed, 3));
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_origin_nor_come_back() {
    let registry: Arc<std::sync::OnceLock<String>> = Arc::default();
    let home = registry.clone();
    let canary =
        Server::start(move |_| Reply::redirect(&format!("{}/home", home.get().unwrap()))).await;
    let away = format!("{}/blob", canary.url());
    let server = Server::start(move |head| match header(head, "authorization") {
        _ if head.starts_with("GET /home") => Reply::ok("", "back"),
        None => Reply::challenge("Basic realm=x"),
        Some(_) => Reply::redirect(&away),
    })
    .await;
    registry.set(server.url()).unwrap();
    let config = UpstreamConfig { credentials: own("user", "hunter2"), ..config(&server.url()) };
    let asked = Ask { accept: Some("a/b".into()), range_from: Some(0), ..blob() };
    assert_eq!(pull(&upstream(config), asked).await.unwrap(), "back");
    let canary_head = canary.heads().remove(0);
    assert_eq!(header(&canary_head, "authorization"), None);
    assert_eq!(header(&canary_head, "accept"), Some("a/b"));
    let heads = server.heads();
    assert_eq!(header(&heads[1], "authorization"), Some("Basic dXNlcjpodW50ZXIy"));
    assert_eq!(header(&heads[2], "authorization"), None);
}

#[tokio::test]
async fn a_challenge_from_where_a_redirect_led_is_not_answered() {
    let canary = Server::start(|_| Reply::challenge("Basic realm=x")).await;
    let away = format!("{}/blob", canary.url());
    let server = Server::start(move |_| Reply::redirect(&away)).await;
    let config = UpstreamConfig { credentials: own("user", "hunter2"), ..config(&server.url()) };
    let error = refusal(&upstream(config), blob()).await;
    assert_eq!(error, UpstreamError::Authentication { status: 401 });
    assert_eq!((server.count(), canary.count()), (1, 1));
}
