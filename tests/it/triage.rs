//! A tag moved: what changed, as a person, the history and the log are told.

use serde_json::{Value, json};

use crate::support::content::{Image, Index, OCI_INDEX};
use crate::support::fault::Fault;
use crate::support::immutag::Immutag;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";
const TAG: &str = "registry.example/app:1.0.0";
const EVIL: &str = "\u{1b}[2J\u{202e}all is well\u{200b}\r\nseverity: low";

/// `app:1.0.0` with two layers, and the same with a third one that runs first.
struct Stage {
    registry: ScriptedRegistry,
    immutag: Immutag,
    before: Image,
    after: Image,
}

impl Stage {
    fn new(reaction: &str) -> Self {
        let registry = ScriptedRegistry::start();
        let before =
            Image::layered("app", &[64, 64]).configured(&config("/app", "nothing to hide"));
        let after = Image::layered("app", &[64, 64, 64]).configured(&config("/stealer", EVIL));
        registry.put_image("app", &before);
        registry.put_image("app", &after);
        registry.retag("app", "1.0.0", before.digest());
        let immutag =
            Setup::new().upstream(REGISTRY, &registry.url()).every_tag(reaction, "0s").start();
        Self { registry, immutag, before, after }
    }

    fn pull(&self) {
        assert_eq!(self.immutag.manifest(REGISTRY, "app", "1.0.0").status, 200);
    }

    /// Pulls, moves the tag, and pulls until that is written down.
    fn move_tag(&self) {
        self.pull();
        self.immutag.wait_for_metric("immutag_retained_total", "outcome=\"kept\"", 1.0);
        self.registry.retag("app", "1.0.0", self.after.digest());
        self.pull();
        self.immutag.wait_for_metric("immutag_conflicts_total", "", 1.0);
    }

    fn diff(&self, arguments: &[&str]) -> Value {
        let arguments = [&["ledger", "diff", TAG, "--json"], arguments].concat();
        let printed = self.immutag.cli(&arguments).ok().stdout;
        serde_json::from_str(&printed).expect("one line of JSON")
    }
}

fn config(entrypoint: &str, label: &str) -> Value {
    json!({
        "Entrypoint": [entrypoint],
        "Env": ["TOKEN=hunter2"],
        "Labels": { "org.opencontainers.image.source": label, "x": label },
    })
}

fn reasons(diff: &Value) -> String {
    let reasons = diff["reasons"].as_array().expect("a list");
    reasons.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

fn assert_printable(text: &str) {
    let spoils = |letter: char| {
        letter.is_control() || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
    };
    assert!(text.lines().all(|line| !line.contains(spoils)), "{text:?}");
}

#[test]
fn a_moved_tag_is_explained_with_the_server_up() {
    let mut stage = Stage::new("hold");
    stage.move_tag();
    let diff = stage.diff(&[]);
    assert_eq!(diff["before"], stage.before.digest());
    assert_eq!(diff["after"], stage.after.digest());
    assert_eq!(diff["severity"], "critical", "{diff:#}");
    assert_eq!(diff["is-open"], true);
    let reasons = reasons(&diff);
    for words in
        ["several such signs at once", "1 layer on top of all that", "Entrypoint changed", "source"]
    {
        assert!(reasons.contains(words), "{words} in {reasons}");
    }
    // The registry said that neither is signed.
    assert_eq!(diff["signatures"]["after"]["signature"], "absent");
    assert!(reasons.contains("younger than 72 h"), "{reasons}");
    assert!(!diff.to_string().contains("hunter2"));
    // The other way round, by names.
    let (from, to) = (stage.after.digest(), stage.before.digest());
    let back = stage.diff(&["--from", from, "--to", to]);
    assert_eq!((&back["before"], &back["after"]), (&json!(from), &json!(to)));
    assert!(self::reasons(&back).contains("gone from the top: 1 layer"), "{back:#}");
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn labels_of_an_attacker_reach_no_terminal_no_history_and_no_log_as_they_are() {
    let mut stage = Stage::new("hold");
    stage.move_tag();
    let page = stage.immutag.cli(&["ledger", "diff", TAG, "--table"]).ok().stdout;
    assert_printable(&page);
    assert!(page.contains("SEVERITY  CRITICAL") && page.contains("a hint, no verdict"), "{page}");
    assert!(page.contains("\\u{1b}[2J\\u{202e}all is well"), "{page}");
    let approve = format!("immutag ledger approve {TAG} --digest {}", stage.after.digest());
    assert!(page.contains(&approve), "{page}");
    assert_printable(&stage.diff(&[]).to_string());
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn a_moved_tag_is_explained_with_the_server_down_and_the_registry_gone() {
    let mut stage = Stage::new("hold");
    stage.move_tag();
    stage.immutag.terminate();
    stage.registry.stop();
    let diff = stage.diff(&[]);
    assert_eq!(diff["before"], stage.before.digest());
    assert_eq!(diff["signatures"], Value::Null);
    let reasons = reasons(&diff);
    assert!(reasons.contains("1 layer on top of all that was recorded"), "{reasons}");
    // Nobody asked for the new config before; with the server up it would have been fetched.
    assert!(reasons.contains("the config is another, and was not looked at"), "{reasons}");
    assert_eq!(diff["unseen"]["some"][0], "the image: its config was not looked at");
    let page = stage.immutag.cli(&["ledger", "diff", TAG, "--table"]).ok().stdout;
    assert!(page.contains("no server runs, so the registry was not asked"), "{page}");
}

#[test]
fn nobody_is_asked_offline_and_what_was_fetched_before_is_still_there() {
    let mut stage = Stage::new("hold");
    stage.move_tag();
    let asked = stage.diff(&[]);
    assert_eq!(asked["images"][0]["config"]["env-changed"]["some"], json!([]), "{asked:#}");
    stage.immutag.restart_with(|setup| setup.top("offline = true"));
    stage.registry.forget_requests();
    let offline = stage.diff(&[]);
    assert_eq!(offline["signatures"], Value::Null);
    assert!(reasons(&offline).contains("1 layer on top of all that was recorded"), "{offline:#}");
    assert!(stage.registry.requests().is_empty(), "{:?}", stage.registry.requests());
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn a_signature_that_was_lost_is_told_and_an_unwilling_registry_is_unknown() {
    let stage = Stage::new("hold");
    let signature = Image::new("signature");
    stage.registry.put_image("app", &signature);
    let tag = |digest: &str| format!("{}.sig", digest.replace(':', "-"));
    stage.registry.retag("app", &tag(stage.before.digest()), signature.digest());
    let referrers = Index::of(vec![signature.clone()]);
    stage.registry.put_referrers("app", stage.before.digest(), &referrers);
    stage.move_tag();
    let diff = stage.diff(&[]);
    assert_eq!(diff["signatures"]["before"]["signature"], "present", "{diff:#}");
    assert_eq!(diff["signatures"]["before"]["referrers"], "present", "{diff:#}");
    let lost = "what was recorded had what this has not: signature";
    assert!(reasons(&diff).contains(lost), "{diff:#}");
    // Trouble in asking is no loss.
    let asked = format!("HEAD /v2/app/manifests/{}", tag(stage.after.digest()));
    stage.registry.fault(&asked, Fault::Status(403));
    let diff = stage.diff(&[]);
    assert_eq!(diff["signatures"]["after"]["signature"], "unknown", "{diff:#}");
    assert!(!reasons(&diff).contains(lost), "{diff:#}");
}

#[test]
fn the_history_and_the_log_say_at_once_how_a_conflict_looks() {
    for (reaction, kind) in [("hold", "conflict"), ("alert", "followed")] {
        let mut stage = Stage::new(reaction);
        stage.move_tag();
        let history = stage.immutag.cli(&["ledger", "history", TAG, "--json"]).ok().stdout;
        let events: Vec<Value> =
            history.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let event = events.iter().find(|event| event["kind"] == kind).expect("it is written");
        let why = event["why"].as_str().expect("words");
        assert!(why.contains("looks high (a hint): ") || why.contains("looks critical"), "{why}");
        assert!(why.contains("1 layer on top of all that was recorded"), "{why}");
        assert!(why.chars().count() < 400, "{why}");
        stage.immutag.wait_for_log("\"severity\":\"");
        stage.immutag.assert_alive_and_clean();
    }
}

#[test]
fn an_index_is_opened_at_a_few_platforms_and_a_followed_tag_is_compared_with_what_it_was() {
    let registry = ScriptedRegistry::start();
    let platforms = ["s390x", "arm64", "amd64", "ppc64le", "riscv64", "386"];
    let [before, after] = ["a", "b"].map(|seed| Index::new(seed, &platforms));
    assert_eq!(before.manifest.media_type, OCI_INDEX);
    for index in [&before, &after] {
        registry.put_index("app", index);
    }
    registry.retag("app", "1.0.0", before.digest());
    let mut immutag =
        Setup::new().upstream(REGISTRY, &registry.url()).every_tag("alert", "0s").start();
    let pull = || immutag.manifest(REGISTRY, "app", "1.0.0").digest().to_owned();
    assert_eq!(pull(), before.digest());
    registry.retag("app", "1.0.0", after.digest());
    assert_eq!(pull(), after.digest());
    let printed = immutag.cli(&["ledger", "diff", TAG, "--json"]).ok().stdout;
    let diff: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&diff["before"], &diff["is-open"]), (&json!(before.digest()), &json!(false)));
    let opened: Vec<_> =
        diff["images"].as_array().expect("a list").iter().map(|it| &it["platform"]).collect();
    assert_eq!(opened, ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"]);
    assert!(diff["images"][0]["config"]["labels"]["some"][0]["name"] == "seed", "{diff:#}");
    assert!(reasons(&diff).contains("linux/amd64, linux/arm64, linux/s390x, linux/ppc64le: not"));
    immutag.assert_alive_and_clean();
}

#[test]
fn what_cannot_be_compared_is_told_in_words_with_exit_code_1() {
    let stage = Stage::new("hold");
    stage.pull();
    let once = stage.immutag.cli(&["ledger", "diff", TAG]);
    assert_eq!(once.status.code(), Some(1));
    assert!(once.stderr.contains("there is nothing to compare"), "{}", once.stderr);
    let unknown = stage.immutag.cli(&["ledger", "diff", "registry.example/app:9"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stderr.contains("the ledger knows nothing of"), "{}", unknown.stderr);
    let nowhere = format!("sha256:{}", "0".repeat(64));
    let gone = stage.immutag.cli(&["ledger", "diff", TAG, "--to", &nowhere]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(gone.stderr.contains("is not to be had"), "{}", gone.stderr);
}
