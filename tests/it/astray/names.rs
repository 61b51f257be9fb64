//! S-01: names in requests are look-up keys, never places to dial.

use super::{Canary, refusal};
use crate::support::http::get;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

#[test]
fn an_unknown_registry_is_refused_and_never_dialled() {
    let hub = ScriptedRegistry::start();
    let canary = Canary::new();
    let port = canary.port();
    let mut immutag = Setup::new().docker_io(&hub.url()).start();
    let hosts = [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("127.1:{port}"),
        format!("0x7f.1:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "169.254.169.254".to_owned(),
        "evil.example".to_owned(),
        "docker.io.".to_owned(),
        "docker.io.evil.example".to_owned(),
        "docker.io:5000".to_owned(),
    ];
    for host in &hosts {
        for url in [
            immutag.mirror(&format!("app/manifests/1?ns={host}")),
            immutag.mirror(&format!("app/manifests/1?ns={}", host.replace(':', "%3A"))),
            immutag.mirror(&format!("{host}/app/manifests/1")),
            format!("http://{}/{host}/v2/app/tags/list", immutag.addresses().mirror),
            immutag.direct(&format!("{host}/app/manifests/1")),
        ] {
            let answer = get(&url);
            assert_eq!(refusal(&answer).1, "UPSTREAM_UNKNOWN", "{url}");
            let error = answer.json()["errors"][0].clone();
            assert_eq!((answer.status, error["code"].as_str()), (404, Some("NAME_UNKNOWN")));
        }
    }
    let long = "a".repeat(10 << 10);
    for ns in ["", "docker.io&ns=evil.example", "docker.io&ns=docker.io", "a/b", "%00", &long] {
        let answer = get(&immutag.mirror(&format!("app/manifests/1?ns={ns}")));
        assert_eq!((answer.status, refusal(&answer).1.as_str()), (404, "UPSTREAM_UNKNOWN"));
    }
    canary.assert_silent();
    assert_eq!(hub.connections(), 0);
    assert!(immutag.metric("immutag_upstream_requests_total", "").abs() < f64::EPSILON);
    // Told once by each listener, with what to paste.
    let printed = immutag.log();
    let told = printed.lines().filter(|line| line.contains("to add it: [upstream."));
    let told = told.filter(|line| line.contains(r#""\"evil.example\"""#));
    assert_eq!(told.count(), 2, "{printed}");
    immutag.assert_alive_and_clean();
}

#[test]
fn only_the_aliases_of_a_known_registry_lead_to_it() {
    let hub = ScriptedRegistry::start();
    let image = hub.push_image("library/app", "1.0.0", "a");
    let immutag = Setup::new().docker_io(&hub.url()).start();
    for ns in ["DOCKER.IO:443", "docker.io", "index.docker.io", "registry-1.docker.io%3A443"] {
        assert_eq!(immutag.manifest(ns, "app", "1.0.0").digest(), image.digest(), "{ns}");
    }
}
