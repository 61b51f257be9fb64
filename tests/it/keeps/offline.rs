//! `offline = true`: what is held and cached goes on for ever, everything else is refused in words,
//! and nobody is asked.

use rustix::process::Signal;

use super::{REGISTRY, blob, pull, remove_cache, setup, wait_until_whole};
use crate::support::content::Image;
use crate::support::http::{Call, get, head};
use crate::support::immutag::{Immutag, accepting};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

/// An immutag with `app:1.0.0` pulled, now offline and started anew; the registry is there, and
/// counts.
fn stage(reaction: &str) -> (ScriptedRegistry, Image, Immutag) {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let mut immutag = setup(&registry, reaction).start();
    pull(&immutag, "1.0.0");
    assert_eq!(pull(&immutag, a.digest()).status, 200);
    for part in a.layers.iter().chain([&a.config]) {
        assert_eq!(blob(&immutag, "app", &part.digest).body, part.bytes);
    }
    match reaction {
        "record" => immutag.wait_for_metric("immutag_events_total", "observed", 1.0),
        "alert" => {}
        _ => wait_until_whole(&immutag, &a),
    }
    // What moved meanwhile is nobody's business now.
    registry.push_image("app", "1.0.0", "b");
    immutag.terminate();
    immutag.restart_with(|setup| setup.top("offline = true\nstale-if-error = \"0s\""));
    registry.forget_requests();
    (registry, a, immutag)
}

#[track_caller]
fn assert_nobody_was_asked(registry: &ScriptedRegistry, connections: usize) {
    assert_eq!(registry.requests().len(), 0);
    assert_eq!(registry.connections(), connections);
}

#[test]
fn what_is_stored_is_served_without_a_word_to_any_upstream() {
    for reaction in ["record", "alert", "hold", "block"] {
        let (registry, a, mut immutag) = stage(reaction);
        let connections = registry.connections();
        for _ in 0..2 {
            let tag = pull(&immutag, "1.0.0");
            assert_eq!((tag.status, tag.digest()), (200, a.digest()), "{reaction}");
            let is_told = tag.field("warning").is_some_and(|warning| warning.contains("offline"));
            assert_eq!(is_told, reaction == "record", "{reaction}: {:?}", tag.field("warning"));
        }
        assert_eq!(pull(&immutag, a.digest()).body, a.manifest.blob.bytes);
        let layer = &a.layers[0];
        assert_eq!(blob(&immutag, "app", &layer.digest).body, layer.bytes);
        let url = immutag.mirror(&format!("app/blobs/{}?ns={REGISTRY}", layer.digest));
        let asked = head(&url);
        let length = layer.bytes.len().to_string();
        assert_eq!((asked.status, asked.field("content-length")), (200, Some(length.as_str())));
        let part = Call::new("GET", &url).field("range", "bytes=5-9").send();
        assert_eq!((part.status, part.body.as_slice()), (206, &layer.bytes[5..10]));
        immutag.wait_for_metric("immutag_retention_walks_total", "", 1.0);
        assert_nobody_was_asked(&registry, connections);
        assert!(!immutag.log().contains("could not be compared"), "nobody was to be asked");
        immutag.assert_alive_and_clean();
    }
}

#[test]
fn what_is_held_is_served_offline_without_the_cache() {
    let (_registry, a, mut immutag) = stage("hold");
    immutag.terminate();
    remove_cache(&immutag);
    immutag.restart();
    // By digest first: nobody named the tag to this process.
    assert_eq!(pull(&immutag, a.digest()).body, a.manifest.blob.bytes);
    assert_eq!(pull(&immutag, "1.0.0").digest(), a.digest());
    for part in a.layers.iter().chain([&a.config]) {
        assert_eq!(blob(&immutag, "app", &part.digest).body, part.bytes);
    }
}

#[track_caller]
fn assert_refused(answer: &crate::support::http::Answer) {
    let reason = answer.field("immutag-reason");
    assert_eq!((answer.status, reason), (403, Some("OFFLINE")), "{}", answer.text());
    let words = answer.text();
    for part in ["offline = true in its configuration", "SIGHUP"] {
        assert!(words.contains(part), "no {part} in {words}");
    }
}

#[test]
fn what_is_not_stored_is_refused_in_words() {
    let (registry, a, immutag) = stage("hold");
    let b = registry.push_image("app", "2.0.0", "b");
    let connections = registry.connections();
    // A covered tag that was never seen: a plain error would send a client to the registry.
    let mirror = immutag.mirror(&format!("app/manifests/2.0.0?ns={REGISTRY}"));
    let closed = accepting(Call::new("HEAD", &mirror)).send();
    assert_eq!(closed.status, 300, "{} {}", closed.reason, closed.digest());
    assert!(closed.reason.contains("OFFLINE"), "{}", closed.reason);
    assert_refused(&immutag.direct_manifest(REGISTRY, "app", "2.0.0"));
    let direct = |path: &str| get(&immutag.direct(&format!("{REGISTRY}/{path}")));
    assert_refused(&direct(&format!("app/manifests/{}", b.digest())));
    assert_refused(&direct(&format!("app/blobs/{}", b.layers[0].digest)));
    assert_refused(&direct("app/tags/list"));
    assert_refused(&direct(&format!("app/referrers/{}", a.digest())));
    // Stored, but the upstream never said that this repository has it.
    assert_refused(&direct(&format!("other/blobs/{}", a.layers[0].digest)));
    assert_refused(&direct(&format!("other/manifests/{}", a.digest())));
    assert_nobody_was_asked(&registry, connections);
}

#[test]
fn a_recorded_tag_that_is_not_stored_is_refused_plainly_on_a_mirror_too() {
    let (_registry, _, immutag) = stage("record");
    assert_refused(&pull(&immutag, "2.0.0"));
}

#[test]
fn a_contested_pin_that_is_not_whole_here_is_refused_offline() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let mut immutag = setup(&registry, "hold").tables("[cache]\nmax-size = \"0\"").start();
    pull(&immutag, "1.0.0");
    registry.push_image("app", "1.0.0", "b");
    pull(&immutag, "1.0.0");
    immutag.wait_for_metric("immutag_events_total", "conflict", 1.0);
    immutag.restart_with(|setup| setup.top("offline = true"));
    let mirror = immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}"));
    let closed = accepting(Call::new("HEAD", &mirror)).send();
    assert_eq!(closed.status, 300, "{} {}", closed.reason, closed.digest());
    assert!(closed.reason.contains("PINNED_CONTENT_GONE") && closed.reason.contains("offline"));
    assert!(closed.reason.contains(&a.config.digest) || closed.reason.contains("sha256:"));
}

#[test]
fn offline_is_switched_on_and_off_by_sighup() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag: Immutag = Setup::new()
        .top("offline = false")
        .upstream(REGISTRY, &registry.url())
        .every_tag("block", "0s")
        .start();
    assert_eq!(pull(&immutag, "1.0.0").digest(), a.digest());
    let online = immutag.configuration();
    let tag = || immutag.direct_manifest(REGISTRY, "app", "2.0.0").status;
    immutag.write_configuration(&online.replace("offline = false", "offline = true"));
    immutag.signal(Signal::HUP);
    eventually("it is offline", || tag() == 403);
    let connections = registry.connections();
    registry.forget_requests();
    assert_eq!(pull(&immutag, "1.0.0").digest(), a.digest());
    assert_nobody_was_asked(&registry, connections);
    let b = registry.push_image("app", "2.0.0", "b");
    immutag.write_configuration(&online);
    immutag.signal(Signal::HUP);
    eventually("it is online", || tag() == 200);
    assert_eq!(pull(&immutag, "2.0.0").digest(), b.digest());
}
