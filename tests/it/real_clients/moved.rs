//! The upstream moves the tag: what each reaction gives real clients, by each way in.
//!
//! The clients of the mirrors have the registry itself as their fallback, and it would serve them.

use serde_json::Value;

use super::stage::{REGISTRY, REPOSITORY, Upstream, Way, is_set};
use crate::support::content::Image;
use crate::support::immutag::Immutag;

const TAG: &str = "1.0.0";

/// What a fresh home of each client gets by each way.
fn every_client_gets(upstream: &Upstream, immutag: &Immutag, image: &Image) {
    for way in Way::ALL {
        let home = upstream.home(immutag, way);
        let reference = Upstream::reference(immutag, way, TAG);
        assert_eq!(home.skopeo_digest(&reference), image.digest(), "{way:?}");
        home.skopeo_copy(&reference).ok();
        home.podman_pull(&reference).ok();
        assert_eq!(home.podman_digest(&reference), image.digest(), "{way:?}");
    }
}

/// Pulls image A by every way, moves the tag to image B, and gives both.
fn move_under(upstream: &Upstream, immutag: &Immutag) -> (Image, Image) {
    let a = upstream.push(TAG, "a");
    every_client_gets(upstream, immutag, &a);
    (a, upstream.push(TAG, "b"))
}

/// Both names that the registry has here, each with its own pin and history.
const NAMES: f64 = 2.0;

#[track_caller]
fn assert_metric(immutag: &Immutag, name: &str, part: &str, expected: f64) {
    let value = immutag.metric(name, part);
    assert!((value - expected).abs() < f64::EPSILON, "{name}{{{part}}} is {value}");
}

/// What the ledger tells of the tag, under each name: the kind of each event, and the digest that
/// was observed with it.
#[track_caller]
fn assert_history(immutag: &Immutag, expected: &[(&str, &Image)]) {
    for name in ["docker.io", REGISTRY] {
        let reference = format!("{name}/{REPOSITORY}:{TAG}");
        let ran = immutag.cli(&["ledger", "history", &reference]).ok();
        let events = ran.stdout.lines().map(|line| line.parse::<Value>().expect("JSON lines"));
        let told = |event: Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&event["kind"]), text(&event["observed"]["digest"]))
        };
        let told: Vec<_> = events.map(told).collect();
        let owned =
            |(kind, image): &(&str, &Image)| ((*kind).to_owned(), image.digest().to_owned());
        assert_eq!(told, expected.iter().map(owned).collect::<Vec<_>>(), "{name}");
    }
}

fn record(upstream: &Upstream) {
    let mut immutag = upstream.immutag("record", "0s");
    let (a, b) = move_under(upstream, &immutag);
    every_client_gets(upstream, &immutag, &b);
    immutag.wait_for_metric("immutag_events_total", "observed", 2.0 * NAMES);
    assert_history(&immutag, &[("observed", &a), ("observed", &b)]);
    assert_metric(&immutag, "immutag_pins", "", 0.0);
    assert_metric(&immutag, "immutag_conflicts_total", "", 0.0);
    upstream.assert_only_immutag_came();
    immutag.assert_alive_and_clean();
}

fn alert(upstream: &Upstream) {
    let mut immutag = upstream.immutag("alert", "0s");
    let (a, b) = move_under(upstream, &immutag);
    every_client_gets(upstream, &immutag, &b);
    assert_metric(&immutag, "immutag_conflicts_total", "alert", NAMES);
    assert_history(&immutag, &[("pinned", &a), ("conflict", &b), ("followed", &b)]);
    assert_metric(&immutag, "immutag_events_total", "followed", NAMES);
    immutag.wait_for_log("a tag moved");
    upstream.assert_only_immutag_came();
    immutag.assert_alive_and_clean();
}

fn hold(upstream: &Upstream) {
    let mut immutag = upstream.immutag("hold", "0s");
    let (a, b) = move_under(upstream, &immutag);
    every_client_gets(upstream, &immutag, &a);
    immutag.wait_for_metric("immutag_conflicts_total", "hold", NAMES);
    every_client_gets(upstream, &immutag, &a);
    assert_metric(&immutag, "immutag_conflicts_total", "hold", NAMES);
    assert_metric(&immutag, "immutag_conflicts_open", "", NAMES);
    immutag.wait_for_log(b.digest());
    assert_history(&immutag, &[("pinned", &a), ("conflict", &b)]);
    upstream.assert_only_immutag_came();
    immutag.assert_alive_and_clean();
}

fn block(upstream: &Upstream) {
    let mut immutag = upstream.immutag("block", "0s");
    let (a, b) = move_under(upstream, &immutag);
    for way in Way::ALL {
        let home = upstream.home(&immutag, way);
        let reference = Upstream::reference(&immutag, way, TAG);
        let inspect = ["inspect", "--no-tags", &format!("docker://{reference}")];
        let by_skopeo = home.skopeo(&inspect).failed_with("immutag: ");
        let by_podman = home.podman_pull(&reference).failed_with("immutag: ");
        for words in [by_skopeo.stderr, by_podman.stderr] {
            let says = |part| assert!(words.contains(part), "no {part} by {way:?} in: {words}");
            says("is pinned to");
            says(a.digest());
            says(b.digest());
            assert!(!words.contains("login") && !words.contains("denied"), "{words}");
        }
        // The tombstone is a manifest, but no image comes of it.
        assert!(!home.skopeo_copy(&reference).status.success(), "{way:?}");
        assert!(!home.podman(&["image", "exists", &reference]).status.success(), "{way:?}");
    }
    assert_metric(&immutag, "immutag_conflicts_total", "block", NAMES);
    assert!(immutag.metric("immutag_refusals_total", "DIGEST_CHANGED") >= 12.0);
    assert_metric(&immutag, "immutag_possible_bypass_total", "", 0.0);
    assert_history(&immutag, &[("pinned", &a), ("conflict", &b)]);
    upstream.assert_only_immutag_came();
    immutag.assert_alive_and_clean();
}

#[test]
fn under_record_every_client_gets_the_moved_image_and_both_are_written_down() {
    if is_set() {
        record(&Upstream::plain());
    }
}

#[test]
fn under_record_a_registry_behind_tls_and_tokens_is_no_different() {
    if is_set() {
        record(&Upstream::locked());
    }
}

#[test]
fn under_alert_every_client_gets_the_moved_image_and_the_operator_is_told() {
    if is_set() {
        alert(&Upstream::plain());
    }
}

#[test]
fn under_alert_a_registry_behind_tls_and_tokens_is_no_different() {
    if is_set() {
        alert(&Upstream::locked());
    }
}

#[test]
fn under_hold_every_client_gets_the_image_that_was_seen_first() {
    if is_set() {
        hold(&Upstream::plain());
    }
}

#[test]
fn under_hold_a_registry_behind_tls_and_tokens_is_no_different() {
    if is_set() {
        hold(&Upstream::locked());
    }
}

#[test]
fn under_block_every_client_is_refused_in_our_words_and_none_goes_round() {
    if is_set() {
        block(&Upstream::plain());
    }
}

#[test]
fn under_block_a_registry_behind_tls_and_tokens_is_no_different() {
    if is_set() {
        block(&Upstream::locked());
    }
}
