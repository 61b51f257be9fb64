//! S-08, S-10, S-16, T-02, A-11: challenges, token realms, whose credentials go where.

use std::sync::atomic::{AtomicU32, Ordering};

use super::server::{Reply, Server, header};
use super::*;

/// A registry that wants `Bearer good` and sends to `realm` for it.
async fn registry(realm: String) -> Server {
    Server::start(move |head| match header(head, "authorization") {
        Some("Bearer good") => Reply::ok("", "in"),
        _ => Reply::challenge(&format!("Bearer realm=\"{realm}\",service=\"a service\"")),
    })
    .await
}

/// A token endpoint that answers like this, and a registry that sends there.
async fn endpoint(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (Server, Arc<Upstream>) {
    let tokens = Server::start(move |_| reply()).await;
    let server = registry(format!("{}/token", tokens.url())).await;
    let auth_hosts = vec![format!("127.0.0.1:{}", tokens.port)];
    let upstream = upstream(UpstreamConfig { auth_hosts, ..config(&server.url()) });
    (tokens, upstream)
}

#[tokio::test]
async fn a_token_is_fetched_once_for_our_scope_and_kept() {
    let (tokens, upstream) = endpoint(|| Reply::ok("", r#"{"token":"good"}"#)).await;
    for _ in 0..3 {
        assert_eq!(pull(&upstream, tag("x")).await.unwrap(), "in");
    }
    let heads = tokens.heads();
    assert_eq!(heads.len(), 1);
    let target = "GET /token?scope=repository:team/app:pull&service=a%20service HTTP/1.1\r\n";
    assert!(heads[0].starts_with(target), "{}", heads[0]);
    assert_eq!(header(&heads[0], "authorization"), None);
    let other = Ask { repository: "team/other".parse().unwrap(), ..tag("x") };
    assert_eq!(pull(&upstream, other).await.unwrap(), "in");
    assert_eq!(tokens.count(), 2, "a token is for one repository");
}

#[tokio::test]
async fn those_who_want_one_token_at_once_share_the_fetch() {
    let (tokens, upstream) = endpoint(|| Reply::ok("", r#"{"access_token":"good"}"#)).await;
    let asks = (0..8).map(|_| pull(&upstream, tag("x")));
    for got in futures_util::future::join_all(asks).await {
        assert_eq!(got.unwrap(), "in");
    }
    assert_eq!(tokens.count(), 1);
}

#[tokio::test]
async fn a_realm_that_is_not_the_upstreams_gets_nothing() {
    let canary = Server::start(|_| Reply::ok("", r#"{"token":"good"}"#)).await;
    let port = canary.port;
    for realm in [
        canary.url(),
        format!("http://localhost:{port}/"),
        format!("http://user@127.0.0.1:{port}/"),
        format!("//127.0.0.1:{port}/"),
        "/token".into(),
        "file:///etc/passwd".into(),
        String::new(),
    ] {
        let server = registry(realm.clone()).await;
        let config =
            UpstreamConfig { credentials: own("user", "hunter2"), ..config(&server.url()) };
        let error = refusal(&upstream(config), tag("x")).await;
        assert_eq!(error, UpstreamError::RealmNotAllowed, "{realm}");
        assert_eq!(server.count(), 1);
    }
    assert_eq!(canary.count(), 0);
}

#[tokio::test]
async fn the_strongest_challenge_that_is_allowed_is_answered() {
    let basic = "Basic dXNlcjpodW50ZXIy";
    for (challenge, expected) in [
        ("Basic realm=x, Bearer realm=\"URL/token\"", "Bearer good"),
        ("Bearer realm=\"URL/token\", Basic realm=x", "Bearer good"),
        ("Bearer realm=\"https://evil.example/\", Bearer realm=\"URL/token\"", "Bearer good"),
        ("Bearer realm=\"https://evil.example/\", Basic realm=x", basic),
        ("Bearer service=x, Basic realm=x", basic),
        ("Basic realm=x, Bearer realm=\"unterminated", basic),
    ] {
        let url: Arc<std::sync::OnceLock<String>> = Arc::default();
        let own_url = url.clone();
        let server = Server::start(move |head| match header(head, "authorization") {
            _ if head.starts_with("GET /token") => Reply::ok("", r#"{"token":"good"}"#),
            Some(sent) if sent == expected => Reply::ok("", "in"),
            _ => Reply::challenge(&challenge.replace("URL", own_url.get().unwrap())),
        })
        .await;
        url.set(server.url()).unwrap();
        let config =
            UpstreamConfig { credentials: own("user", "hunter2"), ..config(&server.url()) };
        assert_eq!(pull(&upstream(config), tag("x")).await.as_deref(), Ok("in"), "{challenge}");
    }
}

#[tokio::test]
async fn absurd_challenges_are_refused_within_bounds() {
    let fifty = "WWW-Authenticate: Bearer realm=\"https://evil.example/\"\r\n".repeat(50);
    let huge = format!("WWW-Authenticate: Bearer realm=\"{}\"\r\n", "a".repeat(1 << 20));
    let twice = "WWW-Authenticate: Bearer realm=a, realm=b\r\n".to_owned();
    let none = String::new();
    let unauthorized = UpstreamError::Authentication { status: 401 };
    let invalid = UpstreamError::Invalid("it is not HTTP/1.1, or its header is too large");
    for (headers, expected) in [
        (fifty, UpstreamError::RealmNotAllowed),
        (huge, invalid),
        (twice, unauthorized.clone()),
        (none, unauthorized),
    ] {
        let server = Server::start(move |_| Reply::status("401 No", &headers, "")).await;
        assert_eq!(refusal(&upstream(config(&server.url())), tag("x")).await, expected);
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_misbehaves_is_an_error_within_bounds() {
    for (answer, expected) in [
        (("200 OK", "{}"), UpstreamError::Invalid("its token answer has no token")),
        (("200 OK", "<html>"), UpstreamError::Invalid("its token answer is not JSON")),
        (("302 Found\r\nLocation: /x", ""), UpstreamError::RedirectNotAllowed),
        (("401 No", ""), UpstreamError::Authentication { status: 401 }),
        (("403 No", ""), UpstreamError::Authentication { status: 403 }),
        (("404 No", ""), UpstreamError::Invalid("its token endpoint gives no token")),
        (
            ("429 Slow\r\nRetry-After: 5", ""),
            UpstreamError::RateLimited { retry_after: Duration::from_secs(5) },
        ),
    ] {
        let (tokens, upstream) = endpoint(move || Reply::status(answer.0, "", answer.1)).await;
        assert_eq!(refusal(&upstream, tag("x")).await, expected, "{}", answer.0);
        assert_eq!(tokens.count(), 1, "{}", answer.0);
    }
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let (_tokens, upstream) = endpoint(move || Reply::Endless(head.clone(), b"    ")).await;
    let too_large = UpstreamError::Invalid("its token answer is too large");
    assert_eq!(refusal(&upstream, tag("x")).await, too_large);
}

#[tokio::test]
async fn a_token_endpoint_that_fails_is_tried_again_and_one_that_hangs_times_out() {
    let asked = AtomicU32::new(0);
    let (tokens, upstream) = endpoint(move || {
        let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first {
            Reply::status("500 Oops", "", "")
        } else {
            Reply::ok("", r#"{"token":"good"}"#)
        }
    })
    .await;
    assert_eq!(pull(&upstream, tag("x")).await.unwrap(), "in");
    assert_eq!(tokens.count(), 2);
    let drip = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec();
    let (_tokens, upstream) = endpoint(move || Reply::Hang(drip.clone())).await;
    let ask = Ask { deadline: Some(Duration::from_millis(100)), ..tag("x") };
    assert_eq!(refusal(&upstream, ask).await, UpstreamError::Timeout);
}

#[tokio::test]
async fn an_expired_token_is_replaced_once_and_a_refusal_is_final() {
    let minted = Arc::new(AtomicU32::new(0));
    let newest = minted.clone();
    let tokens = Server::start(move |_| {
        let number = newest.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::ok("", &format!(r#"{{"token":"t{number}","expires_in":3600}}"#))
    })
    .await;
    let realm = format!("{}/token", tokens.url());
    let accepted = Arc::new(AtomicU32::new(1));
    let wanted = accepted.clone();
    let server = Server::start(move |head| {
        let good = format!("Bearer t{}", wanted.load(Ordering::SeqCst));
        if header(head, "authorization") == Some(&good) {
            Reply::ok("", "in")
        } else {
            Reply::challenge(&format!("Bearer realm=\"{realm}\""))
        }
    })
    .await;
    let auth_hosts = vec![format!("127.0.0.1:{}", tokens.port)];
    let upstream = upstream(UpstreamConfig { auth_hosts, ..config(&server.url()) });
    assert_eq!(pull(&upstream, tag("x")).await.unwrap(), "in");
    accepted.store(2, Ordering::SeqCst);
    assert_eq!(pull(&upstream, tag("x")).await.unwrap(), "in");
    assert_eq!(minted.load(Ordering::SeqCst), 2);
    accepted.store(99, Ordering::SeqCst);
    let error = refusal(&upstream, tag("x")).await;
    assert_eq!(error, UpstreamError::Authentication { status: 401 });
    assert_eq!(minted.load(Ordering::SeqCst), 3, "one new token, not more");
}

#[tokio::test]
async fn credentials_go_to_their_own_upstream_and_repositories_only() {
    let script = |head: &str| match header(head, "authorization") {
        None => Reply::challenge("Basic realm=x"),
        Some(_) => Reply::ok("", "in"),
    };
    let (one, two) = (Server::start(script).await, Server::start(script).await);
    let names: [Registry; 2] = ["one.example".parse().unwrap(), "two.example".parse().unwrap()];
    let private = UpstreamConfig {
        credentials: own("user", "hunter2"),
        repositories: vec!["team/*".into()],
        ..config(&one.url())
    };
    let configs = [(names[0].clone(), private), (names[1].clone(), config(&two.url()))];
    let upstreams = Upstreams::new(&BTreeMap::from(configs)).unwrap();
    let (first, second) =
        (upstreams.locate(&names[0]).unwrap(), upstreams.locate(&names[1]).unwrap());
    assert_eq!(pull(&first, tag("x")).await.unwrap(), "in");
    let unauthorized = UpstreamError::Authentication { status: 401 };
    assert_eq!(refusal(&second, tag("x")).await, unauthorized);
    let other = Ask { repository: "other/app".parse().unwrap(), ..tag("x") };
    assert_eq!(refusal(&first, other).await, unauthorized);
    assert!(two.heads().iter().all(|head| header(head, "authorization").is_none()));
}

#[tokio::test]
async fn a_clients_credentials_are_passed_on_only_where_that_is_configured() {
    let script = |head: &str| match header(head, "authorization") {
        Some("Bearer mine" | "Basic dXNlcjpodW50ZXIy") => Reply::ok("", "in"),
        _ => Reply::challenge("Basic realm=x"),
    };
    let server = Server::start(script).await;
    let client =
        upstream(UpstreamConfig { credentials: Credentials::Client, ..config(&server.url()) });
    let with = |text: &str| Ask { credential: ClientCredential::from_header(text), ..tag("x") };
    assert_eq!(pull(&client, with("Bearer mine")).await.unwrap(), "in");
    assert_eq!(pull(&client, with("Basic dXNlcjpodW50ZXIy")).await.unwrap(), "in");
    let unauthorized = UpstreamError::Authentication { status: 401 };
    for text in ["Bearer other", "Basic dXNlcjp3cm9uZw==", "garbage", ""] {
        assert_eq!(refusal(&client, with(text)).await, unauthorized, "{text}");
    }
    let before = server.count();
    let none = upstream(config(&server.url()));
    assert_eq!(refusal(&none, with("Bearer mine")).await, unauthorized);
    assert_eq!(header(&server.heads()[before], "authorization"), None);
}

#[tokio::test]
async fn no_secret_is_in_what_is_printed() {
    let server = Server::start(|_| Reply::status("403 No", "", "")).await;
    let config = UpstreamConfig { credentials: own("user", "hunter2"), ..config(&server.url()) };
    let ask = Ask { credential: ClientCredential::from_header("Bearer mellon"), ..tag("x") };
    let printed =
        format!("{config:?} {ask:?} {:?}", refusal(&upstream(config.clone()), ask.clone()).await);
    assert!(!printed.contains("hunter2") && !printed.contains("mellon"), "{printed}");
}
