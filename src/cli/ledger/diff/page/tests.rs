use serde_json::{Value, json};

use super::*;
use crate::printable::is_unprintable;

const EVIL: &str = "\u{1b}[2J\u{202e}x";

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// A change with something in every section, as the server would send it.
fn explained() -> Value {
    let field = |name: &str| json!({ "name": name, "before": EVIL, "after": null });
    let few = |names: Value| json!({ "some": names, "more": 0 });
    json!({
        "registry": "docker.io", "repository": "library/app", "tag": "1.0.0", "is-open": true,
        "before": digest('a'), "after": digest('b'), "severity": "high",
        "reasons": ["Entrypoint changed"],
        "media-type": field("media type"),
        "platforms": {
            "gained": few(json!([])), "lost": few(json!(["linux/s390x"])),
            "changed": few(json!(["linux/amd64"])), "same": 2, "is-reordered": false,
            "attestations": [2, 0], "same-attestations": 0,
        },
        "images": [{
            "platform": "linux/amd64", "before": digest('c'), "after": digest('d'),
            "media-type": null, "is-same-config": false,
            "layers": {
                "kind": "added", "same-below": 3, "before": 3, "after": 4,
                "before-bytes": 1_048_576, "after-bytes": 2_097_152, "claims-same-content": false,
            },
            "config": {
                "run": [field("Entrypoint")], "env-added": few(json!(["A", EVIL])),
                "env-removed": few(json!([])), "env-changed": few(json!([])),
                "labels": { "some": [field(EVIL)], "more": 7 }, "created": field("created"),
            },
            "origin": [{ "place": "label", "name": "org.opencontainers.image.source",
                         "before": "https://a", "after": "https://b" }],
        }],
        "origin": [],
        "signatures": {
            "before": { "signature": "present", "attestation": "unknown", "sbom": "absent",
                        "referrers": "absent" },
            "after": { "signature": "absent", "attestation": "unknown", "sbom": "absent",
                       "referrers": "absent" },
        },
        "unseen": few(json!(["one more platform"])),
    })
}

fn lines_of(explained: &Value) -> String {
    page(&serde_json::from_value(explained.clone()).unwrap(), true).join("\n")
}

#[test]
fn the_page_says_what_changed_and_what_decides() {
    insta::assert_snapshot!(lines_of(&explained()), @r#"
    docker.io/library/app:1.0.0
      was             sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
      offered         sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb

    SEVERITY  HIGH
      a hint, no verdict: what an image says of itself is its publisher's text
      - Entrypoint changed

    MANIFEST
      media type      "\u{1b}[2J\u{202e}x" -> nothing

    PLATFORMS
      changed         linux/amd64
      lost            linux/s390x
      same            2
      attestations    2 before, 0 now, 0 the same

    IMAGE  linux/amd64
      was             sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
      is              sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd
      layers          3 before, 4 now, 3 at the bottom the same
      size            1MiB before, 2MiB now, packed, as claimed
      Entrypoint      "\u{1b}[2J\u{202e}x" -> nothing
      env added       A, "\u{1b}[2J\u{202e}x" (values are not shown: they may be secrets)
      created         "\u{1b}[2J\u{202e}x" -> nothing
      label "\u{1b}[2J\u{202e}x"  "\u{1b}[2J\u{202e}x" -> nothing
      labels          7 more changed

    ORIGIN  linux/amd64  as it says itself
      source (label)  "https://a" -> "https://b"

    SIGNATURES
      whether something is there; nothing of it was verified
      signature       present before, none now
      attestation     unknown before, unknown now
      SBOM            none before, none now
      referrers       none before, none now

    NOT LOOKED AT
      - one more platform

    DECIDE
      follow it       immutag ledger approve docker.io/library/app:1.0.0 --digest sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb --reason WHY
      deny the old    immutag ledger approve docker.io/library/app:1.0.0 --digest sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb --revoke sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa --reason WHY
      keep what was   immutag ledger reject docker.io/library/app:1.0.0 --digest sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb --reason WHY
      deny it         immutag ledger revoke sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb --reason WHY
    "#);
}

#[test]
fn nothing_on_the_page_moves_a_cursor_even_if_it_came_unescaped() {
    let page = lines_of(&explained());
    assert!(page.lines().all(|line| !line.contains(is_unprintable)), "{page:?}");
    assert!(page.contains("\\u{1b}[2J\\u{202e}x"), "{page}");
}

#[test]
fn what_is_not_open_is_decided_the_other_way_round() {
    let mut change = explained();
    change["is-open"] = json!(false);
    change["signatures"] = Value::Null;
    let page = lines_of(&change);
    assert!(
        page.contains(&format!("approve docker.io/library/app:1.0.0 --digest {}", digest('a')))
    );
    assert!(page.contains("no server runs, so the registry was not asked"), "{page}");
}
