//! What is written is what its readers understand.

use regex::Regex;
use serde::Deserialize;

use super::*;
use crate::oci::{Digest, Reference};

fn digest(letter: char) -> Digest {
    format!("sha256:{}", String::from(letter).repeat(64)).parse().unwrap()
}

fn pins(entries: &[(&str, char)]) -> Pins {
    let parse = |(reference, letter): &(&str, char)| {
        let reference: Reference = reference.parse().unwrap();
        let digest = reference.digest.unwrap_or_else(|| digest(*letter));
        (reference, digest)
    };
    Pins::new("a test".to_owned(), entries.iter().map(parse).collect())
}

/// `BuildKit`'s messages by `sourcepolicy/pb/policy.proto`, with the names of its JSON, as far as
/// they are used; nothing else may be in it.
mod schema {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Policy {
        pub(super) version: i64,
        pub(super) rules: Vec<Rule>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Rule {
        pub(super) action: PolicyAction,
        pub(super) selector: Selector,
        pub(super) updates: Option<Update>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    pub(super) enum PolicyAction {
        Allow,
        Deny,
        Convert,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Selector {
        pub(super) identifier: String,
        #[serde(default)]
        pub(super) match_type: MatchType,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    pub(super) enum MatchType {
        #[default]
        Wildcard,
        Exact,
        Regex,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Update {
        pub(super) identifier: String,
    }
}

/// What `sourcepolicy/engine.go` makes of a source: what it becomes, or `None` if it is denied.
fn evaluate(policy: &schema::Policy, source: &str) -> Option<String> {
    let mut source = source.to_owned();
    'converted: for _ in 0..20 {
        let mut is_denied = false;
        for rule in &policy.rules {
            let identifier = &rule.selector.identifier;
            let is_match = match rule.selector.match_type {
                schema::MatchType::Exact => source == *identifier,
                schema::MatchType::Regex => Regex::new(identifier).unwrap().is_match(&source),
                schema::MatchType::Wildcard => panic!("none is written"),
            };
            match rule.action {
                _ if !is_match => {}
                schema::PolicyAction::Allow => is_denied = false,
                schema::PolicyAction::Deny => is_denied = true,
                schema::PolicyAction::Convert => {
                    let new = &rule.updates.as_ref().unwrap().identifier;
                    if *new != source {
                        new.clone_into(&mut source);
                        continue 'converted;
                    }
                }
            }
        }
        return (!is_denied).then_some(source);
    }
    panic!("too many operations");
}

#[test]
fn buildkit_converts_what_is_locked_and_denies_the_rest_if_that_is_asked_for() {
    let (b, c) = (digest('b'), digest('c'));
    let by_digest = format!("ghcr.io/a.b/c@{c}");
    let pins = pins(&[("alpine:3.19", 'a'), ("localhost:5000/x/y:1", 'b'), (&by_digest, ' ')]);
    let alpine = "docker-image://docker.io/library/alpine:3.19";
    let pinned = format!("{alpine}@{}", digest('a'));
    for (denies_rest, other) in
        [(false, Some("docker-image://docker.io/library/q:1")), (true, None)]
    {
        let text = buildkit::policy(&pins, denies_rest).unwrap();
        let policy: schema::Policy = serde_json::from_str(&text).unwrap();
        assert_eq!(policy.version, 1);
        let evaluate = |source: &str| evaluate(&policy, source);
        assert_eq!(evaluate(alpine).as_deref(), Some(pinned.as_str()));
        assert_eq!(evaluate(&pinned).as_deref(), Some(pinned.as_str()));
        assert_eq!(evaluate("docker-image://docker.io/library/q:1").as_deref(), other);
        let y = "docker-image://localhost:5000/x/y";
        assert_eq!(evaluate(&format!("{y}:1")), Some(format!("{y}:1@{b}")));
        // The digest decides, whatever tag is written in front of it.
        assert!(evaluate(&format!("{y}:9@{b}")).is_some());
        for passes in [
            "docker-image://ghcr.io/a.b/c:1@DIGEST".replace("DIGEST", &c.to_string()),
            "local://context".to_owned(),
            "git://example.com/x".to_owned(),
        ] {
            assert_eq!(evaluate(&passes), Some(passes));
        }
        for refused in [
            format!("{alpine}@{b}"),
            format!("docker-image://ghcr.io/axb/c:1@{c}"),
            format!("docker-image://evil.example/ghcr.io/a.b/c@{c}"),
            format!("docker-image://ghcr.io/a.b/c@{c}0"),
            "docker-image://docker.io/library/alpine:3.199".to_owned(),
        ] {
            assert_eq!(evaluate(&refused).is_none(), denies_rest, "{refused}");
        }
    }
}

#[test]
fn a_kustomization_names_an_image_in_each_way_that_it_may_be_written() {
    let c = digest('c');
    let both = format!("quay.io/a/both@{c}");
    let (text, unclear) = kustomize::images(&pins(&[
        ("alpine:3.19", 'a'),
        ("acme/app:1.10", 'b'),
        ("ghcr.io/a/two:1", 'a'),
        ("ghcr.io/a/two:2", 'b'),
        ("quay.io/a/both:v1", 'c'),
        (&both, ' '),
    ]));
    let image = |name: &str, tag: &str, letter| {
        let digest = digest(letter);
        format!("  - name: \"{name}\"\n    newTag: \"{tag}\"\n    digest: \"{digest}\"\n")
    };
    let expected = [
        image("acme/app", "1.10", 'b'),
        image("docker.io/acme/app", "1.10", 'b'),
        image("alpine", "3.19", 'a'),
        image("docker.io/alpine", "3.19", 'a'),
        image("library/alpine", "3.19", 'a'),
        image("docker.io/library/alpine", "3.19", 'a'),
        image("quay.io/a/both", "v1", 'c'),
    ];
    assert_eq!(text, format!("images:\n{}", expected.concat()));
    assert_eq!(unclear.len(), 1);
    assert!(unclear[0].starts_with("left out: ghcr.io/a/two: it has several"), "{unclear:?}");
    assert_eq!(kustomize::images(&pins(&[])).0, "images: []\n");
}

#[test]
fn a_digest_is_known_in_its_own_repository_only() {
    let pins = pins(&[("alpine:3.19", 'a')]);
    for (reference, expected) in [
        (format!("alpine:3.19@{}", digest('a')), Some(digest('a'))),
        (format!("alpine@{}", digest('a')), Some(digest('a'))),
        (format!("alpine:3.19@{}", digest('b')), None),
        (format!("busybox@{}", digest('a')), None),
        ("alpine:3.19".to_owned(), Some(digest('a'))),
        ("alpine:3.20".to_owned(), None),
    ] {
        assert_eq!(pins.digest_of(&reference.parse().unwrap()), expected, "{reference}");
    }
}
