//! `config/immutag.toml` is the manual: it must be complete and true.

use super::*;
use crate::config::WebhookConfig;

const EXAMPLE: &str = include_str!("../../../../config/immutag.toml");

/// The example with every setting in it, also those that are commented out.
fn everything() -> String {
    EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest)
                if rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') =>
            {
                rest
            }
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The keys of the table that `header` opens: what the refusal of an unknown key lists.
fn known_keys(header: &str) -> Vec<String> {
    let problems = World::with(&format!("{header}\nno-such-key-at-all = 1")).problems();
    let known = problems.lines().find_map(|line| line.split_once("known here: ")).unwrap();
    known.1.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_example_is_the_defaults() {
    let default = World::new().loaded();
    let example = World::with(EXAMPLE).loaded();
    assert_eq!(format!("{example:#?}"), format!("{default:#?}"));
}

#[test]
fn the_example_says_every_key() {
    let everything = everything();
    for header in [
        "",
        "[[listener]]",
        "[admin]",
        "[audit]",
        "[journal]",
        "[ledger]",
        "[cache]",
        "[[rule]]",
        "[upstream.\"a.example\"]",
        "[[webhook]]",
    ] {
        for key in known_keys(header) {
            // A password is not for a file.
            let is_there = everything.lines().any(|line| {
                let setting = line.trim_start_matches(['[']);
                setting.strip_prefix(&key).is_some_and(|rest| rest.starts_with([' ', ']', '.']))
            });
            assert!(is_there || key == "password", "{header} {key}");
        }
    }
}

#[test]
fn what_the_example_has_commented_out_is_right_too() {
    // Two ways to give credentials stand side by side there; the files need not exist.
    let without: Vec<_> = everything()
        .lines()
        .filter(|line| {
            let away = ["username", "password-file", "docker-config", "repositories", "tls"];
            let files = ["ca-file", "secret-file", "url-file"];
            !away.iter().chain(&files).any(|key| line.starts_with(key))
        })
        .map(str::to_owned)
        .collect();
    let config = World::with(&without.join("\n")).loaded();
    let rule = &config.policy.rules[0];
    assert_eq!(rule.recheck, crate::policy::builtin::DEFAULT_RECHECK);
    assert_eq!(rule.settle, Duration::ZERO);
    let webhook = &config.webhooks[0];
    assert_eq!(webhook.events.len(), WebhookConfig::DEFAULT_EVENTS.len());
    assert_eq!(webhook.timeout, WebhookConfig::TIMEOUT);
    let upstream = config.upstreams.values().next().unwrap();
    let default = crate::config::UpstreamConfig::for_origin(String::new());
    assert_eq!(upstream.connect_timeout, default.connect_timeout);
    assert_eq!(upstream.header_timeout, default.header_timeout);
    assert_eq!(upstream.body_idle_timeout, default.body_idle_timeout);
}

#[test]
fn the_configurations_that_we_ship_are_right() {
    for text in [
        include_str!("../../../../config/container.toml"),
        include_str!("../../../../config/compose/immutag.toml"),
    ] {
        World::with(text).loaded();
    }
}
