//! The scripted registry does each wrong thing that it can be told to.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use crate::support::content::{Image, Manifest, OCI_MANIFEST, sha256};
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::{Call, get, head, raw};
use crate::support::registry::ScriptedRegistry;
use crate::support::server::{Ending, Framing, Reply};
use crate::support::tls::Authority;
use crate::support::wait::{eventually, within};

fn registry() -> (ScriptedRegistry, Image, String) {
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "v1", "one");
    let url = format!("{}/v2/app/manifests/v1", registry.url());
    (registry, image, url)
}

#[test]
fn it_answers_as_a_registry_does() {
    let (registry, image, url) = registry();
    let base = format!("{}/v2", registry.url());
    let (by_get, by_head) = (get(&url), head(&url));
    assert_eq!((by_get.status, by_head.status), (200, 200));
    assert_eq!(by_get.reason, "As Scripted");
    assert_eq!(by_get.digest(), image.digest());
    assert_eq!(sha256(&by_get.body), image.digest());
    assert_eq!(by_head.field("Content-Length"), by_get.field("Content-Length"));
    assert!(by_head.body.is_empty() && by_get.whole);

    let blob = format!("{base}/app/blobs/{}", image.layers[0].digest);
    assert_eq!(get(&blob).body, image.layers[0].bytes);
    let part = Call::new("GET", &blob).field("Range", "bytes=10-").send();
    assert_eq!((part.status, part.body.as_slice()), (206, &image.layers[0].bytes[10..]));
    assert_eq!(Call::new("GET", &blob).field("Range", "bytes=999999-").send().status, 416);

    assert_eq!(get(&format!("{base}/")).status, 200);
    assert_eq!(get(&format!("{base}/app/manifests/none")).status, 404);
    assert_eq!(get(&format!("{base}/none/tags/list")).status, 404);
    assert_eq!(Call::new("PUT", &url).body(b"{}").send().status, 405);
    assert_eq!((registry.count("GET manifests/v1"), registry.count("* manifests/v1")), (1, 3));
    assert_eq!(registry.count("GET blobs/"), 3);
    let last = registry.requests().pop().expect("it was asked");
    assert_eq!((last.target.as_str(), last.body.as_slice()), ("/v2/app/manifests/v1", &b"{}"[..]));
}

#[test]
fn it_lists_tags_by_page_and_referrers() {
    let (registry, image, _) = registry();
    registry.retag("app", "v2", image.digest());
    registry.retag("app", "v3", image.digest());
    let base = format!("{}/v2/app", registry.url());
    let page = get(&format!("{base}/tags/list?n=2"));
    assert_eq!(page.json()["tags"], serde_json::json!(["v1", "v2"]));
    assert_eq!(page.field("Link"), Some(r#"</v2/app/tags/list?n=2&last=v2>; rel="next""#));
    let rest = get(&format!("{base}/tags/list?n=2&last=v2"));
    assert_eq!(rest.json()["tags"], serde_json::json!(["v3"]));
    assert_eq!(rest.field("Link"), None);

    let index = registry.push_index("app", "multi", "two", &["amd64"]);
    registry.put_referrers("app", image.digest(), &index);
    let referrers = get(&format!("{base}/referrers/{}", image.digest()));
    assert_eq!(referrers.body, index.manifest.blob.bytes);
}

#[test]
fn tags_move_flip_vanish_and_convert() {
    let (registry, first, url) = registry();
    let second = Image::sized("two", 10);
    registry.put_image("app", &second);
    let index = registry.push_index("app", "multi", "three", &["amd64"]);
    let both = [first.digest(), second.digest()];

    registry.flip_each_request("app", "v1", &both);
    let seen: Vec<String> = (0..4).map(|_| get(&url).digest().to_owned()).collect();
    assert_eq!(seen, [both[0], both[1], both[0], both[1]]);

    registry.flip_every("app", "v1", &both, Duration::from_millis(1));
    let mut seen = HashSet::new();
    eventually("both digests", || {
        seen.insert(get(&url).digest().to_owned());
        seen.len() == 2
    });

    registry.delete_tag("app", "v1");
    assert_eq!(get(&url).status, 404);

    let child = index.images[0].digest();
    registry.down_convert("app", "multi", child);
    let multi = format!("{}/v2/app/manifests/multi", registry.url());
    let call = |accept: &str| Call::new("GET", &multi).field("Accept", accept).send();
    assert_eq!(call(OCI_MANIFEST).digest(), child);
    assert_eq!(call(crate::support::content::OCI_INDEX).digest(), index.digest());
    registry.delete("app", child);
    assert_eq!(call(OCI_MANIFEST).status, 404);
}

#[test]
fn it_lies_in_heads() {
    let (registry, image, url) = registry();
    let cases: [(Fault, u16, &str, Option<&str>); 6] = [
        (Fault::Status(503), 503, "X", None),
        (
            Fault::field("Docker-Content-Digest", "sha256:0"),
            200,
            "docker-content-digest",
            Some("sha256:0"),
        ),
        (Fault::field("Content-Encoding", "gzip"), 200, "content-encoding", Some("gzip")),
        (Fault::without("Content-Type"), 200, "content-type", None),
        (
            Fault::Redirect(307, "http://127.0.0.1:1/".into()),
            307,
            "location",
            Some("http://127.0.0.1:1/"),
        ),
        (Fault::Challenge("Basic x".into()), 401, "www-authenticate", Some("Basic x")),
    ];
    for (fault, status, field, value) in cases {
        registry.fault_times("GET manifests/v1", fault, 1);
        let answer = get(&url);
        assert_eq!((answer.status, answer.field(field)), (status, value));
    }
    registry.fault("GET /v2/app/manifests/v1", Fault::Body(Bytes::from_static(b"other")));
    assert_eq!(get(&url).body, b"other");
    registry.clear_faults();
    assert_eq!(get(&url).digest(), image.digest());

    let evil = Manifest::new("text/plain", "{}");
    registry.put_manifest("app", &evil);
    registry.retag("app", "v1", evil.digest());
    assert_eq!(get(&url).field("content-type"), Some("text/plain"));
}

#[test]
fn it_cuts_bodies_cleanly_and_with_a_reset() {
    let (registry, image, _) = registry();
    let blob = format!("{}/v2/app/blobs/{}", registry.url(), image.layers[0].digest);
    let size = image.layers[0].bytes.len();
    for ending in [Ending::Fin, Ending::Reset] {
        for at in [0, 1, size - 1] {
            registry.fault_times("GET blobs/", Fault::Cut(at, ending), 1);
            let answer = get(&blob);
            assert!(!answer.whole && answer.body.len() <= at, "{at} {ending:?}");
        }
    }
    assert!(get(&blob).whole);
}

#[test]
fn it_frames_bodies_in_every_way() {
    let (registry, image, url) = registry();
    let body = &image.manifest.blob.bytes;
    for framing in [Framing::Chunked, Framing::Close] {
        registry.fault_times("GET manifests/v1", Fault::Frame(framing), 1);
        let answer = get(&url);
        assert!(answer.whole && answer.body == *body && answer.field("Content-Length").is_none());
    }
    registry.fault_times("GET manifests/v1", Fault::ClaimLength("10".into()), 1);
    assert_eq!(get(&url).body, &body[..10]);
    registry.fault_times("GET manifests/v1", Fault::ClaimLength("-1".into()), 1);
    let lie = raw(address(&registry), b"GET /v2/app/manifests/v1 HTTP/1.1\r\n\r\n", SILENCE);
    assert!(String::from_utf8_lossy(&lie).contains("Content-Length: -1\r\n"));
    let bytes = Bytes::from_static(b"HTTP/1.1 200 OK\nno http");
    registry.fault_times("GET manifests/v1", Fault::Raw(bytes.clone(), Ending::Fin), 1);
    assert_eq!(
        raw(address(&registry), b"GET /v2/app/manifests/v1 HTTP/1.1\r\n\r\n", SILENCE),
        bytes
    );
    let reply = Reply::new(206).body("text/plain", "part");
    registry.fault_times("GET manifests/v1", Fault::Replace(Box::new(reply)), 1);
    assert_eq!(get(&url).status, 206);
}

#[test]
fn an_endless_body_has_no_end() {
    use std::io::{Read as _, Write as _};
    let (registry, _, _) = registry();
    registry.fault("GET manifests/v1", Fault::Endless);
    let mut socket = std::net::TcpStream::connect(registry.host()).expect("it listens");
    socket.write_all(b"GET /v2/app/manifests/v1 HTTP/1.1\r\n\r\n").expect("it reads");
    let mut received = vec![0; 8 << 20];
    socket.read_exact(&mut received).expect("8 MiB of it");
}

#[test]
fn gates_hold_heads_and_bodies_until_they_open() {
    let (registry, image, url) = registry();
    for (fault, gate) in
        [Gate::closed(), Gate::closed()].map(|gate| (Fault::Hold(gate.clone()), gate))
    {
        registry.fault_times("GET manifests/v1", fault, 1);
        let waiting = std::thread::spawn({
            let url = url.clone();
            move || get(&url)
        });
        gate.wait_for(1);
        assert!(!waiting.is_finished());
        gate.open();
        assert_eq!(waiting.join().expect("no panic").digest(), image.digest());
    }
    let gate = Gate::closed();
    registry.fault_times("GET manifests/v1", Fault::HoldBody(7, gate.clone()), 1);
    let begun = raw(address(&registry), b"GET /v2/app/manifests/v1 HTTP/1.1\r\n\r\n", SILENCE);
    assert!(begun.ends_with(&image.manifest.blob.bytes[..7]));
    gate.open();
}

#[test]
fn it_notices_credentials_that_nobody_asked_for() {
    let (registry, _, url) = registry();
    Call::new("GET", &url).field("Authorization", "Basic eDp5").send();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        registry.assert_treated_well();
    }));
    assert!(caught.is_err());
    // Dropped, it would fail this test too, and rightly.
    std::mem::forget(registry);

    let (registry, _, url) = self::registry();
    registry.tolerate_credentials();
    Call::new("GET", &url).field("Authorization", "Basic eDp5").send();
}

#[test]
fn it_stops_and_breaks_what_is_open() {
    let (mut registry, _, url) = registry();
    let gate = Gate::closed();
    registry.fault("GET manifests/v1", Fault::HoldBody(3, gate.clone()));
    let waiting = std::thread::spawn({
        let url = url.clone();
        move || get(&url)
    });
    gate.wait_for(1);
    registry.wait_for("GET manifests/v1", 1);
    registry.stop();
    gate.open();
    assert!(!waiting.join().expect("no panic").whole);
    assert!(Call::new("GET", &url).try_send().is_err());
    assert_eq!(registry.connections(), 1);
}

#[test]
fn tls_is_spoken_to_those_who_trust() {
    let authority = Authority::new();
    let tls = authority.issue(&["127.0.0.1", "localhost"]).server();
    let registry = ScriptedRegistry::start_with(Some(tls));
    let image = registry.push_image("app", "v1", "one");
    let url = format!("{}/v2/app/manifests/v1", registry.url());
    assert!(url.starts_with("https://"));
    let trusting = Call::new("GET", &url).trust(Some(authority.client())).send();
    assert_eq!(trusting.digest(), image.digest());
    let stranger = Authority::new();
    assert!(Call::new("GET", &url).trust(Some(stranger.client())).try_send().is_err());
    registry.forget_requests();
    assert!(registry.requests().is_empty());
}

#[test]
fn waiting_gives_up() {
    assert!(!within(Duration::from_millis(5), || false));
}

const SILENCE: Duration = Duration::from_millis(300);

fn address(registry: &ScriptedRegistry) -> std::net::SocketAddr {
    registry.host().parse().expect("an address")
}
