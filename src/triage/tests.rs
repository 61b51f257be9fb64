use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::{Draft, EventKind};
use crate::printable::is_unprintable;
use fixtures::{Made, attestation, compared, image, image_typed, index, typical};

mod fixtures;
mod hostile;

const ENTRY: &str = "/config/Entrypoint";

/// A config with one thing changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = typical();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(name.replace("~1", "/"), value);
    config
}

fn reasons(triage: &Triage) -> String {
    triage.reasons.join("\n")
}

#[track_caller]
fn assert_looks(triage: &Triage, severity: Severity, words: &str) {
    assert_eq!(triage.severity, severity, "{triage:#?}");
    assert!(reasons(triage).contains(words), "{words} in {:#?}", triage.reasons);
}

#[test]
fn each_kind_of_change_of_an_image_has_its_severity_and_its_reason() {
    use Severity::{High, Low, Medium};
    let label = |name: &str| format!("/config/Labels/org.opencontainers.image.{name}");
    let top = ["base", "tools", "other app"];
    for (layers, config, severity, words) in [
        (&["base", "tools", "app"][..], typical(), Low, "wrapped in another manifest"),
        (&top[..], typical(), Medium, "the same 2 layers at the bottom, 1 other above"),
        (&["base", "tools", "app", "x"], typical(), High, "1 layer on top of all that"),
        (&["other", "tools", "app"], typical(), High, "not one layer at the bottom"),
        (&["base", "tools"], typical(), Medium, "gone from the top: 1 layer"),
        (&top, with(ENTRY, json!(["/evil"])), High, "Entrypoint changed and is now \"[\\\"/evil"),
        (&top, with("/config/Cmd", json!(["sh"])), High, "Cmd changed"),
        (&top, with("/config/Healthcheck", json!({"Test": ["CMD", "x"]})), High, "Healthcheck"),
        (&top, with("/config/OnBuild", json!(["RUN x"])), High, "OnBuild changed"),
        (&top, with("/config/User", json!("0:0")), High, "it runs as root now, before as \"app\""),
        (&top, with("/config/User", json!("other")), Medium, "User changed and is now \"other\""),
        (&top, with("/config/WorkingDir", json!("/tmp")), Medium, "WorkingDir changed"),
        (&top, with("/config/Volumes", json!({"/v": {}})), Medium, "Volumes changed and is now"),
        (&top, with("/config/ExposedPorts", json!({"1/tcp": {}})), Medium, "\"1/tcp\""),
        (&top, with(&label("source"), json!("https://x")), High, "its source is said to be \"http"),
        (&top, with(&label("base.name"), json!("b")), Medium, "its base.name is said to be"),
        (&top, with(&label("version"), json!("9")), Medium, "its version is said to be \"9\""),
        (&top, with("/created", json!("2026-01-01T00:00:00Z")), High, "before what was recorded"),
        (&top, with("/created", json!("2036-01-01T00:00:00Z")), High, "in the future"),
        (&top, with("/created", json!("yesterday")), High, "which is no date"),
        (&top, with("/created", Value::Null), Medium, "no longer says when it was built"),
        (&top, with("/architecture", json!("arm64")), Medium, "the config names another platform"),
    ] {
        let before = image(&["base", "tools", "app"], &typical());
        // One manifest differs from another at least in this.
        let after = fixtures::annotated(&image(layers, &config), "seed", "x");
        assert_looks(&compared(&before, &after), severity, words);
    }
}

#[test]
fn an_ordinary_rebuild_is_no_less_than_medium_whatever_it_says_of_itself() {
    let mut config = with("/created", json!("2026-05-01T00:00:00Z"));
    config["config"]["Labels"]["org.opencontainers.image.revision"] = json!("b2");
    let before = image(&["base", "app"], &typical());
    let triage = compared(&before, &image(&["base", "new app"], &config));
    assert_looks(&triage, Severity::Medium, "an ordinary rebuild looks so");
    assert!(!reasons(&triage).contains("same revision"), "{triage:#?}");
    let config = with("/created", json!("2026-05-01T00:00:00Z"));
    let same = compared(&before, &image(&["base", "new app"], &config));
    assert_looks(&same, Severity::Medium, "says the same revision of its source");
    // The same content packed anew is a claim: it does not make the change a low one.
    assert!(same.images[0].layers.claims_same_content);
    assert_looks(&same, Severity::Medium, "packed anew; nobody checked that");
}

#[test]
fn several_signs_at_once_are_critical_and_stand_first() {
    let before = image(&["base", "app"], &typical());
    let after = image(&["base", "app", "stealer"], &with(ENTRY, json!(["/stealer"])));
    let triage = compared(&before, &after);
    assert_eq!(triage.severity, Severity::Critical);
    assert!(triage.reasons[0].starts_with("several such signs at once: "), "{triage:#?}");
    assert!(triage.reasons[0].contains("the layers") && triage.reasons[0].contains("what runs"));
    let summary = triage.summary();
    assert!(summary.starts_with("looks critical (a hint): several"), "{summary}");
}

#[test]
fn names_of_the_environment_are_shown_and_no_value() {
    let env = json!(["PATH=/evil:/bin", "TOKEN=hunter2", "NEW=hunter2"]);
    let triage = compared(
        &image(&["base", "app"], &typical()),
        &image(&["base", "app"], &with("/config/Env", env)),
    );
    let config = triage.images[0].config.as_ref().unwrap();
    assert_eq!(config.env_added.to_string(), "NEW");
    assert_eq!(config.env_changed.to_string(), "PATH, TOKEN");
    assert_eq!(config.env_removed.to_string(), "MODE");
    assert_looks(&triage, Severity::High, "PATH decides what programs load");
    let all = serde_json::to_string(&triage).unwrap();
    assert!(!all.contains("hunter2") && !all.contains("/evil"), "{all}");
}

#[test]
fn a_config_that_go_reads_otherwise_is_read_as_go_does_and_told() {
    let evil = typical().to_string().replacen(
        "\"Entrypoint\":[\"/app\"]",
        "\"Entrypoint\":[\"/app\"],\"ENTRYPOINT\":[\"/evil\"]",
        1,
    );
    assert!(evil.contains("ENTRYPOINT"));
    let before = image(&["base"], &typical());
    let triage = compared(&before, &fixtures::image_of(&["base"], evil.as_bytes()));
    assert_looks(&triage, Severity::High, "the config can be read in two ways");
    assert_looks(&triage, Severity::High, "Entrypoint changed and is now \"[\\\"/evil");
}

#[test]
fn the_same_layers_under_other_media_types_are_low() {
    let before = image(&["base"], &typical());
    let triage = compared(&before, &image_typed(&["base"], &typical(), true));
    assert_looks(&triage, Severity::Low, "wrapped in another manifest");
    assert_eq!(triage.images[0].layers.kind, LayerKind::Retyped);
    assert!(triage.media_type.is_some() && triage.images[0].is_same_config);
}

#[test]
fn what_could_not_be_looked_at_is_told_and_no_change_is_low_by_it() {
    let (before, after) =
        (image(&["base"], &typical()), image(&["base"], &with(ENTRY, json!(["/evil"]))));
    let triage = fixtures::compared_bare(&before, &after);
    assert_looks(&triage, Severity::Medium, "the config is another, and was not looked at");
    assert_eq!(triage.unseen.some, ["the image: its config was not looked at"]);
    let [before, after] = [before, after].map(|image| index(&[("linux/amd64", &image)]));
    let triage = fixtures::compared_bare(&before, &after);
    assert_looks(&triage, Severity::Medium, "linux/amd64: the image is another, and was not");
}

#[test]
fn platforms_that_come_go_change_and_move_are_named() {
    let [a, b, c] = ["a", "b", "c"].map(|layer| image(&["base", layer], &typical()));
    let before = index(&[("linux/amd64", &a), ("linux/arm64", &a), ("linux/s390x", &a)]);
    let after = index(&[("linux/arm64", &b), ("linux/amd64", &a), ("linux/riscv64", &c)]);
    let triage = compared(&before, &after);
    let change = triage.platforms.as_ref().unwrap();
    assert_eq!(change.gained.to_string(), "linux/riscv64");
    assert_eq!(change.lost.to_string(), "linux/s390x");
    assert_eq!(change.changed.to_string(), "linux/arm64");
    assert_eq!((change.same, change.is_reordered), (1, true));
    assert_looks(&triage, Severity::Medium, "platforms are lost: linux/s390x");
    assert_looks(&triage, Severity::Medium, "linux/arm64: the same 1 layer at the bottom");
    assert_looks(&triage, Severity::Medium, "in another order");
    let single = compared(&before, &a);
    assert_looks(&single, Severity::High, "an index became a single image");
    assert_eq!(single.images[0].before, single.images[0].after, "the child is that image");
    assert_looks(&compared(&a, &before), Severity::Medium, "a single image became an index");
}

#[test]
fn a_finding_in_several_platforms_is_one_reason_and_few_are_opened() {
    let [a, b] = ["a", "b"].map(|layer| image(&["base", layer], &typical()));
    let names = ["linux/s390x", "linux/386", "windows/amd64", "linux/arm64", "linux/amd64", "x/y"];
    let [before, after] = [&a, &b].map(|image| index(&names.map(|name| (name, image))));
    let triage = compared(&before, &after);
    let opened: Vec<_> = triage.images.iter().map(|image| image.platform.clone()).collect();
    let opened: Vec<_> = opened.iter().flatten().map(Shown::as_str).collect();
    assert_eq!(opened, ["linux/amd64", "linux/arm64", "linux/s390x", "linux/386"]);
    assert!(
        reasons(&triage).contains("linux/amd64, linux/arm64, linux/s390x, linux/386: the same")
    );
    assert_eq!(triage.unseen.some, ["2 more platforms that changed: only a few are opened"]);
}

#[test]
fn attestations_alone_are_low_and_lost_with_other_images_high() {
    let [a, b] = ["a", "b"].map(|layer| image(&["base", layer], &typical()));
    let indexed = |image: &Made, seeds: &[&str]| {
        let seals: Vec<_> = seeds.iter().map(|seed| attestation(seed)).collect();
        let mut children = vec![("linux/amd64", image)];
        children.extend(seals.iter().map(|seal| ("attestation", seal)));
        index(&children)
    };
    let before = indexed(&a, &["s", "t"]);
    let only = compared(&before, &indexed(&a, &["u"]));
    assert_looks(&only, Severity::Low, "only attestations in the index changed: 2 before, 1 now");
    let lost = compared(&before, &indexed(&b, &[]));
    assert_looks(&lost, Severity::High, "lists none now");
    // The mark on an image that clients run hides nothing.
    let marked = index(&[("linux/amd64", &a), ("marked linux/arm64", &a)]);
    let triage = compared(&marked, &index(&[("linux/amd64", &a), ("marked linux/arm64", &b)]));
    assert_looks(&triage, Severity::Medium, "other images for linux/arm64");
}

#[test]
fn signatures_raise_when_they_are_lost_and_never_lower() {
    let present = Attached { signature: Presence::Present, ..Attached::default() };
    let absent = Attached { signature: Presence::Absent, ..Attached::default() };
    let none = Attached {
        attestation: Presence::Absent,
        sbom: Presence::Absent,
        referrers: Presence::Absent,
        ..absent
    };
    let (before, after) = (image(&["base", "a"], &typical()), image(&["base", "b"], &typical()));
    for (sides, severity, words) in [
        ((present, absent), Severity::High, "what was recorded had what this has not: signature"),
        ((present, present), Severity::Medium, "it has a signature; nobody checked whose"),
        ((absent, present), Severity::Medium, "nobody checked whose"),
        ((none, none), Severity::Medium, "nothing is attached to the new manifest"),
        ((present, Attached::default()), Severity::Medium, "an ordinary rebuild"),
    ] {
        let signatures = Signatures { before: sides.0, after: sides.1 };
        let triage = fixtures::compared_as(&before, &after, Some(&signatures), false);
        assert_looks(&triage, severity, words);
    }
}

#[test]
fn a_young_pin_makes_it_worse_unless_clients_run_the_same() {
    let before = image(&["base", "a"], &typical());
    let words = "younger than 72 h";
    let other = image(&["base", "b"], &typical());
    assert_looks(&fixtures::compared_as(&before, &other, None, true), Severity::High, words);
    let same = image_typed(&["base", "a"], &typical(), true);
    assert_looks(&fixtures::compared_as(&before, &same, None, true), Severity::Low, words);
}

#[test]
fn what_clients_do_not_agree_on_is_told_and_not_read() {
    let before = image(&["base"], &typical());
    let after = Made::new("application/vnd.oci.image.manifest.v1+json", b"{\"a\":1,\"a\":2}");
    let triage = compared(&before, &after);
    assert_looks(&triage, Severity::High, "the new manifest is none that clients agree on");
    assert!(triage.images.is_empty());
}

#[test]
fn what_does_not_hash_to_its_digest_or_is_too_long_is_no_material() {
    let (before, after) = (image(&["a"], &typical()), image(&["a"], &with(ENTRY, json!(["b"]))));
    let material = Material::default();
    let all = wanted(before.side(), after.side(), &material);
    assert_eq!(all.len(), 2, "{all:?}");
    let mut material = material;
    assert!(!material.add(&all[0], bytes::Bytes::from_static(b"{}")));
    let long = bytes::Bytes::from(vec![b' '; usize::try_from(CONFIG_LIMIT).unwrap() + 1]);
    let digest = crate::oci::ComputedDigest::of(&long, None).digest();
    assert!(!material.add(&Wanted { digest, ..all[0].clone() }, long));
    assert_eq!(wanted(before.side(), after.side(), &material), all);
}

#[test]
fn what_there_is_to_compare_is_what_is_open_or_what_it_was_before() {
    use EventKind::{Approved, Conflict, Followed, Observed, Pinned};
    let [a, b, c] = ["a", "b", "c"].map(|seed| image(&[seed], &typical()).content);
    let state = |events: &[(EventKind, &Content, Option<&Content>)]| {
        let mut state = TagState::default();
        for ((kind, observed, pinned), sequence) in events.iter().zip(1..) {
            let draft = Draft {
                observed: Some((*observed).clone()),
                pinned: pinned.map(|content| content.digest),
                ..Draft::new(*kind, None)
            };
            state.apply(&draft.at(sequence, 1000 * sequence));
        }
        state
    };
    let pinned = (Pinned, &a, Some(&a));
    for (events, expected) in [
        (&[][..], None),
        (&[pinned][..], None),
        (&[pinned, (Conflict, &b, Some(&a))], Some((&a, &b))),
        (&[pinned, (Conflict, &b, Some(&a)), (Followed, &b, Some(&a))], Some((&a, &b))),
        (&[pinned, (Conflict, &b, Some(&a)), (Approved, &b, Some(&a))], Some((&a, &b))),
        (&[(Observed, &a, None), (Observed, &b, None), (Observed, &c, None)], Some((&b, &c))),
    ] {
        let expected = expected.map(|(before, after)| (before.digest, after.digest));
        assert_eq!(subjects(&state(events)), expected, "{events:?}");
    }
}
