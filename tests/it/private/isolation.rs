//! What never shares an entry, and what answers at all.

use crate::support::http::{Call, get};
use crate::support::immutag::{Immutag, accepting};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

#[test]
fn the_same_path_on_two_upstreams_is_two_things() {
    let (one, two) = (ScriptedRegistry::start(), ScriptedRegistry::start());
    let a = one.push_image("app", "1.0.0", "one");
    let b = two.push_image("app", "1.0.0", "two");
    let immutag = Setup::new()
        .upstream("registry.example", &one.url())
        .upstream("registry.example:5000", &two.url())
        .every_tag("hold", "1h")
        .start();
    let names = [
        ("registry.example", a.digest()),
        ("registry.example:5000", b.digest()),
        ("REGISTRY.example", a.digest()),
        ("registry.example:443", a.digest()),
        ("Registry.Example:5000", b.digest()),
    ];
    for (name, digest) in names {
        assert_eq!(immutag.manifest(name, "app", "1.0.0").digest(), digest, "{name}");
        assert_eq!(immutag.direct_manifest(name, "app", "1.0.0").digest(), digest, "{name}");
        let by_prefix = format!("{name}/app/manifests/1.0.0");
        let by_prefix = accepting(Call::new("GET", &immutag.mirror(&by_prefix))).send();
        assert_eq!(by_prefix.digest(), digest, "{name}");
    }
    assert!((immutag.metric("immutag_pins", "") - 2.0).abs() < f64::EPSILON);
    // What is here for one is not thereby here for the other, by digest neither.
    let config = &a.config.digest;
    assert_eq!(get(&immutag.direct(&format!("registry.example/app/blobs/{config}"))).status, 200);
    let other = immutag.direct(&format!("registry.example:5000/app/blobs/{config}"));
    assert_eq!(get(&other).status, 404);
    assert_eq!(immutag.direct_manifest("registry.example:5000", "app", a.digest()).status, 404);
    assert_eq!(immutag.direct_manifest("registry.example", "other", a.digest()).status, 404);
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

fn paths(listener: &str) -> Vec<String> {
    let paths = [
        "",
        "v1/",
        "V2/",
        "v2",
        "metrics",
        "livez",
        "readyz",
        "healthz",
        "debug",
        "debug/pprof/",
        "log",
        "admin",
        "admin/ledger",
        "ca.pem",
        "ledger",
        "api/v1/pins",
        "token",
        "index.html",
        "v2/_catalog",
        "v2/x",
        ".env",
        "v2/../metrics",
        "%2e%2e/metrics",
        "//metrics",
    ];
    paths.iter().map(|path| format!("http://{listener}/{path}")).collect()
}

fn state(immutag: &Immutag) -> (f64, f64, u16) {
    let sequence = immutag.metric("immutag_ledger_sequence", "");
    (sequence, immutag.metric("immutag_pins", ""), get(&immutag.admin("/readyz")).status)
}

#[test]
fn a_registry_listener_answers_under_v2_alone() {
    let registry = ScriptedRegistry::start();
    let mut immutag = Setup::new().docker_io(&registry.url()).start();
    let before = state(&immutag);
    for listener in [immutag.addresses().mirror, immutag.addresses().direct] {
        let ping = get(&format!("http://{listener}/v2/"));
        assert_eq!((ping.status, ping.text().as_str()), (200, "{}"));
        for url in paths(&listener.to_string()) {
            for method in METHODS {
                let answer = Call::new(method, &url).send();
                let is_ping = url.ends_with("/v2") && matches!(method, "GET" | "HEAD");
                let refused = matches!(answer.status, 400 | 404 | 405);
                assert!(refused != is_ping, "{method} {url}: {answer:?}");
                assert_eq!(answer.field("Location"), None, "{method} {url}");
                assert!(!answer.text().contains("immutag_pins"), "{method} {url}");
            }
        }
    }
    assert_eq!(registry.requests().len(), 0);
    assert_eq!(state(&immutag), before);
    immutag.assert_alive_and_clean();
}

#[test]
fn the_admin_listener_reads_and_changes_nothing() {
    let registry = ScriptedRegistry::start();
    let mut immutag = Setup::new().docker_io(&registry.url()).start();
    let before = state(&immutag);
    for url in paths(&immutag.addresses().admin.to_string()) {
        let known = ["/metrics", "/livez", "/readyz"]
            .iter()
            .any(|path| url.strip_prefix(&immutag.admin("")).is_some_and(|rest| rest == *path));
        for method in METHODS {
            let answer = Call::new(method, &url).send();
            let expected = match method {
                "GET" | "HEAD" if known => 200,
                "GET" | "HEAD" => 404,
                _ => 405,
            };
            assert_eq!(answer.status, expected, "{method} {url}");
        }
    }
    let posted = Call::new("POST", &immutag.admin("/metrics")).body(b"x=1").send();
    assert_eq!((posted.status, posted.field("Allow")), (405, Some("GET, HEAD")));
    assert_eq!(state(&immutag), before);
    immutag.assert_alive_and_clean();
}

#[test]
fn the_admin_listener_refuses_a_foreign_name() {
    let registry = ScriptedRegistry::start();
    let immutag = Setup::new().docker_io(&registry.url()).start();
    let port = immutag.addresses().admin.port();
    let ask = |host: &str| {
        let call = Call::new("GET", &immutag.admin("/metrics"));
        call.field("Host", host).send()
    };
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "10.1.2.3"] {
        assert_eq!(ask(&format!("{host}:{port}")).status, 200, "{host}");
        assert_eq!(ask(host).status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "x:1:2"] {
        let answer = ask(host);
        assert_eq!(answer.status, 421, "{host}");
        assert!(!answer.text().contains("immutag_"), "{host}");
    }
}
