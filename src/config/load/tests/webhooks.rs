//! `[[webhook]]`: what arrives, and what is refused.

use super::*;
use crate::config::{WebhookConfig, WebhookFormat};
use crate::event::EventKind;
use crate::triage::Severity;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn every_part_of_a_webhook_arrives() {
    let world = World::with(
        r#"[[webhook]]
name = "oncall"
url = "http://10.0.0.7:8080/hook?x=1"
plain-http = true
allow-private = true
secret-file = "keys"
events = ["default", "pinned", "conflict"]
min-severity = "medium"
proxy = ""
timeout = "3s"
[[webhook]]
name = "chat"
format = "slack"
url-file = "url"
"#,
    )
    .file("keys", &format!("{KEY}\n\n whsec_{}= \n", "A".repeat(43)), 0o600)
    .file("url", "https://hooks.example/services/T0/B0/x\n", 0o600);
    let [oncall, chat] = &world.loaded().webhooks[..] else { panic!("two") };
    assert_eq!(oncall.url.expose(), "http://10.0.0.7:8080/hook?x=1");
    assert_eq!(oncall.secrets.len(), 2);
    assert_eq!(oncall.secrets[0].expose(), KEY);
    assert_eq!(oncall.events.len(), WebhookConfig::DEFAULT_EVENTS.len() + 1);
    assert_eq!(oncall.events[0], EventKind::Pinned);
    assert_eq!((oncall.min_severity, oncall.timeout), (Severity::Medium, Duration::from_secs(3)));
    assert_eq!((chat.format, &*chat.name), (WebhookFormat::Slack, "chat"));
    assert_eq!(chat.url.expose(), "https://hooks.example/services/T0/B0/x");
    assert!(!format!("{:?}", world.loaded()).contains("services"));
}

#[test]
fn webhooks_of_the_environment_take_the_place_of_the_files() {
    let text = "[[webhook]]\nname = \"a\"\nurl = \"https://a.example\"\nunsigned = true\n";
    let world = World::with(text).variable("IMMUTAG__WEBHOOK", &text.replace("\"a\"", "\"b\""));
    let names: Vec<_> = world.loaded().webhooks.iter().map(|it| it.name.clone()).collect();
    assert_eq!(names, ["b"]);
}

/// Everything that can be wrong.
const WRONG: &str = r#"[[webhook]]
name = "On Call"
url = "https://user:canary@a.example/"
url-file = "url"
events = ["conflict", "conflcit"]
min-severity = "urgent"
[[webhook]]
name = "a"
url = "http://a.example/canary"
secret-file = "open"
[[webhook]]
name = "a"
url = "https://10.0.0.7/canary"
secret-file = "short"
timeout = 0
[[webhook]]
name = "c"
format = "slack"
url-file = "url"
secret-file = "keys"
events = []
[[webhook]]
name = "d"
url = "https://d.example/#canary"
unsigned = true
secret-file = "keys"
[[webhook]]
url-file = "missing"
"#;

#[test]
fn every_problem_of_webhooks_is_told_with_its_line_and_without_a_secret() {
    let world = World::with(WRONG)
        .file("url", "canary", 0o600)
        .file("open", KEY, 0o644)
        .file("short", "whsec_Y2FuYXJ5", 0o600)
        .file("keys", KEY, 0o600);
    let problems = world.problems();
    let expected = [
        "immutag.toml:1:1: webhook 1: secret-file: it is missing",
        "immutag.toml:2:8: webhook 1: name: a name is 1 to 32 of a-z",
        "immutag.toml:4:12: webhook 1: url-file: there is url already",
        "immutag.toml:5:23: webhook 1: events 2: \"conflcit\" is no kind of event; known are",
        "immutag.toml:6:16: webhook 1: min-severity: unknown variant \"urgent\"",
        "immutag.toml:9:7: webhook 2: url: http is neither private nor authentic",
        "immutag.toml:10:15: webhook 2: secret-file: open holds a secret and has mode 0644",
        "immutag.toml:12:8: webhook 3: name: \"a\" is there already",
        "immutag.toml:13:7: webhook 3: url: it leads to a private address",
        "immutag.toml:14:15: webhook 3: secret-file: short: a line is whsec_ and 24 to 64 bytes",
        "immutag.toml:15:11: webhook 3: timeout: it must be more than 0",
        "immutag.toml:19:12: webhook 4: url-file: it must be https://host[:port]/path",
        "immutag.toml:20:15: webhook 4: secret-file: nobody checks it",
        "immutag.toml:21:10: webhook 4: events: nothing would be told",
        "immutag.toml:24:7: webhook 5: url: it must be https://host[:port]/path",
        "immutag.toml:26:15: webhook 5: secret-file: unsigned = true says",
        "immutag.toml:27:1: webhook 6: name: it is missing",
        "immutag.toml:27:1: webhook 6: secret-file: it is missing",
        "immutag.toml:28:12: webhook 6: url-file: missing cannot be read",
    ];
    let lines: Vec<_> = problems.lines().collect();
    let agrees = lines.iter().zip(expected).all(|(line, start)| line.starts_with(start));
    assert!(agrees && lines.len() == expected.len(), "{problems}");
    assert!(!problems.contains("canary") && !problems.contains("MfKQ"), "{problems}");
}
