//! Manifests that clients could read in two ways, or not at all.

use std::time::{Duration, Instant};

use super::{REGISTRY, Stage};
use crate::support::content::{DOCKER_MANIFEST, Image, Manifest, OCI_INDEX, OCI_MANIFEST, sha256};
use crate::support::fault::Fault;

const PRETTY_JWS: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";

/// A child or layer.
fn descriptor(seed: &str) -> String {
    let digest = sha256(seed.as_bytes());
    format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":7}}"#)
}

/// An OCI image manifest with these fields beside `schemaVersion` and `mediaType`.
fn image(fields: &str) -> Manifest {
    let body = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",{fields}}}"#);
    Manifest::new(OCI_MANIFEST, body)
}

/// An OCI image manifest with a field of any value beside what it needs.
fn image_with(value: &str) -> Manifest {
    let config = descriptor("config");
    image(&format!(r#""config":{config},"layers":[],"annotations":{{"x":"y"}},"odd":{value}"#))
}

/// Name, manifest, the rule that it breaks.
type Case = (&'static str, Manifest, &'static str);

fn ambiguous() -> Vec<Case> {
    let (config, child) = (descriptor("config"), descriptor("child"));
    let fields = format!(r#""config":{config},"layers":[]"#);
    let index =
        |text: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{text}","manifests":[{child}]}}"#);
    let both = format!(r#"{fields},"manifests":[{child}]"#);
    vec![
        ("both", image(&both), "AMBIGUOUS"),
        ("null-manifests", image(&format!(r#"{fields},"manifests":null"#)), "AMBIGUOUS"),
        ("index-as-image", Manifest::new(OCI_INDEX, index(OCI_MANIFEST)), "MEDIATYPE_MISMATCH"),
        ("image-as-index", Manifest::new(OCI_MANIFEST, index(OCI_INDEX)), "MEDIATYPE_MISMATCH"),
        ("wrong-kind", Manifest::new(OCI_MANIFEST, index(OCI_MANIFEST)), "AMBIGUOUS"),
        (
            "twice-type",
            image(&format!(r#""mediaType":"{OCI_MANIFEST}",{fields}"#)),
            "DUPLICATE_KEY",
        ),
        ("twice-layers", image(&format!(r#"{fields},"layers":[{child}]"#)), "DUPLICATE_KEY"),
        ("escaped-twice", image(&format!(r#"{fields},"l\u0061yers":[]"#)), "DUPLICATE_KEY"),
        ("case-layers", image(&format!(r#"{fields},"Layers":[{child}]"#)), "KEY_CASE"),
        ("case-type", image(&format!(r#""MediaType":"{OCI_INDEX}",{fields}"#)), "KEY_CASE"),
        ("deep-case", image(r#""config":{"Digest":"x"},"layers":[]"#), "KEY_CASE"),
        ("folded-case", image(&format!(r#"{fields},"layerſ":[]"#)), "KEY_CASE"),
        ("html", Manifest::new("text/html", "<html></html>"), "INVALID_JSON"),
        (
            "other",
            Manifest::new("application/json", r#"{"schemaVersion":2}"#),
            "UNSUPPORTED_MEDIATYPE",
        ),
    ]
}

fn schema1() -> Vec<Case> {
    let unsigned = r#"{"schemaVersion":1,"name":"app","tag":"1","fsLayers":[],"history":[]}"#;
    let signed = unsigned.replace("]}", r#"],"signatures":[{"protected":"x"}]}"#);
    vec![
        ("signed", Manifest::new(PRETTY_JWS, signed.clone()), "SCHEMA1"),
        ("unsigned", Manifest::new(SCHEMA1, unsigned), "SCHEMA1"),
        ("plain-text", Manifest::new("text/plain", signed), "SCHEMA1"),
        ("plain-json", Manifest::new("application/json", unsigned), "SCHEMA1"),
        ("as-schema2", Manifest::new(DOCKER_MANIFEST, unsigned), "SCHEMA1"),
    ]
}

fn broken_json() -> Vec<Case> {
    let good = image_with("1");
    let good = std::str::from_utf8(&good.blob.bytes).expect("it was text");
    let raw = |bytes: Vec<u8>| Manifest::new(OCI_MANIFEST, bytes);
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    vec![
        ("deep", image_with(&deep), "INVALID_JSON"),
        ("deep-objects", image_with(&deep_objects), "INVALID_JSON"),
        ("open", image_with(&"[".repeat(100_000)), "INVALID_JSON"),
        ("huge-number", image_with("1e400"), "INVALID_JSON"),
        ("lone-surrogate", image_with(r#""\ud800""#), "INVALID_JSON"),
        ("bom", raw([b"\xef\xbb\xbf", good.as_bytes()].concat()), "INVALID_JSON"),
        ("utf16", raw(utf16), "INVALID_JSON"),
        ("trailing", raw(format!("{good}{good}").into_bytes()), "INVALID_JSON"),
        ("trailing-nul", raw(format!("{good}\0").into_bytes()), "INVALID_JSON"),
        ("nul", raw(good.replace("odd", "o\0d").into_bytes()), "INVALID_JSON"),
        (
            "no-utf8",
            raw([&good.as_bytes()[..90], b"\xff", &good.as_bytes()[90..]].concat()),
            "INVALID_JSON",
        ),
        ("array", raw(b"[]".to_vec()), "INVALID_JSON"),
        ("half", raw(good.as_bytes()[..good.len() / 2].to_vec()), "INVALID_JSON"),
    ]
}

fn oversized_lists() -> Vec<Case> {
    let many = |count: usize| vec![descriptor("child"); count].join(",");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#,
        many(10_001)
    );
    let config = descriptor("config");
    let layers = format!(r#""config":{config},"layers":[{}]"#, many(10_001));
    vec![
        ("children", Manifest::new(OCI_INDEX, index), "TOO_MANY_ENTRIES"),
        ("layers", image(&layers), "TOO_MANY_ENTRIES"),
    ]
}

/// No case becomes a pin, each is told once; where there is a pin, it is served.
fn assert_refused_and_pins_served(cases: &[Case]) {
    let stage = Stage::new();
    let pinned: Vec<Image> =
        cases.iter().map(|(name, ..)| stage.pin(&format!("block-{name}"))).collect();
    for ((name, manifest, sub_reason), pinned) in cases.iter().zip(&pinned) {
        stage.put(name, manifest);
        let begun = Instant::now();
        let refused = stage.direct(name);
        // Fifty milliseconds are due; a debug build on a busy machine gets more.
        assert!(begun.elapsed() < Duration::from_secs(2), "{name} took {:?}", begun.elapsed());
        stage.assert_invalid(&refused, sub_reason);
        stage.assert_invalid(&stage.mirror(name), sub_reason);
        let head = stage.head(name);
        assert_eq!((head.status, head.field("immutag-reason")), (502, Some("UPSTREAM_INVALID")));

        let tag = format!("block-{name}");
        stage.put(&tag, manifest);
        let served = stage.mirror(&tag);
        assert_eq!(
            (served.status, &served.body),
            (200, &pinned.manifest.blob.bytes.to_vec()),
            "{name}"
        );
        assert!(served.field("warning").is_some(), "{name}");
    }
    let told = stage.immutag.metric("immutag_events_total", "invalid");
    assert!((told - 2.0 * number(cases.len())).abs() < f64::EPSILON, "{told}");
    assert!((stage.pins() - number(cases.len())).abs() < f64::EPSILON, "{}", stage.pins());
    stage.finish();
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a few"))
}

#[test]
fn a_manifest_that_reads_in_two_ways_is_never_pinned_and_a_pin_goes_on() {
    assert_refused_and_pins_served(&ambiguous());
}

#[test]
fn a_schema_1_manifest_is_never_pinned_and_a_pin_goes_on() {
    assert_refused_and_pins_served(&schema1());
}

#[test]
fn broken_json_is_refused_quickly_and_a_pin_goes_on() {
    assert_refused_and_pins_served(&broken_json());
}

#[test]
fn lists_beyond_the_cap_are_refused_and_a_pin_goes_on() {
    assert_refused_and_pins_served(&oversized_lists());
}

#[test]
fn a_million_small_values_are_judged_quickly() {
    let stage = Stage::new();
    let values = format!("[{}1]", "1,".repeat(999_999));
    let manifest = image_with(&values);
    stage.put("million", &manifest);
    let begun = Instant::now();
    assert_eq!(stage.direct("million").body, manifest.blob.bytes);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    stage.finish();
}

#[test]
fn a_recorded_tag_and_a_digest_reference_get_such_a_manifest_as_it_is() {
    let stage = Stage::new();
    for (name, manifest, _) in ambiguous().into_iter().chain(schema1()) {
        let tag = format!("rec-{name}");
        stage.put(&tag, &manifest);
        let by_tag = stage.mirror(&tag);
        assert_eq!((by_tag.status, by_tag.digest()), (200, manifest.digest()), "{name}");
        let by_digest = stage.mirror(manifest.digest());
        assert_eq!((by_digest.status, &by_digest.body), (200, &manifest.blob.bytes.to_vec()));
        assert_eq!(by_digest.field("content-type"), Some(&*manifest.media_type), "{name}");
    }
    assert!(stage.pins().abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn what_was_recorded_and_breaks_the_rules_is_no_pin_when_the_rule_turns_stricter() {
    let registry = crate::support::registry::ScriptedRegistry::start();
    let setup = crate::support::setup::Setup::new();
    let setup = setup.upstream(super::REGISTRY, &registry.url());
    let immutag = setup.every_tag("record", "0s").start();
    let mut stage = Stage { registry, immutag };
    let cases: Vec<Case> = schema1().into_iter().chain(ambiguous().into_iter().take(2)).collect();
    for (name, manifest, _) in &cases {
        stage.put(name, manifest);
        assert_eq!(stage.mirror(name).status, 200);
    }
    stage.immutag.wait_for_metric("immutag_events_total", "observed", number(cases.len()));
    stage.immutag.restart_with(|setup| setup.only_rules(super::RULES));
    for (name, _, sub_reason) in &cases {
        stage.assert_invalid(&stage.mirror(name), sub_reason);
    }
    assert!(stage.pins().abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn nested_indexes_are_served_and_not_descended() {
    let stage = Stage::new();
    let mut child = descriptor("leaf");
    let mut outer = None;
    for _ in 0..5 {
        let body =
            format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{child}]}}"#);
        let index = Manifest::new(OCI_INDEX, body);
        child =
            descriptor("x").replace(OCI_MANIFEST, OCI_INDEX).replace(&sha256(b"x"), index.digest());
        child.insert_str(child.len() - 1, r#","platform":{"os":"linux","architecture":"amd64"}"#);
        outer = Some(index);
    }
    let outer = outer.unwrap();
    stage.put("nested", &outer);
    assert_eq!(stage.mirror("nested").body, outer.blob.bytes);
    let url = stage.immutag.direct(&format!("{REGISTRY}/app/manifests/nested"));
    let image_only = crate::support::http::Call::new("GET", &url).field("accept", OCI_MANIFEST);
    assert_eq!(image_only.send().status, 404);
    assert_eq!(stage.registry.count("GET manifests/"), 1);
    stage.finish();
}

#[test]
fn urls_of_foreign_layers_are_passed_on_and_never_asked() {
    let stage = Stage::new();
    let trap = crate::support::registry::ScriptedRegistry::start();
    let layer = descriptor("layer").replace(
        r#""size""#,
        &format!(r#""urls":["http://169.254.169.254/x","{}/y"],"size""#, trap.url()),
    );
    let config = descriptor("config");
    let manifest = image(&format!(r#""config":{config},"layers":[{layer}]"#));
    stage.put("foreign", &manifest);
    assert_eq!(stage.mirror("foreign").body, manifest.blob.bytes);
    assert_eq!(stage.mirror(manifest.digest()).body, manifest.blob.bytes);
    // A pinned manifest's config is fetched by itself, and nothing else is.
    stage.registry.wait_for(&format!("GET blobs/{}", sha256(b"config")), 1);
    assert_eq!(stage.registry.requests().len(), 2);
    assert_eq!(trap.connections(), 0);
    stage.finish();
}

#[test]
fn an_encoded_manifest_is_refused_and_never_decoded() {
    let stage = Stage::new();
    let pinned = stage.pin("block-encoded");
    stage.pin("block-bomb");
    for (tag, encoding, size) in [
        ("encoded", "gzip", 100),
        ("bomb", "gzip", 4 << 20),
        ("zstd", "zstd", 9),
        ("two", "identity, br", 9),
    ] {
        let image = stage.registry.push_image("app", tag, tag);
        stage.registry.retag("app", &format!("block-{tag}"), image.digest());
        for tag in [tag.to_owned(), format!("block-{tag}"), image.digest().to_owned()] {
            let request = format!("GET manifests/{tag}");
            stage.registry.fault(&request, Fault::field("Content-Encoding", encoding));
            stage.registry.fault(&request, Fault::Body(vec![0x1f; size].into()));
        }
        stage.assert_invalid(&stage.direct(tag), "CONTENT_ENCODING");
        stage.assert_invalid(&stage.direct(image.digest()), "CONTENT_ENCODING");
    }
    assert_eq!(stage.mirror("block-encoded").body, pinned.manifest.blob.bytes);
    stage.finish();
}
