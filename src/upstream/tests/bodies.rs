//! P-11 to P-16: bodies that are cut, lied about, encoded, endless or slow.

use super::server::{Reply, Server, header};
use super::*;

const CUT: UpstreamError =
    UpstreamError::Unavailable { why: Unavailability::CutShort, retry_after: None };

async fn answered(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (Server, Arc<Upstream>) {
    let server = Server::start(move |_| reply()).await;
    let upstream = upstream(config(&server.url()));
    (server, upstream)
}

#[tokio::test]
async fn a_cut_body_is_an_error_and_never_a_clean_end() {
    for sent in [0, 1, 500, 999] {
        for framing in ["Content-Length: 1000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3e8\r\n"]
        {
            for is_reset in [false, true] {
                let bytes =
                    format!("HTTP/1.1 200 OK\r\n{framing}{}", "x".repeat(sent)).into_bytes();
                let (_server, upstream) = answered(move || {
                    if is_reset { Reply::Reset(bytes.clone()) } else { Reply::Close(bytes.clone()) }
                })
                .await;
                // A reset may overtake the header: then the ask itself fails, in the same way.
                let mut body = match upstream.ask(blob()).await {
                    Ok(answer) => answer.body,
                    Err(error) => {
                        assert_eq!((error, is_reset), (CUT, true));
                        continue;
                    }
                };
                let mut got = 0;
                let end = loop {
                    match body.next().await {
                        Some(Ok(bytes)) => got += bytes.len(),
                        end => break end,
                    }
                };
                assert_eq!(end, Some(Err(CUT)), "{sent} {framing} {is_reset}");
                assert!(got <= sent);
                assert_eq!(body.next().await, None, "an error is the end");
            }
        }
    }
}

#[tokio::test]
async fn a_body_is_bounded_by_what_comes_and_not_by_what_is_announced() {
    const LIMIT: usize = 4 << 20;
    let exact = "x".repeat(LIMIT);
    let over = format!("{exact}x");
    for (bytes, fits) in [
        (format!("Content-Length: {LIMIT}\r\n\r\n{exact}"), true),
        (format!("Content-Length: {}\r\n\r\n{over}", LIMIT + 1), false),
        (format!("Transfer-Encoding: chunked\r\n\r\n{LIMIT:x}\r\n{exact}\r\n0\r\n\r\n"), true),
        (
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{over}\r\n0\r\n\r\n", LIMIT + 1),
            false,
        ),
        ("Content-Length: 1000000000000\r\n\r\nx".into(), false),
        ("Content-Length: 18446744073709551000\r\n\r\nx".into(), false),
    ] {
        let label: String = bytes.chars().take(40).collect();
        let bytes = format!("HTTP/1.1 200 OK\r\n{bytes}").into_bytes();
        let (_server, upstream) = answered(move || Reply::Close(bytes.clone())).await;
        let body = upstream.ask(blob()).await.unwrap().body;
        let length = body.collect(LIMIT).await.map(|bytes| bytes.len());
        let expected = if fits { Ok(LIMIT) } else { Err(UpstreamError::TooLarge { limit: LIMIT }) };
        assert_eq!(length, expected, "{label}");
    }
}

#[tokio::test]
async fn an_endless_body_ends_at_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = b"10\r\nxxxxxxxxxxxxxxxx\r\n";
    let (_server, upstream) = answered(move || Reply::Endless(head.clone(), chunk)).await;
    let body = upstream.ask(tag("endless")).await.unwrap().body;
    assert_eq!(body.collect(1 << 20).await, Err(UpstreamError::TooLarge { limit: 1 << 20 }));
}

#[tokio::test]
async fn a_lie_about_the_length_is_no_whole_body() {
    for length in ["-1", "x", "1, 2", "99999999999999999999"] {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nxx").into_bytes();
        let (_server, upstream) = answered(move || Reply::Close(bytes.clone())).await;
        let error = refusal(&upstream, blob()).await;
        assert!(matches!(error, UpstreamError::Invalid(_)), "{length}: {error}");
    }
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789and more".to_vec();
    let (_server, upstream) = answered(move || Reply::Close(short.clone())).await;
    assert_eq!(pull(&upstream, blob()).await.unwrap(), "0123456789");
}

#[tokio::test]
async fn a_content_encoding_is_told_and_not_decoded() {
    for (headers, expected) in [
        ("Content-Encoding: gzip\r\n", true),
        ("Content-Encoding: identity, gzip\r\n", true),
        ("Content-Encoding: identity\r\nContent-Encoding: br\r\n", true),
        ("Content-Encoding: Identity\r\n", false),
        ("", false),
    ] {
        let (_server, upstream) = answered(move || Reply::ok(headers, "\x1f")).await;
        let answer = upstream.ask(blob()).await.unwrap();
        assert_eq!(answer.content_encoded, expected, "{headers}");
        assert_eq!(answer.body.collect(10).await.unwrap(), "\x1f");
    }
}

#[tokio::test]
async fn digests_and_types_that_are_none_are_left_out() {
    for digest in ["blake3:00", "sha256:00", "", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let headers = format!("Docker-Content-Digest: {digest}\r\nContent-Type: nonsense\r\n");
        let (_server, upstream) = answered(move || Reply::ok(&headers, "{}")).await;
        let answer = upstream.ask(tag("x")).await.unwrap();
        assert_eq!((answer.digest, answer.content_type), (None, None), "{digest}");
    }
}

#[tokio::test]
async fn a_part_begins_where_it_was_asked_for() {
    let part = |range: &'static str| {
        move || Reply::status("206 Partial Content", &format!("Content-Range: {range}\r\n"), "tail")
    };
    let from = |range_from| Ask { range_from, ..blob() };
    let (server, good) = answered(part("bytes 6-9/10")).await;
    let answer = good.ask(from(Some(6))).await.unwrap();
    assert_eq!((answer.status, answer.content_range.as_deref()), (206, Some("bytes 6-9/10")));
    assert_eq!(header(&server.heads()[0], "range"), Some("bytes=6-"));
    for (range, from) in [("bytes 5-9/10", from(Some(6))), ("bytes 0-3/10", from(None))] {
        let (_server, upstream) = answered(part(range)).await;
        let error = refusal(&upstream, from).await;
        assert!(matches!(error, UpstreamError::Invalid(_)), "{range}");
    }
}

#[tokio::test]
async fn a_body_that_stalls_or_runs_past_the_deadline_times_out() {
    let stall = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123".to_vec();
    let server = Server::start(move |_| Reply::Hang(stall.clone())).await;
    let idle = Duration::from_millis(50);
    let quick = upstream(UpstreamConfig { body_idle_timeout: idle, ..config(&server.url()) });
    let mut body = quick.ask(blob()).await.unwrap().body;
    assert_eq!(body.next().await.unwrap().unwrap(), "0123");
    assert_eq!(body.next().await, Some(Err(UpstreamError::Timeout)));
    assert_eq!(body.next().await, None);
    let patient = upstream(config(&server.url()));
    let ask = Ask { deadline: Some(Duration::from_millis(100)), ..blob() };
    assert_eq!(refusal(&patient, ask).await, UpstreamError::Timeout);
}

#[tokio::test]
async fn a_head_request_has_the_length_and_no_body() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec();
    let (server, upstream) = answered(move || Reply::Say(bytes.clone())).await;
    for _ in 0..2 {
        let answer = upstream.ask(Ask { method: Method::Head, ..tag("x") }).await.unwrap();
        assert_eq!(answer.content_length, Some(1234));
        assert_eq!(answer.body.collect(0).await.unwrap(), "");
    }
    assert!(server.heads()[0].starts_with("HEAD /v2/team/app/manifests/x "));
}
