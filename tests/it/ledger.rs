//! What the ledger promises, seen from outside: one digest for one tag, whoever races, whatever
//! the upstream does, across restarts and kills. `faults.md`, group L.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::content::Image;
use crate::support::fault::Fault;
use crate::support::http::{Answer, Call};
use crate::support::immutag::{Immutag, accepting};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

/// A registry whose tags flip between two images every millisecond.
fn flipping(tags: &[String]) -> (ScriptedRegistry, [Image; 2]) {
    let registry = ScriptedRegistry::start();
    let images = [Image::new("a"), Image::new("b")];
    for image in &images {
        registry.put_image("app", image);
    }
    let digests = [images[0].digest(), images[1].digest()];
    for tag in tags {
        registry.flip_every("app", tag, &digests, Duration::from_millis(1));
    }
    (registry, images)
}

fn holding(registry: &ScriptedRegistry, reaction: &str) -> Immutag {
    Setup::new().upstream(REGISTRY, &registry.url()).every_tag(reaction, "0s").start()
}

/// A pull that a kill may cut: `None` then.
fn try_pull(immutag_url: &str) -> Option<Answer> {
    let answer = accepting(Call::new("GET", immutag_url)).try_send().ok()?;
    (answer.status == 200).then_some(answer)
}

fn url(immutag: &Immutag, tag: &str) -> String {
    immutag.mirror(&format!("app/manifests/{tag}?ns={REGISTRY}"))
}

#[test]
fn clients_that_race_for_a_first_sight_of_a_flipping_tag_all_get_one_digest() {
    let tags = ["1.0.0".to_owned()];
    let (registry, images) = flipping(&tags);
    let mut immutag = holding(&registry, "hold");
    let url = url(&immutag, "1.0.0");
    let digests = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let answer = try_pull(&url).expect("a held tag is served");
                    digests.lock().unwrap().push(answer.digest().to_owned());
                }
            });
        }
    });
    let mut digests = digests.into_inner().unwrap();
    assert_eq!(digests.len(), 256);
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
    // The other one is seen sooner or later, and is in the history, once.
    eventually("a conflict", || {
        assert_eq!(try_pull(&url).expect("a held tag is served").digest(), digests[0]);
        immutag.metric("immutag_events_total", "conflict") >= 1.0
    });
    assert!(immutag.metric("immutag_events_total", "conflict") < 1.5);
    assert!(images.iter().any(|image| image.digest() == digests[0]));
    assert!((immutag.metric("immutag_pins", "") - 1.0).abs() < f64::EPSILON);
    immutag.assert_alive_and_clean();
}

#[test]
fn no_acknowledged_pin_is_lost_and_no_second_digest_served_across_kills() {
    let kills = if std::env::var_os("IMMUTAG_TEST_LONG").is_some() { 500 } else { 30 };
    let tags: Vec<String> = (0..kills * 4).map(|number| format!("1.0.{number}")).collect();
    let (registry, _images) = flipping(&tags);
    let mut immutag = holding(&registry, "hold");
    let acknowledged = Mutex::new(BTreeMap::<String, String>::new());
    for round in 0..kills {
        let fresh = &tags[round * 4..round * 4 + 4];
        let urls: Vec<_> = fresh.iter().map(|tag| (tag, url(&immutag, tag))).collect();
        std::thread::scope(|scope| {
            for (tag, url) in urls.iter().chain(&urls) {
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    while let Some(answer) = try_pull(url) {
                        let digest = answer.digest().to_owned();
                        let mut acknowledged = acknowledged.lock().unwrap();
                        let first = acknowledged.entry((*tag).clone()).or_insert(digest.clone());
                        assert_eq!(*first, digest, "a second digest for {tag}");
                    }
                });
            }
            // The kill falls somewhere into the pulls: after none, some or nearly all of them,
            // and a little earlier or later with each round.
            let known = || acknowledged.lock().unwrap();
            eventually("pulls", || {
                known().keys().filter(|tag| fresh.contains(tag)).count() >= round % 4
            });
            let deadline = Instant::now() + Duration::from_micros(round as u64 * 977 % 3000);
            while Instant::now() < deadline {
                std::hint::spin_loop();
            }
            immutag.kill9();
        });
        immutag.restart();
        for (tag, digest) in &*acknowledged.lock().unwrap() {
            if fresh.contains(tag) || round + 1 == kills {
                let answer = try_pull(&url(&immutag, tag)).expect("an acknowledged pin is served");
                assert_eq!(answer.digest(), digest, "{tag} after kill {round}");
            }
        }
    }
    let acknowledged = acknowledged.into_inner().unwrap().len();
    println!("{kills} kills, {acknowledged} of {} tags acknowledged before one", tags.len());
    assert!(acknowledged > kills, "too few pins were acknowledged to prove anything");
    immutag.assert_alive_and_clean();
}

#[test]
fn a_deleted_tag_that_comes_back_with_other_content_is_a_conflict() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = holding(&registry, "block");
    let pull = |tag| immutag.direct_manifest(REGISTRY, "app", tag);
    assert_eq!(pull("1.0.0").digest(), a.digest());
    registry.delete_tag("app", "1.0.0");
    assert_eq!(pull("1.0.0").status, 404, "a young first sight proves little");
    assert!((immutag.metric("immutag_events_total", "deleted") - 1.0).abs() < f64::EPSILON);
    assert!((immutag.metric("immutag_pins", "") - 1.0).abs() < f64::EPSILON);
    registry.push_image("app", "1.0.0", "b");
    let refused = pull("1.0.0");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["errors"][0]["detail"]["pinned"], a.digest());
}

#[test]
fn a_tag_that_comes_back_after_a_deletion_reaches_no_client_past_the_pin() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let immutag = holding(&registry, "hold");
    let pull = || immutag.manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(pull().digest(), a.digest());
    registry.delete_tag("app", "1.0.0");
    let direct = || immutag.direct_manifest(REGISTRY, "app", "1.0.0").status;
    eventually("the deletion is seen", || direct() == 404);
    assert_ne!(pull().status, 404, "a mirror's client would go on to the registry");
    registry.push_image("app", "1.0.0", "b");
    assert_eq!(pull().digest(), a.digest());
}

#[test]
fn a_rule_that_says_so_covers_latest_like_any_other_tag() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("odd/latest", "latest", "a");
    let immutag = holding(&registry, "hold");
    assert_eq!(immutag.manifest(REGISTRY, "odd/latest", "latest").digest(), a.digest());
    registry.push_image("odd/latest", "latest", "b");
    assert_eq!(immutag.manifest(REGISTRY, "odd/latest", "latest").digest(), a.digest());
}

#[test]
fn a_rule_that_turns_stricter_pins_what_was_last_served() {
    let registry = ScriptedRegistry::start();
    registry.push_image("app", "1.0.0", "a");
    let mut immutag =
        Setup::new().upstream(REGISTRY, &registry.url()).every_tag("record", "").start();
    let pull = |immutag: &Immutag| immutag.manifest(REGISTRY, "app", "1.0.0").digest().to_owned();
    pull(&immutag);
    let b = registry.push_image("app", "1.0.0", "b");
    assert_eq!(pull(&immutag), b.digest());
    immutag.wait_for_metric("immutag_events_total", "observed", 2.0);
    let under =
        |reaction, recheck| move |setup: Setup| setup.without_rules().every_tag(reaction, recheck);
    let c = registry.push_image("app", "1.0.0", "c");
    immutag.restart_with(under("hold", "0s"));
    assert_eq!(pull(&immutag), b.digest(), "the last one served is the pin");
    immutag.restart_with(under("record", ""));
    assert_eq!(pull(&immutag), c.digest());
    immutag.wait_for_metric("immutag_events_total", "observed", 1.0);
    immutag.restart_with(under("block", "0s"));
    assert_eq!(pull(&immutag), c.digest(), "and back");
}

#[test]
fn trouble_at_a_first_sight_pins_nothing() {
    use crate::support::server::Ending;
    let garbage = |text: &'static str| Fault::Body(text.as_bytes().into());
    let troubles = [
        ("500", Fault::Status(500), 502),
        ("503", Fault::Status(503), 502),
        ("silence", Fault::Raw("".into(), Ending::Keep), 504),
        ("no JSON", garbage("<html>be right back</html>"), 502),
        ("half a manifest", garbage("{\"schemaVersion\":2,"), 502),
        ("cut in the middle", Fault::Cut(50, Ending::Reset), 502),
    ];
    // At once: each waits for a time limit, or until a failing upstream is asked again.
    std::thread::scope(|scope| {
        for (name, trouble, status) in troubles {
            scope.spawn(move || assert_pins_nothing(name, trouble, status));
        }
    });
}

/// A first sight that goes wrong in this way is refused with this status; the next one is right.
fn assert_pins_nothing(name: &str, trouble: Fault, status: u16) {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let lines =
        "connect-timeout = \"500ms\"\nheader-timeout = \"500ms\"\nbody-idle-timeout = \"500ms\"\n";
    let setup = Setup::new().upstream_with(REGISTRY, &registry.url(), lines);
    let mut immutag = setup.every_tag("hold", "0s").start();
    registry.fault("GET app/manifests/1.0.0", trouble);
    let refused = immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(refused.status, status, "{name}: {}", refused.text());
    assert!(immutag.metric("immutag_pins", "").abs() < f64::EPSILON, "{name}");
    registry.clear_faults();
    let served = || immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    eventually("the upstream is asked again", || served().status == 200);
    assert_eq!(served().digest(), a.digest(), "{name}");
    immutag.assert_alive_and_clean();
}

#[test]
fn two_processes_cannot_have_one_data_directory() {
    let registry = ScriptedRegistry::start();
    let immutag = holding(&registry, "hold");
    let second = Setup::new().data_dir(immutag.data_dir());
    let refused = second.refuse_to_start();
    assert!(!refused.status.success(), "{refused:?}");
    assert!(refused.stderr.contains("is in use by"), "{}", refused.stderr);
    assert!(refused.stderr.contains(&immutag.id().to_string()), "{}", refused.stderr);
}

#[test]
fn a_revocation_refuses_at_once_and_lets_a_pull_that_runs_end() {
    use crate::support::content::Blob;
    use crate::support::gate::Gate;
    let registry = ScriptedRegistry::start();
    let blob = Blob::new(vec![7; 300_000]);
    registry.put_blob("app", &blob.digest, blob.bytes.clone());
    let gate = Gate::closed();
    registry.fault("GET blobs/", Fault::HoldBody(100_000, gate.clone()));
    let immutag = holding(&registry, "hold");
    let url = immutag.direct(&format!("{REGISTRY}/app/blobs/{}", blob.digest));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| Call::new("GET", &url).send());
        gate.wait_for(1);
        immutag.cli(&["ledger", "revoke", &blob.digest, "--reason", "hostile"]).ok();
        let refused = Call::new("GET", &url).send();
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert_eq!(refused.json()["errors"][0]["detail"]["reason"], "DIGEST_REVOKED");
        gate.open();
        let ended = running.join().unwrap();
        assert!(ended.whole && ended.body == blob.bytes, "what ran before may end");
        immutag.wait_for_log("content was revoked while it was sent");
    });
    assert_eq!(Call::new("GET", &url).send().status, 403, "also from the cache");
}
