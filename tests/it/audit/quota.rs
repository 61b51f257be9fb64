//! `max-new-tags-per-hour`: nobody fills the ledger by asking.

use super::{HOUR, REGISTRY, both};
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const TAGS: [&str; 4] = ["1.0.0", "1.0.1", "1.0.2", "1.0.3"];

fn registry() -> ScriptedRegistry {
    let registry = ScriptedRegistry::start();
    for tag in TAGS {
        registry.push_image("app", tag, tag);
    }
    registry
}

fn setup(registry: &ScriptedRegistry, on_conflict: &str) -> Setup {
    Setup::new()
        .upstream_with(REGISTRY, &registry.url(), "max-new-tags-per-hour = 2\n")
        .every_tag(on_conflict, "0s")
}

#[test]
fn beyond_it_covered_tags_are_refused_in_words_and_known_ones_go_on() {
    let registry = registry();
    let mut immutag = setup(&registry, "hold").start();
    for missing in ["9.0.0", "9.0.1", "9.0.2"] {
        assert_eq!(immutag.manifest(REGISTRY, "app", missing).status, 404);
    }
    for tag in &TAGS[..2] {
        assert_eq!(immutag.manifest(REGISTRY, "app", tag).status, 200);
    }
    for tag in &TAGS[2..] {
        let (head, get) = both(&immutag, tag);
        assert_eq!(head.status, 300);
        assert!(head.reason.contains("(OVERLOADED)"), "{}", head.reason);
        assert!(head.field("retry-after").is_some());
        assert!(get.text().contains("max-new-tags-per-hour in [upstream."), "{}", get.text());
        let direct = immutag.direct_manifest(REGISTRY, "app", tag);
        assert_eq!(direct.status, 503);
        let wait: u32 = direct.field("retry-after").expect("when to come again").parse().unwrap();
        assert!((3000..=3600).contains(&wait), "{wait}");
    }
    assert_eq!(immutag.manifest(REGISTRY, "app", TAGS[0]).status, 200);
    immutag.wait_for_metric("immutag_events_total", "flooded", 1.0);
    assert!(immutag.metric("immutag_events_total", "flooded") < 2.0, "once an hour");
    assert!(immutag.metric("immutag_new_tags_refused_total", REGISTRY) >= 6.0);
    let export = immutag.cli(&["ledger", "export"]).ok().stdout;
    assert!(export.contains("registry.example: max-new-tags-per-hour is 2"), "{export}");
    immutag.assert_alive_and_clean();
}

#[test]
fn the_next_hour_takes_new_tags_again() {
    let registry = registry();
    let immutag = InProcess::start(setup(&registry, "block"));
    let status = |tag: &str| immutag.direct_manifest(REGISTRY, "app", tag).status;
    assert_eq!(TAGS.map(status), [200, 200, 503, 503]);
    immutag.clock.advance(HOUR);
    assert_eq!(TAGS.map(status), [200; 4]);
}

#[test]
fn beyond_it_recorded_tags_are_served_and_not_written_down() {
    let registry = registry();
    let mut immutag = setup(&registry, "record").start();
    for tag in TAGS {
        assert_eq!(immutag.manifest(REGISTRY, "app", tag).status, 200);
    }
    immutag.wait_for_metric("immutag_new_tags_refused_total", REGISTRY, 2.0);
    immutag.wait_for_metric("immutag_events_total", "observed", 2.0);
    let list = immutag.cli(&["ledger", "list", "--json"]).ok().stdout;
    assert_eq!(list.lines().count(), 2, "{list}");
    immutag.assert_alive_and_clean();
}
