//! What strangers put into names, paths, headers and answers reaches logs, metrics, the journal and
//! tables as what it is, or not at all. `faults.md`, R-06.

use bytes::Bytes;
use serde_json::Value;

use super::{ALICE, REGISTRY, Stage, tag};
use crate::support::fault::Fault;
use crate::support::immutag::Immutag;
use crate::support::wait::eventually;

/// Stands in all that is hostile.
const MARK: &str = "MARK";

/// Control characters, colours, quotes, and what turns the reading direction or hides.
const HOSTILE: &str = "MARK\u{202e}gnp\u{200b}\u{9b}31m\"';{}<x>";

/// Nothing that moves a cursor, hides or turns text.
#[track_caller]
fn assert_plain(text: &str) {
    let is_hidden = |it: char| {
        it != '\n'
            && (it.is_control()
                || matches!(it, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    let line = text.lines().find(|line| line.contains(is_hidden));
    assert_eq!(line, None, "it shows something else than it is");
}

/// Each line of the log is an object, and shows what it says.
#[track_caller]
fn assert_log(stage: &Stage) {
    let log = stage.immutag.log();
    assert_plain(&log);
    for line in log.lines() {
        let parsed = serde_json::from_str::<Value>(line);
        assert!(parsed.is_ok_and(|line| line["level"].is_string()), "{line}");
    }
}

#[track_caller]
fn assert_metrics(stage: &Stage) {
    let metrics: String = stage.immutag.metrics().into_keys().collect::<Vec<_>>().join("\n");
    assert_plain(&metrics);
    assert!(!metrics.contains(MARK), "a stranger made a label");
}

fn debugging() -> Stage {
    Stage::with(|setup| setup.env("IMMUTAG_LOG", "debug"))
}

#[test]
fn what_clients_send_shows_as_what_it_is_and_makes_no_entry() {
    let mut stage = debugging();
    stage.push("kept-1", "a");
    let mirror = stage.immutag.addresses().mirror;
    let direct = stage.immutag.addresses().direct;
    let encoded = "MARK%0a%1b%5b31m%22%e2%80%ae";
    for target in [
        format!("/v2/app{encoded}/manifests/kept-1?ns={REGISTRY}"),
        format!("/v2/app/manifests/{encoded}?ns={REGISTRY}"),
        format!("/v2/app/manifests/kept-1?ns={encoded}"),
        format!("/v2/app/manifests/kept-1?ns={HOSTILE}"),
        format!("/v2/{HOSTILE}/manifests/kept-1?ns={REGISTRY}"),
        format!("/v2/app/manifests/sha256:{HOSTILE}?ns={REGISTRY}"),
        format!("/v2/{encoded}.example/app/manifests/kept-1"),
        format!("/{HOSTILE}"),
    ] {
        for listener in [mirror, direct] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            Immutag::raw(listener, request.as_bytes());
        }
    }
    for field in
        ["User-Agent", "Accept", "Authorization", "Range", "X-Forwarded-For", "If-None-Match"]
    {
        for value in [HOSTILE, "MARK\u{1b}[2J", "MARK\\n{\"level\":\"INFO\"}"] {
            let target = format!("/v2/app/manifests/kept-1?ns={REGISTRY}");
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: x\r\n{field}: {value}\r\nConnection: close\r\n\r\n"
            );
            Immutag::raw(mirror, request.as_bytes());
        }
    }
    assert!(stage.immutag.log().contains(MARK), "paths are in the log, as what they are");
    assert_log(&stage);
    assert_metrics(&stage);
    stage.immutag.terminate();
    let ran = stage.pulls(&[]);
    assert!(ran.stdout.contains("kept-1") && !ran.stdout.contains(MARK), "{}", ran.stdout);
    for entry in stage.entries(&[]) {
        assert_eq!(entry["reference"], tag("kept-1").as_str(), "{entry}");
    }
}

#[test]
fn what_upstreams_answer_shows_as_what_it_is_in_logs_metrics_and_the_ledgers_tables() {
    let stage = debugging();
    let image = stage.push("hold-1", "a");
    let body = |text: String| Fault::Body(Bytes::from(text));
    let duplicate = serde_json::to_string(&format!("{HOSTILE}\n\u{1b}[2J")).unwrap();
    for (number, fault) in [
        body(format!("{{{duplicate}:1,{duplicate}:2}}")),
        body(format!("{{\"schemaVersion\":2,\"mediaType\":{duplicate}}}")),
        body(HOSTILE.to_owned()),
        Fault::field("Content-Type", HOSTILE),
        Fault::field("Docker-Content-Digest", HOSTILE),
        Fault::field("Content-Encoding", HOSTILE),
        Fault::field("Warning", HOSTILE),
        Fault::Challenge(format!(
            "Bearer realm=\"https://evil.example/{HOSTILE}\",service=\"{HOSTILE}\""
        )),
        Fault::Challenge(format!("{HOSTILE} realm=x")),
        Fault::Redirect(307, format!("https://{HOSTILE}/")),
        Fault::Redirect(307, format!("/{HOSTILE}")),
    ]
    .into_iter()
    .enumerate()
    {
        let tag = format!("hold-new-{number}");
        stage.registry.retag("app", &tag, image.digest());
        stage.registry.fault_times(&format!("GET manifests/{tag}"), fault, 4);
        let answer = stage.pull(ALICE, &tag);
        assert_plain(&answer.text());
        assert_plain(&answer.reason);
    }
    eventually("an invalid answer is written down", || {
        stage.immutag.metric("immutag_events_total", "invalid") >= 1.0
    });
    assert_log(&stage);
    assert_metrics(&stage);
    for arguments in [
        ["ledger", "list", "--table"].as_slice(),
        &["ledger", "export"],
        &["ledger", "history", &tag("hold-new-0"), "--table"],
        &["pulls", "--table"],
    ] {
        let ran = stage.immutag.cli(arguments);
        assert_plain(&ran.stdout);
        assert_plain(&ran.stderr);
    }
}

#[test]
fn a_forged_journal_does_nothing_to_a_terminal() {
    let mut stage = Stage::new();
    stage.push("kept-1", "a");
    stage.pull(ALICE, "kept-1");
    stage.immutag.terminate();
    let folder = stage.immutag.data_dir().join("journal");
    let file = std::fs::read_dir(folder).unwrap().next().expect("a file").unwrap().path();
    let line = std::fs::read_to_string(&file).unwrap();
    let listener = serde_json::to_string(HOSTILE).unwrap();
    let forged = [
        line.replace("\"mirror\"", &listener),
        line.replace("\"outcome\"", &format!("\"reason\":{listener},\"outcome\"")),
        line.replace(":kept-1", ":kept-1\\u001b[2J"),
        format!("{HOSTILE}\u{1b}[2J\n"),
    ];
    std::fs::write(&file, line.clone() + &forged.concat()).unwrap();
    for form in ["--table", "--json"] {
        let ran = stage.pulls(&[form]);
        assert_plain(&ran.stdout);
        assert_plain(&ran.stderr);
        assert!(!ran.stdout.contains(MARK), "{}", ran.stdout);
        assert!(ran.stderr.contains("version's): 4"), "{}", ran.stderr);
    }
}
