//! What messages look like.

use serde_json::{Value, json};

use super::{Command, Head, Notice, Pulled, Puller, Repeats, cloud_event, slack};
use crate::triage::Severity;

fn notice() -> Notice {
    Notice {
        id: "ab-7-1800000000000".to_owned(),
        time_ms: 1_800_000_000_000,
        kind: "conflict".to_owned(),
        text: "a.example/app:1.0.0 moved.".to_owned(),
        severity: Severity::High,
        tag: Some("a.example/app:1.0.0".to_owned()),
        pulls: vec![Pulled {
            digest: "sha256:00".to_owned(),
            total: 12,
            clients: vec![Puller { client: "10.0.0.1".to_owned(), count: 3, ..Puller::default() }],
        }],
        commands: vec![Command { to: "look".to_owned(), run: "immutag ledger show x".to_owned() }],
        repeats: Some(Repeats { count: 2, first_sequence: 5, first: String::new() }),
        sequence: Some(7),
        ledger: Some(Head { id: "ab".to_owned(), size: 9, hash: "cd".to_owned() }),
        ..Notice::default()
    }
}

fn slack_text(notice: &Notice) -> String {
    let body: Value = serde_json::from_slice(&slack::body(notice)).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1);
    body["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_cloud_event_has_what_the_specification_requires_and_the_ledgers_head() {
    let event: Value = serde_json::from_slice(&cloud_event::body(&notice())).unwrap();
    let attributes = [
        ("specversion", "1.0"),
        ("id", "ab-7-1800000000000"),
        ("source", "urn:immutag:ledger:ab"),
        ("type", "io.immutag.conflict"),
        ("subject", "a.example/app:1.0.0"),
        ("time", "2027-01-15T08:00:00Z"),
        ("datacontenttype", "application/json"),
    ];
    for (name, value) in attributes {
        assert_eq!(event[name], value, "{name}");
    }
    // Attribute names are lower-case letters and digits.
    let names = event.as_object().unwrap().keys();
    assert!(names.into_iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase())));
    let data = &event["data"];
    assert_eq!(data["ledger"], json!({ "id": "ab", "size": 9, "hash": "cd" }));
    assert_eq!(data["severity"], "high");
    assert_eq!(data["repeats"]["count"], 2);
    assert_eq!(data["pulls"][0]["clients"][0]["count"], 3);
}

#[test]
fn what_an_attacker_writes_can_neither_mention_nor_link_nor_end_its_code_span() {
    let hostile = "`<!channel> @here <https://evil.example|a> ![x](http://evil.example) & `\n*b*";
    let text = slack_text(&Notice { changes: Some(hostile.to_owned()), ..notice() });
    let line = text.lines().find(|line| line.starts_with("• changes")).unwrap();
    let inside = line.strip_prefix("• changes: `").unwrap().strip_suffix('`').unwrap();
    assert!(!inside.contains(['`', '<', '>']), "{inside}");
    assert!(inside.contains("&lt;!channel&gt; @here") && inside.contains("&amp;"), "{inside}");
    assert!(inside.ends_with("*b*"), "the rest is on the same line: {inside}");
}

#[test]
fn the_text_for_chats_is_bounded_and_its_commands_come_before_what_explains() {
    let reasons = (0..100).map(|number| format!("{number} {}", "&".repeat(400))).collect();
    let long = Some("&".repeat(500));
    let hostile = Notice { reasons, why: long.clone(), changes: long, ..notice() };
    let text = slack_text(&hostile);
    assert!(text.len() <= 4000 && text.ends_with('…'), "{}", text.len());
    assert!(text.contains("• to look: `immutag ledger show x`"), "{text}");
    assert!(text.contains("`sha256:00` was pulled 12 times: `10.0.0.1 ×3`"), "{text}");
    let nobody = Pulled { digest: "sha256:00".to_owned(), ..Pulled::default() };
    let text = slack_text(&Notice { pulls: vec![nobody], ..notice() });
    assert!(text.contains("`sha256:00` was pulled by nobody\n"), "{text}");
}
