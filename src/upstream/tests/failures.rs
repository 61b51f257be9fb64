//! N-01, N-03, N-04 and timeouts: an upstream that fails, limits or hangs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::server::{Reply, Server};
use super::*;

fn failing(first: u32, status: &'static str) -> impl Fn(&str) -> Reply + Send + Sync {
    let asked = AtomicU32::new(0);
    move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) < first {
            Reply::status(status, "", "no")
        } else {
            Reply::ok("", "yes")
        }
    }
}

#[tokio::test]
async fn two_failures_are_got_over_and_three_are_an_error() {
    for (failures, status, outcome) in [
        (2, "503 Busy", Ok("yes".to_owned())),
        (2, "500 Oops", Ok("yes".to_owned())),
        (3, "502 Gone", Err(Unavailability::Answers(502))),
        (1, "501 Never", Err(Unavailability::Answers(501))),
    ] {
        let server = Server::start(failing(failures, status)).await;
        let got = pull(&upstream(config(&server.url())), blob()).await;
        let expected = outcome.map_err(|why| UpstreamError::Unavailable { why, retry_after: None });
        assert_eq!(got, expected, "{status}");
        assert_eq!(server.count(), if failures == 1 { 1 } else { 3 });
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_tried_again() {
    let asked = AtomicU32::new(0);
    let server = Server::start(move |_| {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            Reply::Reset(b"HTTP/1.1 200".to_vec())
        } else {
            Reply::ok("", "yes")
        }
    })
    .await;
    assert_eq!(pull(&upstream(config(&server.url())), blob()).await.unwrap(), "yes");
}

#[tokio::test]
async fn a_rate_limit_is_handed_on_and_never_retried() {
    for (header, seconds) in [
        ("Retry-After: 0\r\n", 1),
        ("Retry-After: 17\r\n", 17),
        ("Retry-After: 86400\r\n", 3600),
        ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 1),
        ("Retry-After: garbage\r\n", 30),
        ("", 30),
    ] {
        let server = Server::start(move |_| Reply::status("429 Slow", header, "{}")).await;
        let error = refusal(&upstream(config(&server.url())), tag("x")).await;
        let retry_after = Duration::from_secs(seconds);
        assert_eq!(error, UpstreamError::RateLimited { retry_after }, "{header}");
        assert_eq!(server.count(), 1, "{header}");
    }
}

#[tokio::test]
async fn a_long_retry_after_of_a_503_is_the_clients_to_wait_for() {
    let server = Server::start(|_| Reply::status("503 Busy", "Retry-After: 120\r\n", "")).await;
    let error = refusal(&upstream(config(&server.url())), tag("x")).await;
    let retry_after = Some(Duration::from_mins(2));
    let why = Unavailability::Answers(503);
    assert_eq!(error, UpstreamError::Unavailable { why, retry_after });
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_storm_of_failures_is_not_amplified_and_the_breaker_opens() {
    let server = Server::start(|_| Reply::status("503 Busy", "", "")).await;
    let upstream = upstream(config(&server.url()));
    let mut refusals = 0;
    for _ in 0..200 {
        let error = refusal(&upstream, tag("x")).await;
        let is_open =
            matches!(error, UpstreamError::Unavailable { why: Unavailability::BreakerOpen, .. });
        refusals += u32::from(is_open);
    }
    assert!(refusals > 150, "{refusals}");
    assert!(server.count() < 50, "{}", server.count());
}

#[tokio::test]
async fn one_repository_that_always_fails_spends_the_retries_and_closes_nobody_out() {
    let server = Server::start(|head| {
        if head.contains("/broken/") {
            Reply::status("500 Oops", "", "")
        } else {
            Reply::ok("", "in")
        }
    })
    .await;
    let upstream = upstream(config(&server.url()));
    for _ in 0..30 {
        let broken = Ask { repository: "team/broken".parse().unwrap(), ..tag("x") };
        refusal(&upstream, broken).await;
        assert_eq!(pull(&upstream, tag("x")).await.unwrap(), "in");
    }
    let retries = server.count() - 60;
    assert!((10..=16).contains(&retries), "{retries}");
}

#[tokio::test]
async fn an_answer_of_the_registry_is_no_failure() {
    for (status, expected) in [("404 No", 404), ("416 Range", 416), ("400 Bad", 400)] {
        let server = Server::start(move |_| Reply::status(status, "", "words")).await;
        let answer = upstream(config(&server.url())).ask(tag("x")).await.unwrap();
        assert_eq!(answer.status, expected);
        assert_eq!(answer.body.collect(10).await.unwrap(), "words");
    }
    let server = Server::start(|_| Reply::Say(b"HTTP/1.1 304 Same\r\n\r\n".to_vec())).await;
    let error = refusal(&upstream(config(&server.url())), tag("x")).await;
    assert!(matches!(error, UpstreamError::Invalid(_)));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = refusal(&upstream(config(&url)), tag("x")).await;
    assert_eq!(error, UpstreamError::unavailable(Unavailability::Unreachable));
}

#[tokio::test]
async fn a_header_that_does_not_come_times_out_and_is_not_asked_for_again() {
    let server = Server::start(|_| Reply::Hang(b"HTTP/1.1 200 OK\r\n".to_vec())).await;
    let short = Duration::from_millis(50);
    let hasty =
        UpstreamConfig { connect_timeout: short, header_timeout: short, ..config(&server.url()) };
    assert_eq!(refusal(&upstream(hasty), tag("x")).await, UpstreamError::Timeout);
    let ask = Ask { deadline: Some(short), ..tag("x") };
    assert_eq!(refusal(&upstream(config(&server.url())), ask).await, UpstreamError::Timeout);
    assert!(server.count() <= 2);
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let connect_timeout = Duration::from_millis(50);
    let hasty = upstream(UpstreamConfig { connect_timeout, ..config(&url) });
    assert_eq!(refusal(&hasty, tag("x")).await, UpstreamError::Timeout);
}

#[tokio::test]
async fn connections_are_bounded_and_a_dropped_body_gives_its_place_back() {
    let server =
        Server::start(|_| Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx".to_vec()))
            .await;
    let upstream = upstream(UpstreamConfig { max_connections: 1, ..config(&server.url()) });
    let busy = upstream.ask(blob()).await.unwrap();
    let deadline = Some(Duration::from_millis(50));
    let error = refusal(&upstream, Ask { deadline, ..blob() }).await;
    assert_eq!(error, UpstreamError::unavailable(Unavailability::Overloaded));
    drop(busy);
    assert_eq!(upstream.ask(blob()).await.unwrap().status, 200);
}

#[tokio::test]
async fn blobs_leave_a_place_for_what_is_small() {
    let server =
        Server::start(|_| Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx".to_vec()))
            .await;
    let upstream = upstream(UpstreamConfig { max_connections: 4, ..config(&server.url()) });
    let mut blobs = Vec::new();
    for _ in 0..3 {
        blobs.push(upstream.ask(blob()).await.unwrap());
    }
    let deadline = Some(Duration::from_millis(50));
    let error = refusal(&upstream, Ask { deadline, ..blob() }).await;
    assert_eq!(error, UpstreamError::unavailable(Unavailability::Overloaded));
    assert_eq!(upstream.ask(tag("x")).await.unwrap().status, 200);
}

#[tokio::test]
async fn what_is_not_http_or_has_a_huge_header_is_invalid() {
    for bytes in [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
        [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'a'; 1 << 20]].concat(),
        [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"X: y\r\n".repeat(1000), b"\r\n"].concat(),
    ] {
        let server = Server::start(move |_| Reply::Close(bytes.clone())).await;
        let error = refusal(&upstream(config(&server.url())), tag("x")).await;
        assert!(matches!(error, UpstreamError::Invalid(_)), "{error:?}");
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn every_request_is_told_to_the_observer() {
    let server = Server::start(failing(1, "500 Oops")).await;
    let name: Registry = NAME.parse().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let upstreams = Upstreams::new(&BTreeMap::from([(name.clone(), config(&server.url()))]))
        .unwrap()
        .with_observer(Arc::new(move |registry, status, _| {
            log.lock().unwrap().push((registry.to_string(), status));
        }));
    pull(&upstreams.locate(&name).unwrap(), tag("x")).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [(NAME.to_owned(), 500), (NAME.to_owned(), 200)]);
}
