//! Whatever comes: no panic, nothing unprintable, nothing without bound.

use super::fixtures::{compared_bare, image_of};
use super::*;

/// The most bytes that a triage may come to, whatever was compared.
const MOST_BYTES: usize = 96 << 10;

#[track_caller]
fn assert_fit(triage: &Triage) {
    let summary = triage.summary();
    assert!(summary.chars().count() <= SUMMARY_LIMIT, "{summary}");
    let text = serde_json::to_string(triage).unwrap();
    assert!(text.len() <= MOST_BYTES, "{} bytes", text.len());
    assert!(!text.contains(is_unprintable) && !summary.contains(is_unprintable), "{text}");
    assert!(triage.reasons.len() <= FEW + 1);
    // What goes over the socket comes out the same.
    assert_eq!(serde_json::from_str::<Triage>(&text).unwrap(), *triage);
}

#[test]
fn labels_of_an_attacker_are_escaped_and_cut_wherever_they_show() {
    let evil = "\u{1b}[2J\u{202e}low\u{200b}\r\n\"; severity: low".repeat(10);
    let mut config = typical();
    for name in ["Entrypoint", "Cmd", "Shell", "OnBuild"] {
        config["config"][name] = json!([evil, evil]);
    }
    config["config"]["User"] = json!(evil);
    config["created"] = json!(evil);
    config["os"] = json!(evil);
    for number in 0..300 {
        config["config"]["Labels"][format!("{evil}{number}")] = json!(evil);
        config["config"]["Env"].as_array_mut().unwrap().push(json!(format!("{evil}{number}=x")));
    }
    for name in ["source", "revision", "version", "created", "base.name", "base.digest"] {
        config["config"]["Labels"][format!("org.opencontainers.image.{name}")] = json!(evil);
    }
    let before = image(&["base"], &typical());
    let mut after = image(&["base", "evil"], &config);
    for name in ["source", "version", "created", "base.name"] {
        let name = format!("org.opencontainers.image.{name}");
        after = fixtures::annotated(&after, &name, &evil);
    }
    let triage = compared(&before, &after);
    assert_fit(&triage);
    assert_eq!(triage.severity, Severity::Critical);
    let config = triage.images[0].config.as_ref().unwrap();
    assert!(config.labels.more > 250 && config.labels.some.len() == FEW, "{config:#?}");
    assert!(triage.reasons.iter().any(|it| it.contains("\\u{1b}[2J")), "{triage:#?}");
    let [before, after] =
        [before, after].map(|image| index(&[(&format!("{evil}/{evil}"), &image)]));
    assert_fit(&compared(&before, &after));
}

#[test]
fn an_index_of_thousands_of_platforms_stays_within_bounds() {
    let made = image(&["base"], &typical());
    let names: Vec<_> = (0..5000).map(|number| format!("os{number}/{}", "a".repeat(300))).collect();
    let children: Vec<_> = names.iter().map(|name| (name.as_str(), &made)).collect();
    let triage = compared_bare(&index(&children), &index(&children[..1]));
    assert_fit(&triage);
    assert_eq!(triage.platforms.unwrap().lost.count(), 4999);
    assert_fit(&compared_bare(&index(&children[..1]), &index(&children)));
}

/// JSON that looks a little like a config.
fn config_like() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("config".to_owned()),
        Just("Entrypoint".to_owned()),
        Just("Env".to_owned()),
        Just("Labels".to_owned()),
        Just("User".to_owned()),
        Just("created".to_owned()),
        Just("rootfs".to_owned()),
        Just("diff_ids".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|it| it.to_string()),
        any::<bool>().prop_map(|it| it.to_string()),
        any::<String>().prop_map(|it| json!(it).to_string()),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        let pair = (word.clone(), inner.clone()).prop_map(|(k, v)| format!("{}:{v}", json!(k)));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(pair, 0..6).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_say_what_is_not_fit_to_be_shown(
        before in prop::collection::vec(any::<u8>(), 0..200), after in any::<String>()
    ) {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let good = image(&["base"], &typical());
        let [before, after] = [&before[..], after.as_bytes()].map(|bytes| Made::new(kind, bytes));
        for (before, after) in [(&before, &after), (&good, &after), (&before, &good)] {
            assert_fit(&compared(before, after));
        }
    }

    #[test]
    fn no_config_makes_it_panic_or_say_what_is_not_fit_to_be_shown(
        before in config_like(), after in config_like()
    ) {
        let [before, after] = [before, after].map(|it| image_of(&["base"], it.as_bytes()));
        assert_fit(&compared(&before, &after));
    }
}
