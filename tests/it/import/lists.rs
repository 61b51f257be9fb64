//! Lists against a ledger: all or nothing, and never over what is there.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{REGISTRY, import, under};
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;

fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

/// How many events the ledger has, with the server up or down.
#[track_caller]
fn events(immutag: &Immutag) -> u64 {
    let ran = immutag.cli(&["ledger", "status", "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    status["sequence"].as_u64().expect("a number")
}

#[test]
fn a_conflict_keeps_a_whole_list_out_and_is_listed() {
    let registry = ScriptedRegistry::start();
    let a = registry.push_image("app", "1.0.0", "a");
    let mut immutag = under(&registry, "hold");
    immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    let (c, d) = (digest('c'), digest('d'));
    let list = format!(
        "{REGISTRY}/new:1@{c}\n{REGISTRY}/app:1.0.0@{d}\n{REGISTRY}/two:1@{c}\n{REGISTRY}/two:1@{d}\n"
    );
    for is_down in [false, true] {
        if is_down {
            immutag.terminate();
        }
        let before = events(&immutag);
        let ran = import(&immutag, &list, &["--table"]);
        assert_eq!(ran.status.code(), Some(3), "{ran:?}");
        assert!(ran.stdout.contains("in conflict: 2 tags; nothing was written"), "{ran:?}");
        assert!(ran.stdout.contains("the tag is pinned to another digest"), "{ran:?}");
        assert!(ran.stdout.contains("the list also says sha256:cccccccccccc"), "{ran:?}");
        assert_eq!(events(&immutag), before);
    }
    immutag.restart();
    let dry = import(&immutag, &list, &["--table", "--skip-conflicts", "--dry-run"]);
    assert!(dry.stdout.contains("in conflict"), "{dry:?}");
    let before = events(&immutag);
    let ran = import(&immutag, &list, &["--table", "--skip-conflicts"]);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert_eq!(events(&immutag), before + 1, "{ran:?}");
    let again = import(&immutag, &format!("{REGISTRY}/new:1@{c}\n"), &["--table"]).ok();
    assert!(again.stdout.contains("known so already: 1 tag\n"), "{again:?}");
    assert_eq!(events(&immutag), before + 1);
    let tags = immutag.cli(&["ledger", "export", "--format", "tags"]).ok().stdout;
    assert_eq!(tags, format!("{REGISTRY}/app:1.0.0@{}\n", a.digest()), "a claim is no pin");
}

#[test]
fn a_file_that_is_spoilt_in_any_way_is_refused_and_changes_nothing() {
    let registry = ScriptedRegistry::start();
    let mut immutag = under(&registry, "hold");
    let before = events(&immutag);
    let good = format!("{REGISTRY}/app:1@{}\n", digest('a'));
    let newer = "{\"format\":\"immutag-ledger\",\"version\":9,\"of\":\"the future\"}\n";
    for (text, format, words) in [
        (good.clone() + "app:1\n", "auto", "line 2"),
        (good.clone() + &good.replace("app", "../../etc"), "auto", "line 2"),
        (good.clone() + &good.replace("app", "a\u{1b}[2J"), "auto", "line 2"),
        (good.clone() + &good[..good.len() - 9], "auto", "line 2"),
        (good.clone() + &"a".repeat(9 << 20), "auto", "line 2 is longer than"),
        (good.clone() + &"\0".repeat(100), "auto", "line 2"),
        ("[".repeat(1 << 20), "auto", "JSON"),
        ("{\"services\":".repeat(1 << 16), "compose", "JSON"),
        (newer.into(), "auto", "use a newer one"),
        (newer.replace('9', "1"), "auto", "line 1 is not the header"),
        (String::new(), "auto", "nothing in it"),
        ("{\"a\":1}".into(), "auto", "--format"),
    ] {
        let ran = import(&immutag, &text, &["--format", format]).failed_with(words);
        assert!(!ran.stderr.contains('\u{1b}') && ran.stderr.len() < 4096, "{ran:?}");
        assert_eq!(events(&immutag), before, "{words}");
    }
    immutag.assert_alive_and_clean();
}

/// Whether the log has these bytes, synced or not.
fn is_logged(immutag: &Immutag, needle: &[u8]) -> bool {
    let log = immutag.data_dir().join("ledger/log");
    let segments = std::fs::read_dir(log).expect("a ledger has a log");
    let has = |path: std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    segments.flatten().any(|segment| has(segment.path()))
}

#[test]
fn a_kill_in_the_middle_of_an_import_leaves_all_of_it_or_nothing() {
    const TAGS: usize = 1_000;
    let registry = ScriptedRegistry::start();
    let mut immutag = under(&registry, "hold");
    let rounds = if std::env::var_os("IMMUTAG_TEST_LONG").is_some() { 60u64 } else { 6 };
    let mut written = 0;
    for round in 0..rounds {
        let mut list = String::new();
        for number in 0..TAGS {
            writeln!(list, "{REGISTRY}/round{round}:{number}@{}", digest('a')).unwrap();
        }
        let took = std::thread::scope(|scope| {
            let started = Instant::now();
            let imports = scope.spawn(|| import(&immutag, &list, &[]).status.success());
            // The first round is left alone and tells how long an import takes.
            let deadline = started + Duration::from_millis(10 + 43 * round);
            // Every other kill comes as soon as the first bytes of it are in the log.
            let needle = format!("round{round}");
            let is_due = || match round % 2 {
                0 => Instant::now() >= deadline,
                _ => is_logged(&immutag, needle.as_bytes()),
            };
            while round > 0 && !is_due() && !imports.is_finished() {
                std::hint::spin_loop();
            }
            if round > 0 {
                crate::support::process::kill(immutag.id(), rustix::process::Signal::KILL);
            }
            imports.join().unwrap()
        });
        if round > 0 {
            immutag.restart();
        }
        let glob = format!("{REGISTRY}/round{round}");
        let found = immutag.cli(&["ledger", "list", &glob, "--json"]).ok().stdout.lines().count();
        assert!([0, TAGS].contains(&found), "{found} of {TAGS} in round {round}");
        assert!(!took || found == TAGS, "what was acknowledged is there");
        written += usize::from(found == TAGS);
    }
    println!("{written} of {rounds} imports were written before the kill");
    immutag.cli(&["ledger", "verify"]).ok();
}
