//! Which versions of TLS and HTTP a listener speaks, and what it makes of a request in each.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use super::{REGISTRY, Stage, connect};
use crate::support::frames::Http2;
use crate::support::wire::{Reader, Wire};

/// What a handshake came to.
#[derive(Debug, PartialEq)]
struct Agreed {
    version: Option<ProtocolVersion>,
    http: Option<String>,
    kind: Option<HandshakeKind>,
}

/// Makes a handshake, asks for `/v2/` if that is HTTP/1.1, and tells what was agreed.
fn agree(address: SocketAddr, client: &Arc<ClientConfig>, offer: &[&str]) -> Option<Agreed> {
    let mut wire = connect(address, client, offer);
    let request = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    wire.write_all(request).ok()?;
    let mut bytes = Vec::new();
    // An HTTP/2 server breaks off here.
    let _ = wire.read_to_end(&mut bytes);
    let Wire::Client(stream) = &wire else { panic!("a client's side") };
    let http = stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let is_http_1 = http.as_deref() != Some("h2");
    assert_eq!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"), is_http_1, "{http:?}");
    Some(Agreed {
        version: stream.conn.protocol_version(),
        http,
        kind: stream.conn.handshake_kind(),
    })
}

#[test]
fn http_2_is_offered_to_clients_of_a_direct_listener_only() {
    let stage = Stage::new();
    let client = stage.authority.client();
    let agreed = |address, offer: &[&str]| agree(address, &client, offer).map(|it| it.http);
    let (h2, h1) = (Some("h2".to_owned()), Some("http/1.1".to_owned()));
    for (offer, direct, mirror) in [
        (&["h2", "http/1.1"][..], Some(h2.clone()), Some(h1.clone())),
        (&["http/1.1", "h2"], Some(h2.clone()), Some(h1.clone())),
        (&["http/1.1"], Some(h1.clone()), Some(h1)),
        (&[], Some(None), Some(None)),
        (&["h2"], Some(h2), None),
        (&["spdy/3"], None, None),
    ] {
        assert_eq!(agreed(stage.direct(), offer), direct, "direct {offer:?}");
        assert_eq!(agreed(stage.mirror(), offer), mirror, "mirror {offer:?}");
    }
    stage.finish();
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_sessions_are_taken_up_again() {
    let stage = Stage::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Arc::new(stage.authority.client_of(&[version]));
        for address in [stage.mirror(), stage.direct()] {
            let first = agree(address, &client, &["http/1.1"]).unwrap();
            assert_eq!(first.version, Some(version.version));
            assert_eq!(first.kind, Some(HandshakeKind::Full));
            let second = agree(address, &client, &["http/1.1"]).unwrap();
            assert_eq!(second.kind, Some(HandshakeKind::Resumed), "{version:?}");
        }
    }
    stage.finish();
}

#[test]
fn the_words_of_a_block_reach_a_client_of_a_mirror_with_tls() {
    let stage = Stage::with(|setup| setup.only_rules("").every_tag("block", "0s"));
    stage.pull();
    stage.registry.push_image("app", "1.0.0", "moved");
    let path = format!("app/manifests/1.0.0?ns={REGISTRY}");
    let answer = stage.call("HEAD", stage.mirror(), &path).send();
    assert_eq!(answer.status, 300);
    assert!(answer.reason.contains(stage.image.digest()), "{}", answer.reason);
    let path = format!("{REGISTRY}/app/manifests/1.0.0");
    assert_eq!(stage.get(stage.direct(), &path).status, 403);
    let mut http2 = Http2::connect(stage.direct(), &stage.authority.client());
    assert_eq!(http2.get(&format!("/v2/{path}")).status, 403);
    stage.registry.retag("app", "1.0.0", stage.image.digest());
    drop(http2);
    stage.finish();
}

#[test]
fn a_pull_over_http_2_is_as_over_http_1() {
    let stage = Stage::new();
    let large = stage.blob(3_000_000);
    let mut http2 = Http2::connect(stage.direct(), &stage.authority.client());
    let manifest = http2.get(&format!("/v2/{REGISTRY}/app/manifests/1.0.0"));
    assert_eq!((manifest.status, &manifest.body[..]), (200, &stage.image.manifest.blob.bytes[..]));
    let path = format!("/v2/{REGISTRY}/app/manifests/1.0.0");
    let fields = [(":method", "HEAD"), (":scheme", "https"), (":path", &path), ("host", "x")];
    let head = http2.request(&fields);
    assert!(head.status == 200 && head.whole && head.body.is_empty());
    let blob = http2.get(&format!("/v2/{REGISTRY}/app/blobs/{}", large.digest));
    assert!(blob.status == 200 && blob.whole && blob.body == large.bytes);
    assert_eq!(http2.get("/v2/").status, 200);
    assert_eq!(http2.get("/v2/unknown.example/app/manifests/1").status, 404);
    drop(http2);
    stage.finish();
}

#[test]
fn a_cut_blob_ends_its_stream_and_not_the_connection() {
    let stage = Stage::new();
    let blob = stage.blob(1_000_000);
    // So little that what is left is not asked for for ever.
    let cut = crate::support::fault::Fault::Cut(10_000, crate::support::server::Ending::Reset);
    stage.registry.fault("GET blobs/", cut);
    let mut http2 = Http2::connect(stage.direct(), &stage.authority.client());
    let path = format!("/v2/{REGISTRY}/app/blobs/{}", blob.digest);
    let answer = http2.get(&path);
    let told = (answer.status, answer.whole, answer.body.len());
    // The reset may overtake the head.
    assert!(matches!(told, (0 | 200, false, ..=500_000)), "{told:?}");
    stage.registry.clear_faults();
    let answer = http2.get(&path);
    assert!(answer.status == 200 && answer.whole && answer.body == blob.bytes);
    drop(http2);
    stage.finish();
}

#[test]
fn in_http_2_the_authority_stands_for_host_and_nothing_contradicts_it() {
    let stage = Stage::new();
    let path = format!("/v2/{REGISTRY}/app/manifests/1.0.0");
    let base = [(":method", "GET"), (":scheme", "https"), (":path", path.as_str())];
    let mut http2 = Http2::connect(stage.direct(), &stage.authority.client());
    for (fields, status) in [
        (&[(":authority", "a.example")][..], 200),
        (&[(":authority", "a.example:5051"), ("host", "A.example:5051")], 200),
        (&[("host", "a.example")], 200),
        (&[(":authority", "a.example"), ("host", "b.example")], 400),
        (&[(":authority", "a.example"), ("host", "a.example"), ("host", "a.example")], 400),
        (&[("host", "a.example"), ("host", "b.example")], 400),
        (&[(":authority", "user@a.example")], 400),
        (&[], 400),
    ] {
        let all: Vec<_> = base.iter().chain(fields).copied().collect();
        assert_eq!(http2.request(&all).status, status, "{fields:?}");
    }
    for (method, path) in [("OPTIONS", "*"), ("POST", path.as_str()), ("DELETE", path.as_str())] {
        let fields = [(":method", method), (":scheme", "https"), (":path", path), ("host", "x")];
        assert_ne!(http2.request(&fields).status, 200, "{method} {path}");
    }
    let connect = http2.request(&[(":method", "CONNECT"), (":authority", "evil.example:443")]);
    assert_eq!(connect.status, 400);
    assert_eq!(stage.registry.count("POST manifests/1.0.0"), 0);
    drop(http2);
    stage.finish();
}

#[test]
fn what_is_no_tls_is_refused_and_tls_without_a_client_s_trust_fails_at_the_client() {
    let stage = Stage::new();
    for address in [stage.mirror(), stage.direct()] {
        let plain = crate::support::immutag::Immutag::raw(address, b"GET /v2/ HTTP/1.1\r\n\r\n");
        assert!(!plain.windows(4).any(|part| part == b"HTTP"), "{plain:?}");
        let stranger = crate::support::tls::Authority::new().client();
        let mut wire = connect(address, &stranger, &["http/1.1"]);
        assert!(wire.write_all(b"GET /v2/ HTTP/1.1\r\n\r\n").is_err());
        let mut wire = connect(address, &stage.authority.client(), &["http/1.1"]);
        wire.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let answer = Reader::default().rest(&mut wire).bytes;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    stage.finish();
}

#[test]
fn sigterm_lets_an_http_2_pull_end_and_waits_for_no_idle_client() {
    let mut stage = Stage::new();
    let large = stage.blob(1_000_000);
    let gate = crate::support::gate::Gate::closed();
    let hold = crate::support::fault::Fault::HoldBody(500_000, gate.clone());
    stage.registry.fault_times("GET blobs/", hold, 1);
    // It never answers what the server says at the end.
    let mut idle = Http2::connect(stage.direct(), &stage.authority.client());
    assert_eq!(idle.get("/v2/").status, 200);
    let mut busy = Http2::connect(stage.direct(), &stage.authority.client());
    std::thread::scope(|scope| {
        let path = format!("/v2/{REGISTRY}/app/blobs/{}", large.digest);
        let pull = scope.spawn(move || busy.get(&path));
        gate.wait_for(1);
        stage.immutag.signal(rustix::process::Signal::TERM);
        stage.immutag.wait_for_log("draining");
        gate.open();
        let reply = pull.join().unwrap();
        assert!(reply.whole && reply.body == large.bytes);
    });
    assert_eq!(stage.immutag.wait().code(), Some(0));
    drop(idle);
    stage.immutag.restart();
    stage.finish();
}

#[test]
fn a_listener_with_tls_is_told_as_such() {
    let stage = Stage::new();
    let valid = stage.immutag.cli(&["validate"]).ok().stdout;
    let (mirror, direct) = (stage.mirror(), stage.direct());
    for (kind, address) in [("mirror", mirror), ("direct", direct)] {
        let words = format!("\"kind\":\"{kind}\",\"address\":\"{address}\",\"scheme\":\"https\"");
        assert!(valid.contains(&words), "{words}: {valid}");
    }
    stage.immutag.wait_for_log(&format!("mirror   https://{mirror}"));
    stage.immutag.wait_for_log(&format!("direct   https://{direct}"));
    stage.immutag.wait_for_log(&format!("[host.\\\"https://{mirror}\\\"]"));
    stage.finish();
}
