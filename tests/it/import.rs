//! Lists and other ledgers, taken over: claims that the upstream confirms, all or nothing, and
//! never over what is there. `faults.md`, L-06, L-09, L-14 and L-17.

mod claims;
mod engines;
mod lists;
mod whole;

use crate::support::immutag::Immutag;
use crate::support::process::Ran;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";

fn under(registry: &ScriptedRegistry, reaction: &str) -> Immutag {
    Setup::new().upstream(REGISTRY, &registry.url()).every_tag(reaction, "0s").start()
}

/// Imports a file with this text.
#[track_caller]
fn import(immutag: &Immutag, text: &str, more: &[&str]) -> Ran {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("our own file");
    let path = file.path().display().to_string();
    immutag.cli(&[&["ledger", "import", &path][..], more].concat())
}

/// Imports one digest for `app:1.0.0`.
#[track_caller]
fn claim(immutag: &Immutag, digest: &str) {
    import(immutag, &format!("{REGISTRY}/app:1.0.0@{digest}\n"), &["--reason", "ticket 9"]).ok();
}

/// The kinds of events of `app:1.0.0`, the first one first.
#[track_caller]
fn kinds(immutag: &Immutag) -> Vec<String> {
    let reference = format!("{REGISTRY}/app:1.0.0");
    let ran = immutag.cli(&["ledger", "history", &reference, "--json"]).ok();
    let kind = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
        event["kind"].as_str().expect("an event has a kind").to_owned()
    };
    ran.stdout.lines().map(kind).collect()
}

/// Decides about `app:1.0.0`.
#[track_caller]
fn decide(immutag: &Immutag, what: &str, more: &[&str]) -> Ran {
    let reference = format!("{REGISTRY}/app:1.0.0");
    immutag.cli(&[&["ledger", what, &reference, "--reason", "ticket 7"][..], more].concat())
}
