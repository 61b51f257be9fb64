//! Digests that lie, and names that are none.

use sha2::{Digest as _, Sha512};

use super::{REGISTRY, Stage, files};
use crate::support::content::{Image, Manifest, OCI_MANIFEST, sha256};
use crate::support::fault::Fault;
use crate::support::http::Call;
use crate::support::immutag::Immutag;

#[test]
fn a_manifest_by_digest_with_other_bytes_is_refused_and_not_cached() {
    let stage = Stage::new();
    let good = stage.registry.push_image("app", "1", "good");
    let evil = Image::new("evil");
    let request = format!("GET manifests/{}", good.digest());
    stage.registry.fault_times(&request, Fault::Body(evil.manifest.blob.bytes.clone()), 2);
    for answer in [stage.direct(good.digest()), stage.mirror(good.digest())] {
        let detail =
            stage.assert_refused(&answer, 502, "DIGEST_INVALID", "UPSTREAM_DIGEST_MISMATCH");
        assert_eq!(detail["observed"], evil.digest());
        assert_eq!(detail["pinned"], serde_json::Value::Null);
    }
    assert_eq!(stage.cached(), Vec::<String>::new());
    assert_eq!(stage.mirror(good.digest()).body, good.manifest.blob.bytes);
    stage.finish();
}

#[test]
fn a_tag_whose_header_names_another_digest_is_refused_not_pinned_and_written_down() {
    let stage = Stage::new();
    let other = sha256(b"other");
    let lie = || Fault::field("Docker-Content-Digest", &other);
    for tag in ["lie", "rec-lie", "block-lie", "alert-lie"] {
        stage.registry.push_image("app", tag, tag);
        stage.registry.fault(&format!("GET manifests/{tag}"), lie());
        for answer in [stage.direct(tag), stage.mirror(tag)] {
            stage.assert_refused(&answer, 502, "DIGEST_INVALID", "UPSTREAM_DIGEST_MISMATCH");
        }
    }
    assert!(stage.pins().abs() < f64::EPSILON);
    // Once for each covered tag; what is recorded has no history of refusals.
    stage.immutag.wait_for_metric("immutag_events_total", "invalid", 3.0);
    assert!((stage.immutag.metric("immutag_events_total", "") - 3.0).abs() < f64::EPSILON);
    stage.registry.clear_faults();
    assert_eq!(stage.mirror("lie").status, 200);
    stage.finish();
}

#[test]
fn a_header_that_lies_about_a_pinned_tag_changes_nothing_for_clients() {
    let stage = Stage::new();
    for tag in ["hold", "block-x", "alert-x"] {
        let pinned = stage.pin(tag);
        let lie = Fault::field("Docker-Content-Digest", &sha256(b"other"));
        stage.registry.fault(&format!("* manifests/{tag}"), lie);
        for answer in [stage.mirror(tag), stage.direct(tag)] {
            assert_eq!((answer.status, answer.digest()), (200, pinned.digest()), "{tag}");
        }
    }
    stage.immutag.wait_for_metric("immutag_events_total", "invalid", 3.0);
    assert!(stage.immutag.metric("immutag_conflicts_total", "").abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn a_header_of_an_unknown_algorithm_is_ignored_and_the_computed_digest_is_used() {
    let stage = Stage::new();
    for (number, header) in
        ["blake3:00", "md5:00", "sha256:zz", "", "x", "sha256:"].iter().enumerate()
    {
        for reaction in ["block", "rec"] {
            let tag = format!("{reaction}-{number}");
            let image = stage.registry.push_image("app", &tag, &tag);
            let fault = Fault::field("Docker-Content-Digest", header);
            stage.registry.fault(&format!("* manifests/{tag}"), fault);
            for answer in [stage.direct(&tag), stage.direct(&tag), stage.head(&tag)] {
                assert_eq!((answer.status, answer.digest()), (200, image.digest()), "{header}");
            }
        }
    }
    stage.finish();
}

#[test]
fn a_sha512_reference_is_verified_by_sha512() {
    let stage = Stage::new();
    let image = Image::new("512");
    let raw = Sha512::digest(&image.manifest.blob.bytes).into();
    let digest = immutag::oci::Digest::sha512(raw).to_string();
    let wrong = format!("sha512:{}", "ab".repeat(64));
    let mut manifest = Manifest::new(OCI_MANIFEST, image.manifest.blob.bytes.clone());
    for name in [&digest, &wrong] {
        manifest.blob.digest.clone_from(name);
        stage.registry.put_manifest("app", &manifest);
        stage.registry.put_blob("app", name, image.manifest.blob.bytes.clone());
    }
    let answer = stage.mirror(&digest);
    assert_eq!((answer.status, answer.digest()), (200, &*digest));
    assert_eq!(stage.pull(&digest).body, image.manifest.blob.bytes);
    let refused = stage.mirror(&wrong);
    stage.assert_refused(&refused, 502, "DIGEST_INVALID", "UPSTREAM_DIGEST_MISMATCH");
    stage.assert_broken(&wrong);
    stage.finish();
}

#[test]
fn what_is_no_digest_is_refused_before_any_upstream_is_asked() {
    let stage = Stage::new();
    let hex = "0".repeat(62);
    let digests = [
        format!("sha256:{hex}0"),
        format!("sha256:{hex}000"),
        format!("sha256:{hex}AB"),
        format!("sha256:{hex}0g"),
        format!("SHA256:{hex}00"),
        format!("sha256:sha256:{hex}00"),
        format!("md5:{}", &hex[..32]),
        format!("blake3:{hex}00"),
        format!("sha512:{hex}00"),
        format!(":{hex}00"),
        "sha256:".to_owned(),
        format!("sha256:{}", "a".repeat(30_000)),
    ];
    for digest in &digests {
        for path in ["manifests", "blobs", "referrers"] {
            let url = stage.immutag.mirror(&format!("app/{path}/{digest}?ns={REGISTRY}"));
            let answer = Call::new("GET", &url).send();
            stage.assert_refused(&answer, 400, "DIGEST_INVALID", "DIGEST_UNSUPPORTED");
            assert_eq!(Call::new("HEAD", &url).send().status, 400, "{url}");
        }
    }
    for path in
        ["blobs/sha256:../../x", "manifests/sha256:../../x", "blobs/../x", "blobs/", "manifests/"]
    {
        let url = stage.immutag.mirror(&format!("app/{path}?ns={REGISTRY}"));
        assert_eq!(Call::new("GET", &url).send().status, 400, "{path}");
    }
    assert_eq!(stage.registry.connections(), 0);
    assert_eq!(stage.cached(), Vec::<String>::new());
    stage.finish();
}

#[test]
fn a_digest_of_a_megabyte_is_refused_by_its_length() {
    let stage = Stage::new();
    let line =
        format!("GET /v2/app/blobs/sha256:{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    let answer = Immutag::raw(stage.immutag.addresses().mirror, line.as_bytes());
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(stage.registry.connections(), 0);
    stage.finish();
}

#[test]
fn names_that_are_none_are_refused_and_leave_no_trace() {
    let stage = Stage::new();
    let long = "a".repeat(30_000);
    for path in [
        "app/../other/manifests/1",
        "../app/manifests/1",
        "app/./manifests/1",
        "app//x/manifests/1",
        "App/manifests/1",
        "-app/manifests/1",
        "app/manifests/.1",
        "app/manifests/-1",
        "app/manifests/..",
        "app/manifests/1%00",
        "app/manifests/1%0a",
        "app/manifests/%1b[31m",
        "app%0ax/manifests/1",
        "app/manifests/1;x=y",
        &format!("{long}/manifests/1"),
        &format!("app/manifests/{long}"),
    ] {
        let url = stage.immutag.mirror(&format!("{path}?ns={REGISTRY}"));
        let answer = Call::new("GET", &url).send();
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        let code = answer.json()["errors"][0]["code"].as_str().unwrap().to_owned();
        assert!(["NAME_INVALID", "MANIFEST_INVALID"].contains(&&*code), "{path}: {code}");
    }
    for bytes in [&b"\0"[..], b"\x1b[31m", b"\n", b"\r", b"\xff\xfe", "\u{202e}x".as_bytes()] {
        let head = [b"GET /v2/app/manifests/1", bytes, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        let answer = Immutag::raw(stage.immutag.addresses().mirror, &head);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{bytes:?}: {answer}");
    }
    assert_eq!(stage.registry.connections(), 0);
    let cache = stage.immutag.data_dir().join("cache");
    for of_content in ["blobs", "links", "staged"] {
        assert_eq!(files(&cache.join(of_content)), Vec::<String>::new());
    }
    let told = stage.immutag.log();
    let harmless = |character: char| character == '\n' || !character.is_control();
    assert!(told.chars().all(harmless), "{told:?}");
    assert!(!told.contains('\u{202e}'));
    stage.finish();
}
