//! Requests that are no HTTP, or HTTP that no registry client speaks: never routed, and the
//! connection closes.

use super::{REGISTRY, Stage, exchange, statuses};
use crate::support::http::Call;
use crate::support::immutag::accepting;

const PATH: &str = "/v2/app/manifests/1.0.0?ns=registry.example";

/// A second request, smuggled behind the first.
const SMUGGLED: &str = "GET /v2/app/tags/list?ns=registry.example HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn malformed_requests_are_refused_once_and_the_connection_closes() {
    let stage = Stage::new();
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let cases: Vec<(&str, String, &[u16])> = vec![
        (
            "CL and TE",
            format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            &[413],
        ),
        (
            "TE and CL",
            format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{body}"),
            &[413],
        ),
        ("TE list", format!("Transfer-Encoding: gzip, chunked\r\n\r\n{body}"), &[400, 413]),
        (
            "two TE",
            format!("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            &[400, 413],
        ),
        ("TE not last", format!("Transfer-Encoding: chunked, gzip\r\n\r\n{body}"), &[400]),
        ("TE identity", format!("Transfer-Encoding: identity\r\n\r\n{body}"), &[400]),
        ("TE obscured", format!("Transfer-Encoding: xchunked\r\n\r\n{body}"), &[400]),
        ("TE spaced", format!("Transfer-Encoding : chunked\r\n\r\n{body}"), &[400]),
        ("two CL", "Content-Length: 4\r\nContent-Length: 5\r\n\r\nhello".into(), &[400]),
        ("CL list", "Content-Length: 4, 4\r\n\r\nhell".into(), &[400, 413]),
        ("CL signed", "Content-Length: +4\r\n\r\nhell".into(), &[400]),
        ("CL negative", "Content-Length: -4\r\n\r\nhell".into(), &[400]),
        ("a body", "Content-Length: 4\r\n\r\nhell".into(), &[413]),
        ("folded", "X: a\r\n b\r\n\r\n".into(), &[400]),
        ("NUL", "X: a\0b\r\n\r\n".into(), &[400]),
        ("bare CR", "X: a\rTransfer-Encoding: chunked\r\n\r\n".into(), &[400]),
        ("no colon", "X\r\n\r\n".into(), &[400]),
        ("two hosts", "Host: y\r\n\r\n".into(), &[400]),
    ];
    for address in [stage.immutag.addresses().mirror, stage.immutag.addresses().direct] {
        for (name, rest, expected) in &cases {
            let request = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n{rest}{SMUGGLED}");
            let text = exchange(address, request.as_bytes());
            let statuses = statuses(&text);
            assert_eq!(statuses.len(), 1, "{name}: {text}");
            assert!(expected.contains(&statuses[0]), "{name}: {text}");
        }
    }
    assert_eq!(stage.registry.connections(), 0);
    stage.finish();
}

#[test]
fn targets_and_preambles_of_other_protocols_are_never_routed() {
    let stage = Stage::new();
    let address = stage.immutag.addresses().mirror;
    for (request, expected) in [
        (format!("GET {PATH} HTTP/1.1\r\n\r\n"), Some(400)),
        (format!("GET http://{REGISTRY}{PATH} HTTP/1.1\r\nHost: {REGISTRY}\r\n\r\n"), Some(400)),
        (format!("GET https://evil.example{PATH} HTTP/1.1\r\nHost: x\r\n\r\n"), Some(400)),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n".into(), Some(400)),
        ("CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n".into(), Some(400)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), None),
        ("GET /v2/ HTTP/0.9\r\nHost: x\r\n\r\n".into(), None),
        ("GET /v2/ HTTP/3.0\r\nHost: x\r\n\r\n".into(), None),
        ("GET /v2/\r\n\r\n".into(), None),
        ("GET  /v2/ HTTP/1.1\r\nHost: x\r\n\r\n".into(), None),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".into(), None),
        ("SSH-2.0-OpenSSH_9.2\r\n".into(), None),
        ("*1\r\n$4\r\nPING\r\n".into(), None),
    ] {
        let text = exchange(address, format!("{request}{SMUGGLED}").as_bytes());
        match (statuses(&text).as_slice(), expected) {
            ([status], Some(expected)) => assert_eq!(*status, expected, "{request:?}: {text}"),
            ([] | [400 | 404 | 405 | 505], None) => {}
            (answers, _) => panic!("{request:?}: {answers:?} {text}"),
        }
    }
    assert_eq!(stage.registry.connections(), 0);
    stage.finish();
}

#[test]
fn bare_line_feeds_smuggle_nothing() {
    let stage = Stage::new();
    stage.pull();
    let address = stage.immutag.addresses().mirror;
    let request = format!("GET {PATH} HTTP/1.1\nHost: x\nConnection: close\n\n{SMUGGLED}");
    let text = exchange(address, request.as_bytes());
    assert!(matches!(statuses(&text).as_slice(), [200 | 400]), "{text}");
    let hidden = format!(
        "GET {PATH} HTTP/1.1\r\nHost: x\r\nX: a\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n{SMUGGLED}"
    );
    let text = exchange(address, hidden.as_bytes());
    assert!(matches!(statuses(&text).as_slice(), [200 | 400 | 413]), "{text}");
    stage.finish();
}

#[test]
fn an_old_client_without_host_is_served() {
    let stage = Stage::new();
    let text = exchange(
        stage.immutag.addresses().mirror,
        format!("GET {PATH} HTTP/1.0\r\n\r\n").as_bytes(),
    );
    assert!(text.starts_with("HTTP/1.0 200 "), "{text}");
    assert!(!text.to_lowercase().contains("transfer-encoding"), "{text}");
    stage.finish();
}

#[test]
fn paths_that_climb_hide_or_overflow_reach_nothing() {
    let stage = Stage::new();
    let long = "a/".repeat(35 << 10);
    let address = stage.immutag.addresses().mirror;
    let data_dir = stage.immutag.data_dir().to_owned();
    for (path, expected) in [
        ("/v2/..%2f..%2fetc/passwd", 400),
        ("/v2/../../etc/passwd", 400),
        ("/../../../../etc/passwd", 400),
        ("/v2/app/blobs/..%2f..%2f..%2fledger", 400),
        ("//v2", 404),
        ("//v2/", 404),
        ("/v2//", 404),
        ("/v2/app/manifests/%00", 400),
        ("/v2/app/manifests/\u{e9}", 400),
        ("/V2/", 404),
        ("/v2/app/manifests/1.0.0;params", 400),
        ("/v2;x/app/manifests/1.0.0", 400),
        ("/v2/app\\manifests\\1.0.0", 400),
        ("/v2/app/manifests/1.0.0%23", 400),
        ("/metrics", 404),
        ("/livez", 404),
        ("/debug/pprof", 404),
        ("/", 404),
        ("/v2/_catalog", 404),
        ("/v1/search", 404),
        (&format!("/v2/{long}manifests/1"), 414),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let text = exchange(address, request.as_bytes());
        assert_eq!(statuses(&text), [expected], "{path:.60}: {text:.200}");
        assert!(!text.contains(&*data_dir.to_string_lossy()), "{text}");
    }
    assert_eq!(stage.registry.connections(), 0);
    stage.finish();
}

#[test]
fn a_body_on_a_get_is_refused_unread_and_the_connection_closes() {
    let stage = Stage::new();
    let address = stage.immutag.addresses().mirror;
    for (fields, body) in [
        ("Content-Length: 1000000000\r\n", 0),
        ("Content-Length: 1000000000\r\nExpect: 100-continue\r\n", 0),
        ("Content-Length: 4000000\r\n", 4_000_000),
        ("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", 0),
    ] {
        for method in ["GET", "HEAD"] {
            let head = format!("{method} {PATH} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            let text = exchange(address, &[head.as_bytes(), &vec![b'x'; body]].concat());
            assert_eq!(statuses(&text), [413], "{method} {fields}: {text}");
            assert!(text.to_lowercase().contains("connection: close\r\n"), "{text}");
        }
    }
    assert_eq!(stage.registry.connections(), 0);
    stage.finish();
}

#[test]
fn a_refused_push_with_a_body_closes_the_connection() {
    let stage = Stage::new();
    let address = stage.immutag.addresses().direct;
    for method in ["PUT", "POST", "PATCH"] {
        let head = format!(
            "{method} /v2/{REGISTRY}/app/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        );
        let text = exchange(
            address,
            &[head.as_bytes(), &vec![b'x'; 100_000], SMUGGLED.as_bytes()].concat(),
        );
        assert_eq!(statuses(&text), [405], "{text}");
        assert!(text.to_lowercase().contains("connection: close\r\n"), "{text}");
        assert!(text.contains("\"UNSUPPORTED\""), "{text}");
    }
    stage.finish();
}

#[test]
fn every_verb_but_get_and_head_is_refused_on_every_route() {
    let stage = Stage::new();
    let digest = stage.image.digest();
    let routes = [
        "/v2/".to_owned(),
        "/v2/app/manifests/1.0.0".to_owned(),
        format!("/v2/app/manifests/{digest}"),
        format!("/v2/app/blobs/{digest}"),
        "/v2/app/blobs/uploads/".to_owned(),
        "/v2/app/blobs/uploads/some-id".to_owned(),
        format!("/v2/app/referrers/{digest}"),
        "/v2/app/tags/list".to_owned(),
        "/nothing".to_owned(),
        "*".to_owned(),
    ];
    let verbs = ["PUT", "POST", "PATCH", "DELETE", "TRACE", "OPTIONS", "PROPFIND", "FOO", "get"];
    let addresses = stage.immutag.addresses();
    for address in [addresses.mirror, addresses.direct] {
        for verb in verbs {
            for route in &routes {
                let request =
                    format!("{verb} {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                let text = exchange(address, request.as_bytes());
                assert_eq!(statuses(&text), [405], "{verb} {route}: {text}");
                assert!(text.to_lowercase().contains("allow: get, head\r\n"), "{text}");
                assert!(text.contains("\"UNSUPPORTED\"") && text.contains("READ_ONLY"), "{text}");
            }
        }
    }
    for method in ["GET", "HEAD"] {
        let url = stage.immutag.mirror(&format!("app/blobs/uploads/x?ns={REGISTRY}"));
        assert_eq!(Call::new(method, &url).send().status, 405);
    }
    let text = exchange(
        addresses.admin,
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(statuses(&text), [405]);
    assert_eq!(stage.registry.connections(), 0);
    stage.finish();
}

#[test]
fn a_header_that_names_another_method_changes_nothing() {
    let stage = Stage::new();
    let url = format!("http://{}{PATH}", stage.immutag.addresses().mirror);
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let answer = accepting(Call::new("GET", &url)).field(name, "DELETE").send();
        assert_eq!((answer.status, answer.digest()), (200, stage.image.digest()));
        assert_eq!(Call::new("DELETE", &url).field(name, "GET").send().status, 405);
    }
    assert_eq!(stage.registry.count("DELETE manifests/1.0.0"), 0);
    stage.finish();
}

#[test]
fn routing_does_not_depend_on_host() {
    let stage = Stage::new();
    let url = format!("http://{}{PATH}", stage.immutag.addresses().mirror);
    let admin = stage.immutag.addresses().admin.to_string();
    for host in ["ghcr.io", "evil.example", "localhost", &admin, "docker.io:443", "[::1]:5052", ""]
    {
        let answer = accepting(Call::new("GET", &url)).field("Host", host).send();
        assert_eq!((answer.status, answer.digest()), (200, stage.image.digest()), "{host}");
        let metrics = format!("http://{}/metrics", stage.immutag.addresses().mirror);
        assert_eq!(Call::new("GET", &metrics).field("Host", host).send().status, 404, "{host}");
    }
    let foreign = Call::new("GET", &stage.immutag.admin("/metrics")).field("Host", "ghcr.io");
    assert_eq!(foreign.send().status, 421);
    assert!(
        stage
            .registry
            .requests()
            .iter()
            .all(|request| { request.fields.get("Host") == Some(&*stage.registry.host()) })
    );
    stage.finish();
}
