//! `BuildKit`'s source policy: what a build may name, and what it becomes.
//!
//! Source: `BuildKit`, `sourcepolicy/pb/policy.proto` and `sourcepolicy/engine.go`, read with
//! `docker buildx build` from the file that `EXPERIMENTAL_BUILDKIT_SOURCE_POLICY` names. A
//! `CONVERT` ends the round, and what came of it is judged again from the first rule; of `ALLOW`
//! and `DENY` the last one that matches counts.

use regex::escape;
use serde::Serialize;

use super::pins::Pins;
use crate::oci::Reference;

/// What `BuildKit` calls an image in front of its full name.
const SCHEME: &str = "docker-image://";

#[derive(Serialize)]
struct Policy {
    version: i64,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
struct Rule {
    action: &'static str,
    selector: Selector,
    #[serde(skip_serializing_if = "Option::is_none")]
    updates: Option<Update>,
}

#[derive(Serialize)]
struct Selector {
    identifier: String,
    match_type: &'static str,
}

#[derive(Serialize)]
struct Update {
    identifier: String,
}

/// The policy as JSON.
///
/// With `denies_rest` no image passes but the digests that are locked, whatever tag is written in
/// front of them; other sources (git, HTTP, local files) are left alone.
pub(super) fn policy(pins: &Pins, denies_rest: bool) -> anyhow::Result<String> {
    let mut rules = Vec::new();
    if denies_rest {
        rules.push(rule("DENY", format!("^{SCHEME}"), "REGEX"));
    }
    for (reference, digest) in pins.images.iter().filter(|(key, _)| key.tag.is_some()) {
        let pinned = Reference { digest: Some(*digest), ..reference.clone() };
        let updates = Some(Update { identifier: format!("{SCHEME}{pinned}") });
        rules.push(Rule { updates, ..rule("CONVERT", format!("{SCHEME}{reference}"), "EXACT") });
    }
    if denies_rest {
        for reference in pins.by_digest() {
            let digest = reference.digest.map(|digest| digest.to_string()).unwrap_or_default();
            let name = Reference { digest: None, ..reference.clone() }.to_string();
            let pattern = format!("^{SCHEME}{}(:[^/@]+)?@{digest}$", escape(&name));
            rules.push(rule("ALLOW", pattern, "REGEX"));
        }
    }
    let text = serde_json::to_string_pretty(&Policy { version: 1, rules })?;
    Ok(text + "\n")
}

fn rule(action: &'static str, identifier: String, match_type: &'static str) -> Rule {
    Rule { action, selector: Selector { identifier, match_type }, updates: None }
}
