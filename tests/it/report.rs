//! What a CI job is told at its end: which images it got, and whether the lock file has them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::clients::Home;
use crate::support::content::{Image, Index, OCI_INDEX, OCI_MANIFEST};
use crate::support::http::Call;
use crate::support::immutag::Immutag;
use crate::support::process::{Ran, find_debians, have, run};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example";
const DOCKERFILE: &str = "\
# The build.
FROM registry.example/base:1.0 AS build
FROM registry.example/tool:2.0
COPY --from=registry.example/other:3.0 /a /b
";

/// A project whose lock file has `base:1.0` and `tool:2.0`, and not `other:3.0`.
struct Stage {
    registry: ScriptedRegistry,
    immutag: Immutag,
    base: Index,
    tool: Image,
}

impl Stage {
    fn new(is_locked: bool) -> Self {
        Self::with(is_locked, |setup| setup)
    }

    fn with(is_locked: bool, change: impl FnOnce(Setup) -> Setup) -> Self {
        let registry = ScriptedRegistry::start();
        let base = registry.push_index("base", "1.0", "base", &["amd64", "arm64"]);
        let tool = registry.push_image("tool", "2.0", "tool");
        registry.push_image("other", "3.0", "other");
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).without_rules();
        setup.file("Dockerfile", DOCKERFILE);
        let lock = setup.file("images.lock", &lock(base.digest(), tool.digest()));
        let keys = format!("[lock]\nfile = '{}'\nlocked = {is_locked}\n", lock.display());
        let setup = setup.tables(&keys).tables("[ledger]\nstore = \"memory\"\n");
        Self { immutag: change(setup).start(), registry, base, tool }
    }

    /// Pulls with skopeo through the mirror, which alone knows the registry.
    fn skopeo(&self, reference: &str) -> Ran {
        let mirror = self.immutag.addresses().mirror;
        let conf = format!(
            "[[registry]]\nprefix = \"{REGISTRY}\"\nlocation = \"{mirror}/{REGISTRY}\"\ninsecure = true\n"
        );
        Home::new(&conf).skopeo_copy(&format!("{REGISTRY}/{reference}"))
    }

    fn ask(&self, method: &str, repository: &str, reference: &str) -> u16 {
        let url = format!("{repository}/manifests/{reference}?ns={REGISTRY}");
        let accept = format!("{OCI_INDEX}, {OCI_MANIFEST}");
        Call::new(method, &self.immutag.mirror(&url)).field("Accept", &accept).send().status
    }

    fn report(&self, form: &str) -> Ran {
        self.immutag.cli(&["report", "--format", form])
    }

    fn json(&self) -> (Value, Option<i32>) {
        let ran = self.report("json");
        let printed = serde_json::from_str(&ran.stdout);
        (printed.unwrap_or_else(|error| panic!("{error}: {ran:#?}")), ran.status.code())
    }
}

fn lock(base: &str, tool: &str) -> String {
    format!(
        "{{\n  \"version\": 1,\n  \"sources\": [\"Dockerfile\"],\n  \"images\": {{\n    \
         \"{REGISTRY}/base:1.0\": {{\"digest\": \"{base}\"}},\n    \
         \"{REGISTRY}/tool:2.0\": {{\"digest\": \"{tool}\"}}\n  }}\n}}\n"
    )
}

/// What a row says in short: reference, status, requests by digest.
fn rows(report: &Value) -> Vec<(String, String, u64)> {
    let rows = report["rows"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let three = |row: &Value| {
        let by_digest = row["requests"]["by-digest"].as_u64().expect("a number");
        (text(&row["reference"]), text(&row["status"]), by_digest)
    };
    rows.iter().map(three).collect()
}

fn row(name: &str, status: &str, by_digest: u64) -> (String, String, u64) {
    (format!("{REGISTRY}/{name}"), status.to_owned(), by_digest)
}

#[test]
fn a_build_that_got_what_is_locked_is_told_so_image_by_image() {
    if !have(&["skopeo"]) {
        return;
    }
    let stage = Stage::new(true);
    stage.skopeo("base:1.0").ok();
    stage.skopeo("tool:2.0").ok();
    let (report, code) = stage.json();
    assert_eq!(code, Some(0), "{report:#}");
    // Two platforms, asked for by digest: parts of one image.
    assert_eq!(rows(&report), [row("base:1.0", "ok", 2), row("tool:2.0", "ok", 0)]);
    assert_eq!(report["is-whole"], true);
    assert_eq!(report["rows"][0]["digests"][0], stage.base.digest());
    assert_eq!(report["rows"][0]["rule"], "lock file");
    assert_eq!(report["rows"][0]["places"][0]["line"], 2);
    let page = stage.report("markdown").ok().stdout;
    assert!(page.contains("**All 2 images are as locked.**"), "{page}");
}

#[test]
fn what_is_not_in_the_lock_file_is_exit_6_whether_it_was_refused_or_let_through() {
    for (is_locked, status) in [(true, "refused"), (false, "unlocked")] {
        let stage = Stage::new(is_locked);
        stage.ask("GET", "tool", "2.0");
        stage.ask("GET", "other", "3.0");
        let (report, code) = stage.json();
        let expected = [("other:3.0", status), ("base:1.0", "unused"), ("tool:2.0", "ok")];
        assert_eq!(rows(&report), expected.map(|(name, status)| row(name, status, 0)));
        assert_eq!(code, Some(6), "{report:#}");
        let lines = stage.report("github").stdout;
        let words = "::error file=Dockerfile,line=4,col=13,title=registry.example/other%3A3.0 ";
        assert!(lines.starts_with(words), "{lines}");
    }
}

#[test]
fn a_retag_between_two_builds_is_exit_3_with_both_digests_and_what_changed() {
    let stage = Stage::new(true);
    let moved = stage.registry.push_image("tool", "2.0", "hostile");
    // What is locked is served all the same, by its digest.
    assert_eq!(stage.ask("GET", "tool", "2.0"), 200);
    stage.immutag.wait_for_metric("immutag_conflicts_total", "", 1.0);
    let (report, code) = stage.json();
    assert_eq!(code, Some(3), "{report:#}");
    assert_eq!(rows(&report), [row("tool:2.0", "conflict", 0), row("base:1.0", "unused", 0)]);
    let conflict = &report["rows"][0]["conflict"];
    assert_eq!(
        (&conflict["pinned"], &conflict["observed"]),
        (&stage.tool.digest().into(), &moved.digest().into(),)
    );
    assert!(conflict["hint"].as_str().is_some_and(|hint| hint.contains("looks ")), "{report:#}");
    let page = stage.report("markdown").stdout;
    let first =
        "**The only image is not as locked: 1 in conflict. 1 in the lock file was not asked for.**";
    assert!(page.contains(first), "{page}");
    assert!(page.contains("See `Dockerfile:3`."), "{page}");
    for digest in [stage.tool.digest(), moved.digest()] {
        assert!(page.contains(digest), "{page}");
    }
    let sarif: Value = stage.report("sarif").stdout.parse().expect("JSON");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "immutag/conflict");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "Dockerfile");
    assert_eq!(place["region"]["startLine"], 3);
}

#[test]
fn what_the_lock_file_has_and_nobody_asked_for_is_told_and_is_no_failure() {
    let stage = Stage::new(true);
    let (report, code) = stage.json();
    assert_eq!(rows(&report), [row("base:1.0", "unused", 0), row("tool:2.0", "unused", 0)]);
    assert_eq!((code, &report["counts"]["unused"]), (Some(0), &2.into()), "{report:#}");
    assert_eq!(report["counts"]["pulled"], 0);
    let page = stage.report("markdown").stdout;
    let first = "**Nothing was pulled. 2 in the lock file were not asked for.**";
    assert!(page.contains(first) && page.contains("went round immutag"), "{page}");
    // By its digest alone it is asked for, too.
    stage.ask("HEAD", "tool", stage.tool.digest());
    let (report, _) = stage.json();
    assert_eq!(rows(&report), [row("base:1.0", "unused", 0), row("tool:2.0", "ok", 1)]);
    assert_eq!(stage.report("github").stdout, "", "nothing is to be done");
}

#[test]
fn a_refusal_for_the_lock_file_is_said_to_be_decided_by_it() {
    let stage = Stage::new(true);
    stage.ask("GET", "other", "3.0");
    let other = stage.registry.push_image("other", "4.0", "not locked either");
    stage.ask("GET", "other", other.digest());
    let (report, _) = stage.json();
    for at in 0..2 {
        assert_eq!(report["rows"][at]["status"], "refused", "{report:#}");
        assert_eq!(report["rows"][at]["rule"], "lock file", "{report:#}");
    }
}

#[test]
fn a_report_without_a_whole_record_is_no_success() {
    let stage = Stage::with(true, |setup| setup.tables("[journal]\nkeep = \"0s\"\n"));
    stage.ask("GET", "tool", "2.0");
    let (report, code) = stage.json();
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["is-whole"], false);
    let stage = Stage::new(true);
    stage.ask("GET", "tool", "2.0");
    assert_eq!(stage.json().1, Some(0));
    // Somebody removes the evidence.
    std::fs::remove_dir_all(stage.immutag.data_dir().join("journal")).expect("it is there");
    let (report, code) = stage.json();
    assert_eq!(code, Some(1), "{report:#}");
    let gap = report["gaps"][0].as_str().expect("a gap");
    assert!(gap.contains("entries of this run that are not in the journal's files"), "{gap}");
}

#[test]
fn without_a_server_the_report_fails_and_says_when_to_ask() {
    let mut stage = Stage::new(true);
    stage.immutag.terminate();
    let ran = stage.report("markdown").failed_with("ask before `immutag stop`");
    assert_eq!(ran.status.code(), Some(1));
}

#[test]
fn each_repeat_counts_and_an_earlier_run_does_not() {
    let mut stage = Stage::new(false);
    stage.ask("GET", "other", "3.0");
    assert_eq!(stage.json().1, Some(6));
    stage.immutag.restart();
    for _ in 0..20 {
        stage.ask("GET", "tool", "2.0");
        stage.ask("HEAD", "tool", "2.0");
    }
    let (report, code) = stage.json();
    assert_eq!(rows(&report), [row("base:1.0", "unused", 0), row("tool:2.0", "ok", 0)]);
    assert_eq!(code, Some(0), "{report:#}");
    let requests = &report["rows"][1]["requests"];
    assert_eq!((&requests["get"], &requests["head"]), (&20.into(), &20.into()), "{report:#}");
}

#[test]
fn a_child_that_is_pulled_by_digest_alone_belongs_to_the_locked_index() {
    let stage = Stage::new(false);
    assert_eq!(stage.ask("GET", "base", stage.base.digest()), 200);
    assert_eq!(stage.ask("GET", "base", stage.base.images[1].digest()), 200);
    let other = stage.registry.push_image("base", "9", "none of the locked index");
    assert_eq!(stage.ask("GET", "base", other.digest()), 200);
    let (report, code) = stage.json();
    let by_itself = format!("base@{}", other.digest());
    let expected =
        [row(&by_itself, "unlocked", 0), row("tool:2.0", "unused", 0), row("base:1.0", "ok", 2)];
    assert_eq!(rows(&report), expected);
    assert_eq!(code, Some(6));
}

#[test]
fn an_image_under_a_tag_of_referrers_is_not_in_the_lock_file() {
    let stage = Stage::new(false);
    let zeros = format!("sha256-{}.sig", "0".repeat(64));
    let about = format!("{}.sig", stage.tool.digest().replace(':', "-"));
    let evil = Image::new("evil");
    stage.registry.put_image("tool", &evil);
    for tag in [&zeros, &about] {
        stage.registry.retag("tool", tag, evil.digest());
        assert_eq!(stage.ask("GET", "tool", tag), 200);
    }
    let (report, code) = stage.json();
    let expected = [&zeros, &about].map(|tag| row(&format!("tool:{tag}"), "unlocked", 0));
    for row in expected {
        assert!(rows(&report).contains(&row), "{report:#}");
    }
    assert_eq!(code, Some(6));
}

#[test]
fn a_page_is_added_to_the_summary_of_a_github_job() {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.md");
    std::fs::write(&summary, "before\n").unwrap();
    let variable = summary.display().to_string();
    let stage = Stage::with(true, |setup| setup.env("GITHUB_STEP_SUMMARY", &variable));
    stage.ask("GET", "tool", "2.0");
    assert_eq!(stage.report("github").ok().stdout, "", "there is nothing to annotate");
    let text = std::fs::read_to_string(&summary).unwrap();
    assert!(text.starts_with("before\n## immutag"), "{text}");
    let output = folder.path().join("report.xml");
    let arguments = ["report", "--format", "junit", "--output", output.to_str().unwrap()];
    assert_eq!(stage.immutag.cli(&arguments).ok().stdout, "");
    assert!(std::fs::read_to_string(&output).unwrap().starts_with("<?xml"));
}

/// The unit tests' snapshots, in which a hostile image says of itself what it can, and a real
/// report, by the published schemas.
#[test]
fn sarif_and_junit_are_what_their_schemas_say() {
    if !have(&["jsonschema", "xmllint"]) {
        return;
    }
    let stage = Stage::new(true);
    stage.registry.push_image("tool", "2.0", "hostile");
    stage.ask("GET", "tool", "2.0");
    stage.ask("GET", "other", "3.0");
    let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/report/snapshots");
    let folder = tempfile::tempdir().unwrap();
    for (form, check) in [("sarif", sarif_is_valid as fn(&Path) -> Ran), ("junit", junit_is_valid)]
    {
        let name = format!("immutag__cli__report__tests__{form}.snap");
        let snapshot = std::fs::read_to_string(snapshots.join(name)).unwrap();
        let (_, body) = snapshot.rsplit_once("---\n").expect("a snapshot has a head");
        for (number, text) in [body.to_owned(), stage.report(form).stdout].iter().enumerate() {
            let file = folder.path().join(format!("{form}-{number}"));
            std::fs::write(&file, text).unwrap();
            check(&file).ok();
        }
        // The check sees what is wrong.
        let file = folder.path().join("wrong");
        std::fs::write(
            &file,
            body.replace("\"tool\":", "\"tools\":").replace("<testcase class", "<testcase klass"),
        )
        .unwrap();
        assert!(!check(&file).status.success(), "{form}");
    }
}

fn schema(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema").join(name)
}

fn sarif_is_valid(file: &Path) -> Ran {
    let program = find_debians("jsonschema").expect("it was looked for");
    run(Command::new(program).arg("-i").arg(file).arg(schema("sarif-schema-2.1.0.json")))
}

fn junit_is_valid(file: &Path) -> Ran {
    let program = find_debians("xmllint").expect("it was looked for");
    let schema = schema("junit-10.xsd");
    run(Command::new(program).arg("--noout").arg("--schema").arg(schema).arg(file))
}
