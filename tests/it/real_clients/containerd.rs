//! containerd's way, request by request: `?ns=`, HEAD by tag, GET by digest, blobs in ranges.
//!
//! containerd itself needs root and mounts, so its requests are sent as it sends them (2.1).

use super::stage::{REGISTRY, REPOSITORY, Upstream, is_set};
use crate::support::content::Image;
use crate::support::http::{Answer, Call};
use crate::support::immutag::Immutag;

const TAG: &str = "1.0.0";

const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// `hosts.toml` names the mirror alone, or with a path before `/v2`.
#[derive(Clone, Copy)]
struct Host<'a> {
    immutag: &'a Immutag,
    path: &'a str,
}

impl Host<'_> {
    fn call(self, method: &str, what: &str) -> Call {
        let (mirror, path) = (self.immutag.addresses().mirror, self.path);
        let url = format!("http://{mirror}{path}/v2/{REPOSITORY}/{what}?ns={REGISTRY}");
        Call::new(method, &url)
            .field("Accept", ACCEPT)
            .field("Accept-Encoding", "zstd, gzip")
            .field("User-Agent", "containerd/v2.1.4")
    }

    /// Resolves the tag, fetches by digest, resumes each blob in its middle.
    fn pulls(self, image: &Image) {
        let head = self.call("HEAD", &format!("manifests/{TAG}")).send();
        assert_eq!((head.status, head.digest()), (200, image.digest()));
        let manifest = self.call("GET", &format!("manifests/{}", image.digest())).send();
        assert_eq!(manifest.body, image.manifest.blob.bytes);
        for field in ["Content-Type", "Content-Length", "Docker-Content-Digest"] {
            assert_eq!(head.field(field), manifest.field(field), "{field}");
        }
        for blob in image.layers.iter().chain([&image.config]) {
            let what = format!("blobs/{}", blob.digest);
            let whole = self.call("GET", &what).field("Range", "bytes=0-").send();
            assert_eq!((whole.status, &whole.body[..]), (206, &blob.bytes[..]));
            let (half, last) = (blob.bytes.len() / 2, blob.bytes.len() - 1);
            let rest = self.call("GET", &what).field("Range", &format!("bytes={half}-")).send();
            assert_eq!((rest.status, &rest.body[..]), (206, &blob.bytes[half..]));
            let part = format!("bytes {half}-{last}/{}", blob.bytes.len());
            assert_eq!(rest.field("Content-Range"), Some(part.as_str()));
            for answer in [&whole, &rest] {
                assert_plain(answer);
            }
        }
        assert_plain(&head);
        assert_plain(&manifest);
    }
}

/// The namespace is echoed, nothing is compressed, nobody is sent elsewhere.
#[track_caller]
fn assert_plain(answer: &Answer) {
    assert_eq!(answer.field("OCI-Namespace"), Some(REGISTRY));
    assert_eq!((answer.field("Content-Encoding"), answer.field("Location")), (None, None));
}

fn each_host(immutag: &Immutag, check: impl Fn(Host<'_>)) {
    let with_path = format!("/{REGISTRY}");
    for path in ["", with_path.as_str()] {
        check(Host { immutag, path });
    }
}

#[test]
fn a_held_tag_comes_as_first_seen() {
    if !is_set() {
        return;
    }
    for upstream in [Upstream::plain(), Upstream::locked()] {
        let mut immutag = upstream.immutag("hold", "0s");
        let a = upstream.push(TAG, "a");
        each_host(&immutag, |host| host.pulls(&a));
        let b = upstream.push(TAG, "b");
        each_host(&immutag, |host| host.pulls(&a));
        immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
        each_host(&immutag, |host| {
            host.pulls(&a);
            let warned = host.call("GET", &format!("manifests/{TAG}")).send();
            assert!(warned.field("Warning").is_some_and(|text| text.contains(b.digest())));
        });
        assert!(!upstream.registry.log().contains("ns="), "ns is a word between clients and us");
        immutag.assert_alive_and_clean();
    }
}

#[test]
fn a_moved_tag_under_record_and_alert_comes_as_it_is_now() {
    if !is_set() {
        return;
    }
    for reaction in ["record", "alert"] {
        let upstream = Upstream::plain();
        let immutag = upstream.immutag(reaction, "0s");
        let a = upstream.push(TAG, "a");
        each_host(&immutag, |host| host.pulls(&a));
        let b = upstream.push(TAG, "b");
        each_host(&immutag, |host| host.pulls(&b));
    }
}

#[test]
fn a_blocked_tag_is_a_300_in_words_and_leads_to_no_blob() {
    if !is_set() {
        return;
    }
    let upstream = Upstream::plain();
    let mut immutag = upstream.immutag("block", "0s");
    let a = upstream.push(TAG, "a");
    each_host(&immutag, |host| host.pulls(&a));
    let b = upstream.push(TAG, "b");
    each_host(&immutag, |host| {
        let head = host.call("HEAD", &format!("manifests/{TAG}")).send();
        assert_eq!(head.status, 300);
        let says = |part: &str| head.reason.contains(part);
        assert!(says("is pinned to") && says(a.digest()) && says(b.digest()), "{}", head.reason);
        let tombstone = host.call("GET", &format!("manifests/{}", head.digest())).send();
        let config = tombstone.json()["config"]["digest"].as_str().expect("a config").to_owned();
        let blob = host.call("GET", &format!("blobs/{config}")).send();
        assert_eq!(blob.status, 404);
        assert!(blob.text().contains("is pinned to"), "{}", blob.text());
        // Somebody's own digest stays lawful.
        let pinned = host.call("GET", &format!("manifests/{}", a.digest())).send();
        assert_eq!(pinned.body, a.manifest.blob.bytes);
        assert_eq!(host.call("HEAD", &format!("manifests/{}", b.digest())).send().status, 200);
    });
    immutag.assert_alive_and_clean();
}
