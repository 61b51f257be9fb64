//! Manifests whose frame is wrong: too large, without an end, of a lying length, of a status that
//! nobody asked for.

use super::Stage;
use crate::support::content::{DOCKER_MANIFEST, Manifest, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::server::{Ending, Framing};

/// An image manifest of exactly so many bytes.
fn manifest_of(size_bytes: usize) -> Manifest {
    let config = format!("sha256:{}", "0".repeat(64));
    let start = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"x/y","digest":"{config}","size":1}},"layers":[],"annotations":{{"pad":""#
    );
    let pad = "x".repeat(size_bytes - start.len() - 3);
    Manifest::new(OCI_MANIFEST, format!("{start}{pad}\"}}}}"))
}

#[test]
fn a_manifest_of_four_mebibytes_is_served_and_one_byte_more_is_not() {
    let stage = Stage::new();
    let largest = manifest_of(4 << 20);
    let larger = manifest_of((4 << 20) + 1);
    for tag in ["size", "rec-size"] {
        stage.put(tag, &largest);
        assert_eq!(stage.mirror(tag).body, largest.blob.bytes, "{tag}");
        let over = format!("{tag}-over");
        stage.put(&over, &larger);
        let refused = [stage.direct(&over), stage.mirror(&over), stage.direct(larger.digest())];
        for answer in refused {
            stage.assert_refused(&answer, 502, "SIZE_INVALID", "UPSTREAM_TOO_LARGE");
        }
    }
    assert!((stage.pins() - 1.0).abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn a_manifest_that_never_ends_is_cut_off_at_the_limit() {
    let stage = Stage::new();
    for tag in ["endless", "rec-endless", "block-endless"] {
        stage.registry.push_image("app", tag, tag);
        stage.registry.fault(&format!("GET manifests/{tag}"), Fault::Body(vec![b' '; 9999].into()));
        stage.registry.fault(&format!("GET manifests/{tag}"), Fault::Endless);
        for _ in 0..3 {
            let answer = stage.direct(tag);
            stage.assert_refused(&answer, 502, "SIZE_INVALID", "UPSTREAM_TOO_LARGE");
        }
    }
    assert!(stage.pins().abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn a_lying_content_length_of_a_manifest_is_counted_not_believed() {
    let stage = Stage::new();
    let cases = [
        ("short", Fault::ClaimLength("10".into()), "UPSTREAM_DIGEST_MISMATCH"),
        ("tera", Fault::ClaimLength("1000000000000".into()), "UPSTREAM_TOO_LARGE"),
        ("max", Fault::ClaimLength("18446744073709551615".into()), "UPSTREAM_INVALID"),
        ("over", Fault::ClaimLength("99999999999999999999999".into()), "UPSTREAM_INVALID"),
        ("negative", Fault::ClaimLength("-1".into()), "UPSTREAM_INVALID"),
        ("words", Fault::ClaimLength("ten".into()), "UPSTREAM_INVALID"),
        ("two", Fault::field("Content-Length", "3"), "UPSTREAM_INVALID"),
    ];
    for (tag, fault, reason) in cases {
        let pinned = stage.pin(&format!("block-{tag}"));
        stage.registry.push_image("app", tag, tag);
        for tag in [tag.to_owned(), format!("block-{tag}")] {
            stage.registry.fault(&format!("* manifests/{tag}"), fault.clone());
        }
        let answer = stage.direct(tag);
        assert_eq!(answer.status, 502, "{tag}: {}", answer.text());
        assert_eq!(answer.field("immutag-reason"), Some(reason), "{tag}: {}", answer.text());
        let served = stage.mirror(&format!("block-{tag}"));
        assert_eq!(served.body, pinned.manifest.blob.bytes, "{tag}");
    }
    stage.finish();
}

#[test]
fn a_manifest_without_a_length_is_taken_when_it_is_whole_and_refused_when_it_is_cut() {
    let stage = Stage::new();
    let framings = [("close", Framing::Close), ("chunked", Framing::Chunked)];
    for (tag, framing) in framings {
        let image = stage.registry.push_image("app", tag, tag);
        let request = format!("GET manifests/{tag}");
        stage.registry.fault(&request, Fault::Frame(framing.clone()));
        stage.registry.fault_times(&request, Fault::Cut(100, Ending::Fin), 9);
        // Without a length and a digest nothing but the manifest's own form tells.
        stage.registry.fault_times(&request, Fault::without("Docker-Content-Digest"), 9);
        let refused = stage.direct(tag);
        assert_eq!(refused.status, 502, "{tag}: {}", refused.text());
        assert!(stage.pins() < 2.0);
        stage.registry.clear_faults();
        stage.registry.fault(&request, Fault::Frame(framing));
        assert_eq!(stage.direct(tag).body, image.manifest.blob.bytes, "{tag}");
    }
    assert!((stage.pins() - 2.0).abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn statuses_that_nobody_asked_for_are_refused_and_never_pinned() {
    let stage = Stage::new();
    let empty = || Fault::Body(Vec::new().into());
    let cases: [(&str, Vec<Fault>); 7] = [
        ("empty", vec![empty()]),
        ("no-content", vec![Fault::Status(204), empty()]),
        ("partial", vec![Fault::Status(206)]),
        ("not-modified", vec![Fault::Status(304), empty()]),
        ("created", vec![Fault::Status(201)]),
        ("teapot", vec![Fault::Status(418)]),
        ("choices", vec![Fault::Status(300)]),
    ];
    for (name, faults) in &cases {
        for reaction in ["block", "rec", "hold"] {
            let tag = format!("{reaction}-{name}");
            let image = stage.registry.push_image("app", &tag, &tag);
            for fault in faults {
                stage.registry.fault(&format!("* manifests/{tag}"), fault.clone());
                stage.registry.fault(&format!("GET manifests/{}", image.digest()), fault.clone());
            }
            for reference in [&*tag, image.digest()] {
                let answer = stage.direct(reference);
                stage.assert_refused(&answer, 502, "MANIFEST_INVALID", "UPSTREAM_INVALID");
                assert_eq!(stage.mirror(reference).status, 502, "{reference}");
            }
        }
    }
    assert!(stage.pins().abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn the_same_statuses_leave_a_pin_as_it_is() {
    let stage = Stage::new();
    for status in [201, 204, 206, 300, 304, 418] {
        for reaction in ["block", "hold", "alert"] {
            let tag = format!("{reaction}-{status}");
            let pinned = stage.pin(&tag);
            stage.registry.fault(&format!("* manifests/{tag}"), Fault::Status(status));
            let answer = stage.mirror(&tag);
            assert_eq!((answer.status, answer.digest()), (200, pinned.digest()), "{tag}");
        }
    }
    assert!(stage.immutag.metric("immutag_conflicts_total", "").abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn a_head_with_a_body_or_without_a_length_does_no_harm() {
    let stage = Stage::new();
    let faults = [
        ("body", Fault::Raw(head_with_body().into(), Ending::Fin)),
        ("no-length", Fault::Frame(Framing::Close)),
        ("no-type", Fault::without("Content-Type")),
        ("no-digest", Fault::without("Docker-Content-Digest")),
    ];
    for (name, fault) in faults {
        for reaction in ["block", "rec"] {
            let tag = format!("{reaction}-{name}");
            let image = stage.registry.push_image("app", &tag, &tag);
            stage.registry.fault(&format!("HEAD manifests/{tag}"), fault.clone());
            // The second one finds the pin and asks by HEAD.
            for answer in [stage.direct(&tag), stage.direct(&tag)] {
                assert_eq!((answer.status, answer.digest()), (200, image.digest()), "{tag}");
            }
            let head = stage.head(&tag);
            assert_eq!(head.status, 200, "{tag}: {head:?}");
            if name != "body" || reaction == "block" {
                let length = image.manifest.blob.bytes.len().to_string();
                assert_eq!(head.field("content-length"), Some(&*length), "{tag}");
                assert_eq!(head.digest(), image.digest(), "{tag}");
            }
            assert_eq!(head.field("transfer-encoding"), None, "{tag}");
        }
    }
    assert!(stage.immutag.metric("immutag_conflicts_total", "").abs() < f64::EPSILON);
    stage.finish();
}

fn head_with_body() -> String {
    let body = r#"{"schemaVersion":2}"#;
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {OCI_MANIFEST}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_get_without_a_content_type_is_read_by_what_the_manifest_says() {
    let stage = Stage::new();
    for tag in ["block-typeless", "rec-typeless"] {
        let docker = crate::support::content::Image::docker(tag);
        stage.registry.put_image("app", &docker);
        stage.registry.retag("app", tag, docker.digest());
        stage.registry.fault(&format!("* manifests/{tag}"), Fault::without("Content-Type"));
        let answer = stage.mirror(tag);
        assert_eq!(answer.body, docker.manifest.blob.bytes, "{tag}");
        assert_eq!(answer.field("content-type"), Some(DOCKER_MANIFEST), "{tag}");
    }
    stage.finish();
}
