//! What deciding costs: the rule for a tag, and the verdict on an observation.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use immutag::event::{Draft, EventKind};
use immutag::oci::{ComputedDigest, Manifest, ManifestKind, MediaType};
use immutag::pin::{Content, PinKey, TagState};
use immutag::policy::builtin::builtin_rules;
use immutag::policy::{Decision, Policy, Sight, judge};

fn key(repository: &str, tag: &str) -> PinKey {
    PinKey {
        registry: "docker.io".parse().expect("a registry"),
        repository: repository.parse().expect("a repository"),
        tag: tag.parse().expect("a tag"),
    }
}

fn image(seed: char) -> (Content, Manifest) {
    let descriptor = |digit: char| {
        let digest = digit.to_string().repeat(64);
        format!(r#"{{"mediaType":"application/x","digest":"sha256:{digest}","size":1}}"#)
    };
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        ManifestKind::OciManifest.as_str(),
        descriptor(seed),
        descriptor('1')
    );
    let manifest = Manifest::parse(body.as_bytes(), None).expect("a manifest");
    let content = Content {
        digest: ComputedDigest::of(body.as_bytes(), None).digest(),
        media_type: MediaType::from(ManifestKind::OciManifest),
        size_bytes: body.len() as u64,
    };
    (content, manifest)
}

fn deciding(criterion: &mut Criterion) {
    let policy = Policy { rules: builtin_rules() };
    for (name, key) in [
        ("full version", key("acme/scanner", "v2.1.20")),
        ("recorded", key("library/alpine", "latest")),
    ] {
        criterion.bench_function(&format!("decide: {name}"), |bencher| {
            bencher.iter(|| matches!(policy.decide(black_box(&key)), Decision::Ruled(_)));
        });
    }
    let Decision::Ruled(rule) = policy.decide(&key("acme/scanner", "v2.1.20")) else {
        panic!("a built-in rule covers full versions");
    };
    let rule = Arc::clone(rule);
    let ((a, a_manifest), (b, b_manifest)) = (image('a'), image('b'));
    let mut state = TagState::default();
    let draft = Draft { observed: Some(a.clone()), ..Draft::new(EventKind::Pinned, None) };
    state.apply(&draft.at(1, 1));
    for (name, content, manifest) in [("match", &a, &a_manifest), ("conflict", &b, &b_manifest)] {
        let sight = Sight { content, manifest, pinned: None, is_revoked: false, sure_ms: 2 };
        criterion.bench_function(&format!("judge: {name}"), |bencher| {
            bencher.iter(|| judge(&rule, black_box(&state), black_box(&sight), 2));
        });
    }
}

criterion_group!(benches, deciding);
criterion_main!(benches);
