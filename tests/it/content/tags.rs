//! Tags that are mutable by specification, that come and go, and that a HEAD lies about.

use std::time::Duration;

use super::{REGISTRY, Stage};
use crate::support::content::Image;
use crate::support::in_process::InProcess;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

#[test]
fn tags_of_referrers_move_without_alarm_and_lookalikes_do_not() {
    let stage = Stage::with(|setup| {
        setup.only_rules("[[rule]]\non-conflict = \"block\"\nrecheck = \"0s\"\n")
    });
    let hex = "ab".repeat(32);
    for tag in [
        format!("sha256-{hex}"),
        format!("sha256-{hex}.sig"),
        format!("sha256-{hex}.att"),
        format!("sha256-{hex}.sbom"),
        format!("sha512-{hex}"),
    ] {
        for seed in ["one", "two", "three"] {
            let image = stage.registry.push_image("app", &tag, &format!("{tag}{seed}"));
            for answer in [stage.mirror(&tag), stage.direct(&tag), stage.head(&tag)] {
                assert_eq!((answer.status, answer.digest()), (200, image.digest()), "{tag}");
                assert_eq!(answer.field("warning"), None);
            }
        }
    }
    assert!(stage.immutag.metric("immutag_events_total", "").abs() < f64::EPSILON);
    for tag in [
        "sha256-abc".to_owned(),
        format!("sha256-{hex}.other"),
        format!("sha256-{}", "AB".repeat(32)),
        format!("sha384-{hex}.sig"),
    ] {
        stage.pin(&tag);
        stage.registry.push_image("app", &tag, "moved");
        assert_eq!(stage.direct(&tag).status, 403, "{tag}");
    }
    stage.finish();
}

#[test]
fn the_same_bytes_pushed_again_are_no_event_and_a_flap_is_one() {
    let stage = Stage::new();
    for tag in ["hold-1", "block-1", "alert-1"] {
        let a = stage.pin(tag);
        stage.registry.put_image("app", &a);
        stage.registry.retag("app", tag, a.digest());
        assert_eq!(stage.mirror(tag).digest(), a.digest());
    }
    assert!((stage.immutag.metric("immutag_events_total", "") - 3.0).abs() < f64::EPSILON);
    let count = |kind: &str| stage.immutag.metric("immutag_events_total", &format!("\"{kind}\""));
    let b = Image::new("b");
    stage.registry.put_image("app", &b);
    for (round, (digest, kind)) in
        [(b.digest(), "conflict"), ("", "healed"), (b.digest(), "flapped")].into_iter().enumerate()
    {
        for tag in ["hold-1", "block-1"] {
            let a = Image::new(tag);
            let to = if digest.is_empty() { a.digest().to_owned() } else { digest.to_owned() };
            stage.registry.retag("app", tag, &to);
            stage.mirror(tag);
        }
        crate::support::wait::eventually(kind, || (count(kind) - 2.0).abs() < f64::EPSILON);
        let told = if round == 2 { 2.0 } else { 0.0 };
        assert!((count("flapped") - told).abs() < f64::EPSILON);
    }
    assert_eq!(stage.mirror("hold-1").digest(), Image::new("hold-1").digest());
    assert_eq!(stage.direct("block-1").status, 403);
    stage.finish();
}

#[test]
fn a_head_that_says_the_same_is_not_believed_for_longer_than_a_day() {
    for (reaction, status) in [("hold", 200), ("block", 403), ("alert", 200)] {
        let registry = ScriptedRegistry::start();
        let a = registry.push_image("app", "1", "a");
        let b = Image::new("b");
        registry.put_image("app", &b);
        let here = InProcess::start(
            Setup::new().upstream(REGISTRY, &registry.url()).every_tag(reaction, "1m"),
        );
        assert_eq!(here.direct_manifest(REGISTRY, "app", "1").digest(), a.digest());
        // From now on a GET would give B, but the HEAD says A.
        registry.retag("app", "1", b.digest());
        let head = crate::support::fault::Fault::field("Docker-Content-Digest", a.digest());
        registry.fault("HEAD manifests/1", head);
        registry.forget_requests();
        // Under hold an ask comes after the reply, at the time that it is by then.
        crate::support::wait::eventually("three asks", || {
            here.clock.advance(Duration::from_mins(2));
            assert_eq!(here.direct_manifest(REGISTRY, "app", "1").digest(), a.digest());
            registry.count("HEAD manifests/1") >= 3
        });
        assert_eq!(registry.count("GET manifests/1"), 0, "{reaction}");
        here.clock.advance(Duration::from_hours(24));
        let mut first = None;
        crate::support::wait::eventually("a GET", || {
            here.clock.advance(Duration::from_mins(2));
            first = Some(here.direct_manifest(REGISTRY, "app", "1"));
            registry.count("GET manifests/1") >= 1
        });
        let first = first.expect("it was pulled");
        here.wait_for_event("conflict");
        let answer =
            if reaction == "hold" { here.direct_manifest(REGISTRY, "app", "1") } else { first };
        assert_eq!(answer.status, status, "{reaction}");
        match reaction {
            "hold" => assert!(answer.digest() == a.digest() && answer.field("warning").is_some()),
            "alert" => assert_eq!(answer.digest(), b.digest()),
            _ => assert_eq!(answer.json()["errors"][0]["detail"]["observed"], b.digest()),
        }
    }
}
