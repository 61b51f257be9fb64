//! The pull journal and `immutag pulls`: who got which digest, when a tag moved, with the server and
//! without it. `faults.md`, R-06 is in `injected`.

mod injected;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::support::content::{Image, OCI_INDEX, OCI_MANIFEST};
use crate::support::fault::Fault;
use crate::support::http::{Answer, Call};
use crate::support::immutag::Immutag;
use crate::support::process::Ran;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";
const ALICE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const BOB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);

/// The reaction is the begin of a tag's name.
const RULES: &str = r#"
[[rule]]
tag = { glob = "alert-*" }
on-conflict = "alert"
recheck = "0s"
[[rule]]
tag = { glob = "block-*" }
on-conflict = "block"
recheck = "0s"
[[rule]]
tag = { glob = "hold-*" }
on-conflict = "hold"
recheck = "0s"
[[rule]]
tag = { glob = "kept-*" }
on-conflict = "hold"
recheck = "1h"
[[rule]]
on-conflict = "record"
"#;

struct Stage {
    registry: ScriptedRegistry,
    immutag: Immutag,
}

impl Stage {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let registry = ScriptedRegistry::start();
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).rules(RULES);
        Self { immutag: change(setup).start(), registry }
    }

    fn push(&self, tag: &str, seed: &str) -> Image {
        self.registry.push_image("app", tag, seed)
    }

    fn ask(&self, method: &str, client: Ipv4Addr, reference: &str) -> Answer {
        let url = self.immutag.mirror(&format!("app/manifests/{reference}?ns={REGISTRY}"));
        let accept = format!("{OCI_INDEX}, {OCI_MANIFEST}");
        Call::new(method, &url).field("Accept", &accept).from(client).send()
    }

    fn pull(&self, client: Ipv4Addr, reference: &str) -> Answer {
        self.ask("GET", client, reference)
    }

    fn pulls(&self, arguments: &[&str]) -> Ran {
        self.immutag.cli(&[&["pulls"], arguments].concat()).ok()
    }

    /// Entries as JSON.
    fn entries(&self, arguments: &[&str]) -> Vec<Value> {
        let ran = self.pulls(arguments);
        ran.stdout.lines().map(|line| line.parse().expect("it is JSON")).collect()
    }

    /// Waits for `count` entries: client, outcome and digest of each.
    #[track_caller]
    fn wait_for(&self, count: usize, arguments: &[&str]) -> Vec<(String, String, String)> {
        let mut entries = Vec::new();
        eventually(&format!("{count} entries of {arguments:?}"), || {
            entries = self.entries(arguments);
            entries.len() >= count
        });
        assert_eq!(entries.len(), count, "{entries:#?}");
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let three = |it: &Value| (text(&it["client"]), text(&it["outcome"]), text(&it["digest"]));
        entries.iter().map(three).collect()
    }
}

fn row(client: Ipv4Addr, outcome: &str, digest: &str) -> (String, String, String) {
    (client.to_string(), outcome.to_owned(), digest.to_owned())
}

fn tag(tag: &str) -> String {
    format!("{REGISTRY}/app:{tag}")
}

#[test]
fn when_a_tag_moved_it_is_known_who_pulled_which_digest_by_tag_and_by_digest() {
    let stage = Stage::new();
    let a = stage.push("alert-1", "a");
    assert_eq!(stage.pull(ALICE, "alert-1").digest(), a.digest());
    stage.wait_for(1, &[]);
    let b = stage.push("alert-1", "b");
    assert_eq!(stage.pull(BOB, "alert-1").digest(), b.digest());
    stage.wait_for(2, &[]);
    assert_eq!(stage.pull(ALICE, b.digest()).digest(), b.digest());
    let (first, moved) = (row(ALICE, "pinned", a.digest()), row(BOB, "followed", b.digest()));
    let by_digest = row(ALICE, "by-digest", b.digest());
    assert_eq!(stage.wait_for(3, &[]), [first.clone(), moved.clone(), by_digest.clone()]);
    assert_eq!(stage.wait_for(1, &["--digest", a.digest()]), std::slice::from_ref(&first));
    assert_eq!(stage.wait_for(2, &["--digest", b.digest()]), [moved.clone(), by_digest]);
    assert_eq!(stage.wait_for(2, &["--ref", &tag("alert-1")]), [first, moved.clone()]);
    let both = ["--ref", &tag("alert-1"), "--digest", b.digest(), "--since", "1h"];
    assert_eq!(stage.wait_for(1, &both), [moved]);
    let repository = format!("{REGISTRY}/app@{}", b.digest());
    assert_eq!(stage.wait_for(1, &["--ref", &repository]).len(), 1);
    assert_eq!(stage.wait_for(2, &["--client", &ALICE.to_string()]).len(), 2);

    let table = stage.pulls(&["--table", "--digest", b.digest()]).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("TIME ") && lines[1].contains(&BOB.to_string()), "{table}");
    assert!(lines[1].contains(&b.digest()[..19]) && lines[1].contains(" followed "), "{table}");
    assert_eq!(lines[3], "2 pulls by 2 clients");
}

#[test]
fn nothing_found_is_no_failure_and_is_said() {
    let stage = Stage::new();
    let none = format!("sha256:{}", "0".repeat(64));
    for form in ["--json", "--table"] {
        let ran = stage.pulls(&["--digest", &none, form]);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.contains("0 pulls by 0 clients"), "{}", ran.stderr);
    }
    stage.push("hold-1", "a");
    stage.pull(ALICE, "hold-1");
    stage.wait_for(1, &[]);
    assert!(stage.entries(&["--since", "2100-01-01T00:00:00Z"]).is_empty());
    let ran = stage.immutag.cli(&["pulls", "--since", "yesterday"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
}

#[test]
fn each_outcome_is_written_as_what_it_was() {
    let stage = Stage::new();
    let a = stage.push("hold-1", "a");
    let block = stage.push("block-1", "block");
    for reference in ["hold-1", "block-1"] {
        assert_eq!(stage.pull(ALICE, reference).status, 200);
    }
    let recorded = stage.push("other", "r");
    for method in ["HEAD", "GET"] {
        assert_eq!(stage.ask(method, ALICE, "other").status, 200);
        stage.wait_for(if method == "HEAD" { 3 } else { 4 }, &[]);
    }
    stage.immutag.wait_for_metric("immutag_events_total", "observed", 1.0);
    let signature = format!("sha256-{}.sig", "ab".repeat(32));
    let exempt = stage.push(&signature, "s");
    assert_eq!(stage.pull(ALICE, &signature).status, 200);
    stage.wait_for(5, &["--client", &ALICE.to_string()]);
    let b = stage.push("hold-1", "b");
    let moved = stage.push("block-1", "moved");
    stage.pull(ALICE, "hold-1");
    stage.immutag.wait_for_metric("immutag_conflicts_total", "hold", 1.0);
    assert_eq!(stage.pull(BOB, "hold-1").digest(), a.digest());
    stage.pull(BOB, "block-1");
    stage.registry.fault("* manifests/", Fault::Status(503));
    assert_eq!(stage.pull(BOB, "other").status, 200);
    assert_eq!(stage.pull(BOB, "no-such-tag").status, 502);
    let entries = || stage.entries(&[]).into_iter();
    let find = |client: Ipv4Addr, reference: &str| {
        let is_it = |it: &Value| {
            it["client"] == client.to_string().as_str()
                && it["reference"] == tag(reference).as_str()
        };
        let mut found = None;
        eventually(reference, || {
            found = entries().find(is_it);
            found.is_some()
        });
        found.expect("it was just found")
    };
    for (client, reference, outcome, digest) in [
        (ALICE, "hold-1", "pinned", a.digest()),
        (ALICE, "block-1", "pinned", block.digest()),
        (ALICE, "other", "recorded", recorded.digest()),
        (ALICE, &signature, "exempt", exempt.digest()),
        (BOB, "hold-1", "held", a.digest()),
        (BOB, "other", "stale", recorded.digest()),
    ] {
        let entry = find(client, reference);
        assert_eq!((&entry["outcome"], &entry["digest"]), (&outcome.into(), &digest.into()));
        assert_eq!(entry["listener"], "mirror");
        let method = if (client, reference) == (ALICE, "other") { "HEAD" } else { "GET" };
        assert_eq!(entry["method"], method, "{entry}");
    }
    let refused = find(BOB, "block-1");
    assert_eq!((&refused["outcome"], &refused["digest"]), (&"refused".into(), &Value::Null));
    assert_eq!(refused["reason"], "DIGEST_CHANGED");
    assert_eq!(refused["kept-from"], moved.digest());
    assert!(stage.entries(&["--digest", b.digest()]).is_empty(), "nobody was given it");
    assert!(entries().all(|it| it["reference"] != tag("no-such-tag").as_str()));
}

#[test]
fn who_is_refused_a_revoked_digest_is_written_down_too() {
    let stage = Stage::new();
    let a = stage.push("kept-1", "a");
    assert_eq!(stage.pull(ALICE, "kept-1").status, 200);
    stage.immutag.cli(&["ledger", "revoke", a.digest(), "--reason", "hostile"]).ok();
    for reference in ["kept-1", a.digest()] {
        stage.pull(BOB, reference);
    }
    let arguments = ["--digest", a.digest(), "--client", &BOB.to_string()];
    let refused = row(BOB, "refused", "-");
    assert_eq!(stage.wait_for(2, &arguments), [refused.clone(), refused]);
    let all = stage.pulls(&["--table", "--digest", a.digest()]).stdout;
    assert!(all.ends_with("1 pull by 1 client; 2 refused\n"), "{all}");
    assert!(all.contains("refused DIGEST_REVOKED"), "{all}");
}

#[test]
fn answers_that_are_given_again_count_and_sigterm_loses_none() {
    const PULLS: u64 = 300;
    let mut stage = Stage::with(|setup| setup.env("IMMUTAG_LOG", "debug"));
    let a = stage.push("kept-1", "a");
    for number in 0..PULLS {
        let (client, method) = if number % 3 == 0 { (ALICE, "HEAD") } else { (BOB, "GET") };
        assert_eq!(stage.ask(method, client, "kept-1").digest(), a.digest());
    }
    assert!(stage.immutag.log().contains("\"answered again\""), "some went the short way");
    assert!(stage.immutag.terminate().success());
    let entries = stage.entries(&["--digest", a.digest()]);
    assert!(entries.len() < 50, "repeats are merged: {}", entries.len());
    let count = |client: Ipv4Addr, method: &str| -> u64 {
        let its = entries
            .iter()
            .filter(|it| it["client"] == client.to_string().as_str() && it["method"] == method);
        its.map(|it| it["count"].as_u64().expect("a number")).sum()
    };
    assert_eq!((count(ALICE, "HEAD"), count(BOB, "GET")), (PULLS / 3, PULLS - PULLS / 3));
    let table = stage.pulls(&["--table"]).stdout;
    assert!(table.ends_with("300 pulls by 2 clients\n"), "with no server: {table}");
}

#[test]
fn what_a_kill_tore_is_left_out_and_the_next_run_goes_on() {
    let mut stage = Stage::new();
    stage.push("kept-1", "a");
    stage.pull(ALICE, "kept-1");
    stage.wait_for(1, &[]);
    stage.immutag.kill9();
    let folder = stage.immutag.data_dir().join("journal");
    let file = fs::read_dir(&folder).unwrap().next().expect("a file").unwrap().path();
    let line = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{line}{}", &line[..line.len() / 2])).unwrap();
    let ran = stage.pulls(&[]);
    assert_eq!(ran.stdout.lines().count(), 1);
    assert!(ran.stderr.contains("left out (torn, or none of this version's): 1"), "{}", ran.stderr);
    stage.immutag.restart();
    stage.pull(BOB, "kept-1");
    let clients: Vec<_> = stage.wait_for(2, &[]).into_iter().map(|row| row.0).collect();
    assert_eq!(clients, [ALICE.to_string(), BOB.to_string()]);
}

#[test]
fn a_journal_that_is_switched_off_writes_nothing_and_says_so() {
    let mut stage = Stage::with(|setup| setup.tables("[journal]\nkeep = \"0s\"\n"));
    stage.push("kept-1", "a");
    assert_eq!(stage.pull(ALICE, "kept-1").status, 200);
    stage.immutag.terminate();
    assert!(!stage.immutag.data_dir().join("journal").exists());
    let ran = stage.pulls(&[]);
    assert!(ran.stderr.contains("the journal is off: journal.keep is 0"), "{}", ran.stderr);
}

#[test]
fn what_is_warmed_is_nobodys_pull() {
    let mut stage = Stage::new();
    stage.push("kept-1", "a");
    stage.immutag.cli(&["cache", "warm", &tag("kept-1")]).ok();
    stage.immutag.terminate();
    assert!(stage.entries(&[]).is_empty());
}

#[test]
fn listeners_of_one_kind_are_told_apart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let second = format!("[[listener]]\naddress = \"{free}\"\nkind = \"mirror\"\n");
    let stage = Stage::with(|setup| setup.tables(&second));
    stage.push("kept-1", "a");
    stage.pull(ALICE, "kept-1");
    let target = format!("http://{free}/v2/app/manifests/kept-1?ns={REGISTRY}");
    assert_eq!(Call::new("GET", &target).from(BOB).send().status, 200);
    stage.wait_for(2, &[]);
    let direct = stage.immutag.direct_manifest(REGISTRY, "app", "kept-1");
    assert_eq!(direct.status, 200);
    stage.wait_for(3, &[]);
    let listeners: Vec<_> = stage.entries(&[]).iter().map(|it| it["listener"].clone()).collect();
    let named = |address: SocketAddr| Value::from(format!("mirror@{address}"));
    let first = stage.immutag.addresses().mirror;
    assert_eq!(listeners, [named(first), named(free), "direct".into()]);
}
