//! What a client accepts decides which bytes of the pin it gets, never what is pinned.

use super::{REGISTRY, Stage};
use crate::support::content::{DOCKER_LIST, DOCKER_MANIFEST, Index, OCI_INDEX, OCI_MANIFEST};
use crate::support::http::{Answer, Call};

const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

fn asking(stage: &Stage, method: &str, tag: &str, lines: &[&str]) -> Answer {
    let url = stage.immutag.mirror(&format!("app/manifests/{tag}?ns={REGISTRY}"));
    let call = Call::new(method, &url);
    lines.iter().fold(call, |call, line| call.field("Accept", line)).send()
}

#[test]
fn a_client_gets_the_pinned_index_or_the_child_that_it_names_and_no_second_pin() {
    let stage = Stage::new();
    let list = Index::typed(DOCKER_LIST, Index::new("list", &["arm64", "amd64"]).images);
    stage.registry.put_index("app", &list);
    stage.registry.retag("app", "multi", list.digest());
    let child = list.images[1].digest();
    let schema2_not_index = format!("{DOCKER_MANIFEST}, {OCI_INDEX};q=0, {DOCKER_LIST};q=0.0");
    let cases: [(&[&str], &str); 10] = [
        (&[DOCKER_MANIFEST], child),
        (&[], list.digest()),
        (&["*/*"], list.digest()),
        (&["application/json"], list.digest()),
        (&[DOCKER_LIST], list.digest()),
        (&[OCI_MANIFEST, DOCKER_MANIFEST, DOCKER_LIST], list.digest()),
        (&[OCI_MANIFEST, DOCKER_MANIFEST, SCHEMA1], child),
        (&[&schema2_not_index], child),
        (&[OCI_MANIFEST, "*/*;q=0.1"], list.digest()),
        (&[OCI_MANIFEST, "*/*;q=0"], child),
    ];
    for (lines, expected) in cases {
        for method in ["GET", "HEAD"] {
            let answer = asking(&stage, method, "multi", lines);
            assert_eq!((answer.status, answer.digest()), (200, expected), "{method} {lines:?}");
            assert_eq!(answer.field("vary"), Some("Accept"));
        }
    }
    assert!((stage.pins() - 1.0).abs() < f64::EPSILON);
    assert!((stage.immutag.metric("immutag_events_total", "") - 1.0).abs() < f64::EPSILON);
    let canonical = format!("{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}");
    for request in stage.registry.requests() {
        if request.path.ends_with("/multi") {
            assert_eq!(request.fields.get("Accept"), Some(&*canonical));
        }
    }
    stage.finish();
}

#[test]
fn a_registry_that_down_converts_makes_no_second_pin_and_no_alarm() {
    let stage = Stage::new();
    for tag in ["block-quay", "rec-quay"] {
        let index = stage.registry.push_index("app", tag, tag, &["amd64", "arm64"]);
        let child = index.images[0].digest();
        stage.registry.down_convert("app", tag, child);
        for _ in 0..2 {
            assert_eq!(
                asking(&stage, "GET", tag, &[OCI_INDEX, OCI_MANIFEST]).digest(),
                index.digest()
            );
            assert_eq!(asking(&stage, "GET", tag, &[OCI_MANIFEST]).digest(), child);
        }
    }
    stage.immutag.wait_for_metric("immutag_events_total", "observed", 1.0);
    // The pin and the recorded index; the child is no observation of the tag.
    assert!((stage.immutag.metric("immutag_events_total", "") - 2.0).abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn an_upstream_that_answers_a_child_of_the_pinned_index_raises_no_alarm() {
    let stage = Stage::new();
    for tag in ["block-child", "alert-child", "child"] {
        let index = stage.registry.push_index("app", tag, tag, &["amd64", "arm64"]);
        assert_eq!(stage.mirror(tag).digest(), index.digest());
        stage.registry.retag("app", tag, index.images[1].digest());
        for _ in 0..2 {
            assert_eq!(stage.mirror(tag).digest(), index.digest(), "{tag}");
            assert_eq!(stage.direct(tag).digest(), index.digest(), "{tag}");
        }
    }
    stage.immutag.wait_for_metric("immutag_events_total", "downgraded", 3.0);
    assert!(stage.immutag.metric("immutag_conflicts_total", "").abs() < f64::EPSILON);
    stage.finish();
}

#[test]
fn a_conditional_request_gets_the_full_answer() {
    let stage = Stage::new();
    let pinned = stage.pin("1.0.0");
    let recorded = stage.registry.push_image("app", "rec-1", "recorded");
    let blob = stage.blob("conditional", 1000);
    let etags = [pinned.digest(), recorded.digest(), &blob.digest, "*"];
    let tags: Vec<String> = etags.iter().map(|tag| format!("\"{tag}\"")).collect();
    let weak = tags.iter().map(|tag| format!("W/{tag}")).collect::<Vec<_>>().join(", ");
    let mut forms: Vec<&str> = etags.iter().copied().chain(tags.iter().map(|tag| &**tag)).collect();
    forms.push(&weak);
    let urls = [
        (stage.immutag.mirror(&format!("app/manifests/1.0.0?ns={REGISTRY}")), 0),
        (stage.immutag.mirror(&format!("app/manifests/{}?ns={REGISTRY}", pinned.digest())), 0),
        (stage.immutag.mirror(&format!("app/manifests/rec-1?ns={REGISTRY}")), 1),
        (stage.blob_url(&blob.digest), 2),
        (stage.immutag.direct(&format!("{REGISTRY}/app/manifests/1.0.0")), 0),
    ];
    let bodies = [&pinned.manifest.blob.bytes, &recorded.manifest.blob.bytes, &blob.bytes];
    for form in forms {
        for (url, body) in &urls {
            let answer = Call::new("GET", url)
                .field("If-None-Match", form)
                .field("If-Modified-Since", "Fri, 31 Dec 2100 23:59:59 GMT")
                .send();
            assert_eq!(
                (answer.status, &answer.body),
                (200, &bodies[*body].to_vec()),
                "{url} {form}"
            );
        }
    }
    let passed_on =
        |name: &str| stage.registry.requests().iter().any(|r| r.fields.get(name).is_some());
    assert!(!passed_on("If-None-Match") && !passed_on("If-Modified-Since"));
    stage.finish();
}

#[test]
fn an_accept_of_100_kilobytes_is_431_and_one_that_fits_is_read() {
    let stage = Stage::new();
    let image = stage.pin("1.0.0");
    let line = |size: usize| "a/b, ".repeat(size / 5);
    let answer = asking(&stage, "GET", "1.0.0", &[&line(100 << 10)]);
    assert_eq!(answer.status, 431);
    let halves = [&*line(50 << 10), &*line(50 << 10)];
    assert_eq!(asking(&stage, "GET", "1.0.0", &halves).status, 431);
    assert_eq!(asking(&stage, "GET", "1.0.0", &[&line(60 << 10)]).digest(), image.digest());
    stage.finish();
}
