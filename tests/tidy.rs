//! Holds the sources to the design's table of imports and to the style's hard limits.
//!
//! Each rule is a function from sources to findings, and each has a test that shows it a
//! violation: a rule that finds nothing anywhere would hold nothing.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// The most lines of a file, tests included.
const MAX_FILE_LINES: usize = 400;

/// The most lines of a function, from `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 60;

#[test]
fn imports_go_down_only() {
    assert_none(&sources(&["src"]), imports::upward);
}

#[test]
fn every_module_has_its_layer() {
    assert_none(&sources(&["src"]), imports::homeless);
}

#[test]
fn crates_stay_where_the_design_puts_them() {
    assert_none(&sources(&["src"]), imports::misplaced_crates);
}

#[test]
fn files_and_functions_keep_the_hard_limits() {
    let all = sources(&["src", "tests", "benches"]);
    assert_none(&all, |source| too_long(source, MAX_FILE_LINES));
    assert_none(&all, |source| long_functions(source, MAX_FUNCTION_LINES));
}

#[test]
fn only_tests_unwrap() {
    assert_none(&sources(&["src"]), unwraps);
}

#[test]
fn what_is_left_to_do_names_its_issue() {
    assert_none(&sources(&["src", "tests", "benches"]), unnumbered_reminders);
}

#[test]
fn no_lint_is_allowed_away() {
    assert_none(&sources(&["src", "tests", "benches"]), allowed_lints);
}

#[test]
fn no_file_knows_the_machine_that_it_was_written_on() {
    let folders = ["src", "tests", "benches", "docs", "config", ".ci"];
    let mut all = source::texts(&folders);
    all.extend(source::texts_beside_the_manifest());
    assert!(all.iter().any(|source| source.path == "Cargo.toml"));
    assert_none(&all, local_paths);
}

/// The Rust sources below these folders; there must be some.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut all = source::texts(folders);
    all.retain(source::Source::is_rust);
    assert!(!all.is_empty(), "no sources below {folders:?}");
    all
}

#[track_caller]
fn assert_none(sources: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let findings: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn too_long(source: &Source, most: usize) -> Vec<String> {
    let lines = source.text.lines().count();
    let finding = || format!("{}: {lines} lines, {most} at most", source.path);
    (lines > most).then(finding).into_iter().collect()
}

fn long_functions(source: &Source, most: usize) -> Vec<String> {
    let long = source.functions().into_iter().filter(|(_, _, lines)| *lines > most);
    long.map(|(name, line, lines)| {
        format!("{}:{line}: `{name}` has {lines} lines, {most} at most", source.path)
    })
    .collect()
}

fn unwraps(source: &Source) -> Vec<String> {
    let code = source.code_outside_tests();
    source.findings(&code, r"\.unwrap\(\)", "`unwrap` outside tests; say why it cannot happen")
}

fn unnumbered_reminders(source: &Source) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")].join("|");
    let reminders =
        source.findings(&source.text, &format!(r"\b({words})\b.*"), "no issue is named");
    let numbered = regex::Regex::new(r"#\d+").expect("a valid pattern");
    reminders.into_iter().filter(|finding| !numbered.is_match(finding)).collect()
}

fn allowed_lints(source: &Source) -> Vec<String> {
    let code = source.code();
    source.findings(&code, r"#!?\[(cfg_attr\(.*)?allow\(", "use `expect` with a reason")
}

fn local_paths(source: &Source) -> Vec<String> {
    let checkout = regex::escape(env!("CARGO_MANIFEST_DIR"));
    let home = std::env::var("HOME").ok().filter(|home| home.len() > 1);
    let home = regex::escape(home.as_deref().unwrap_or(env!("CARGO_MANIFEST_DIR")));
    let pattern = format!(r"{checkout}|{home}/\w");
    source.findings(&source.text, &pattern, "a path of somebody's machine")
}

/// The rules find what they are for.
mod finds {
    use super::*;

    #[track_caller]
    fn findings(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Source::new(path, text)).len()
    }

    #[test]
    fn an_import_that_goes_up() {
        let upward = |path, text| findings(imports::upward, path, text);
        assert_eq!(upward("src/oci/digest.rs", "use crate::ledger::LedgerStore;"), 1);
        assert_eq!(upward("src/pin.rs", "fn f() { crate::config::load() }"), 1);
        assert_eq!(upward("src/pin.rs", "use super::config::Config;"), 1);
        assert_eq!(upward("src/ledger/log.rs", "use super::super::pull::Pull;"), 1);
        assert_eq!(upward("src/blob/fs.rs", "use crate::{oci::Digest, http::{Body, route}};"), 1);
        assert_eq!(upward("src/blob.rs", "use crate::{\n    app,\n    pull::Pull,\n};"), 2);
        assert_eq!(upward("src/serve.rs", "use immutag::cli::Cli;"), 1);
        assert_eq!(upward("src/http/route.rs", "use crate::admin::Page;"), 1);
        assert_eq!(upward("src/mitm/leaf.rs", "use crate::admin::Page;"), 1);
        assert_eq!(upward("src/ledger.rs", "use crate::upstream::Client;"), 1);
    }

    #[test]
    fn no_fault_in_an_import_that_goes_down() {
        let upward = |path, text| findings(imports::upward, path, text);
        assert_eq!(upward("src/ledger/log.rs", "use crate::oci::Digest; use super::index;"), 0);
        assert_eq!(upward("src/ledger/log.rs", "use crate::ledger::Record;"), 0);
        assert_eq!(upward("src/policy/judge.rs", "use crate::pin::Pin;"), 0);
        assert_eq!(
            upward("src/pin.rs", "// see crate::config\nconst A: &str = \"crate::app\";"),
            0
        );
        assert_eq!(upward("src/main.rs", "fn main() { immutag::cli::run() }"), 0);
        assert_eq!(upward("src/cli/serve.rs", "use crate::{app::App, serve::serve};"), 0);
        assert_eq!(upward("src/lib.rs", "pub mod cli;"), 0);
    }

    #[test]
    fn a_module_without_a_layer() {
        assert_eq!(findings(imports::homeless, "src/util/strings.rs", ""), 1);
        assert_eq!(findings(imports::homeless, "src/util.rs", ""), 1);
        assert_eq!(findings(imports::homeless, "src/oci/name.rs", ""), 0);
        assert_eq!(findings(imports::upward, "src/pull.rs", "use crate::util::x;"), 1);
    }

    #[test]
    fn a_crate_where_it_must_not_be() {
        let misplaced = |path, text| findings(imports::misplaced_crates, path, text);
        assert_eq!(misplaced("src/policy/judge.rs", "use tokio::time::sleep;"), 1);
        assert_eq!(misplaced("src/oci/name.rs", "fn f() { ::hyper::Method::GET }"), 1);
        assert_eq!(misplaced("src/blob/fs.rs", "use hyper_util::rt::TokioIo;"), 1);
        assert_eq!(misplaced("src/pull/judge.rs", "use hyper::body::Body as _;"), 1);
        assert_eq!(misplaced("src/ledger/log.rs", "fn f(db: &sled::Db) {}"), 1);
        assert_eq!(misplaced("src/admin/page.rs", "use rcgen::KeyPair;"), 1);
        assert_eq!(misplaced("src/ledger/index.rs", "use sled::Db;"), 0);
        assert_eq!(misplaced("src/ledger/index/thread.rs", "use sled::Db;"), 0);
        assert_eq!(misplaced("src/ledger/log.rs", "use tokio::sync::oneshot; // not sled::Db"), 0);
        assert_eq!(misplaced("src/http/route.rs", "use hyper::Request; mod upsled {}"), 0);
    }

    #[test]
    fn what_is_too_long() {
        let body = "    call();\n".repeat(5);
        let text = format!("fn short() {{ '{{'; \"}}\" }}\n\npub fn long<'a>() {{\n{body}}}\n");
        let source = Source::new("src/pin.rs", &text);
        assert_eq!(long_functions(&source, 6), ["src/pin.rs:3: `long` has 7 lines, 6 at most"]);
        assert!(long_functions(&source, 7).is_empty());
        assert_eq!((too_long(&source, 8).len(), too_long(&source, 9).len()), (1, 0));
    }

    #[test]
    fn an_unwrap_outside_tests() {
        let text = "fn f() { x.unwrap() }\n#[cfg(test)]\nmod tests { fn t() { y.unwrap() } }\n";
        assert_eq!(unwraps(&Source::new("src/pin.rs", text)).len(), 1);
        let declares = "#[cfg(test)]\npub(crate) mod fixtures;\nmod real;\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;";
        let found = Source::new("src/pin.rs", declares).test_modules();
        assert_eq!(found, ["src/pin/fixtures", "src/pin/tests"]);
        let mut tests = Source::new("src/pin/tests.rs", "fn t() { y.unwrap() }");
        tests.test_only = true;
        assert_eq!(unwraps(&tests).len(), 0);
        assert_eq!(unwraps(&Source::new("src/pin.rs", "// x.unwrap()\nx.unwrap_or(1)")).len(), 0);
    }

    #[test]
    fn a_reminder_without_an_issue() {
        let word = concat!("TO", "DO");
        let text = format!("// {word}: later\n// {word}(#12): with a number\n");
        assert_eq!(unnumbered_reminders(&Source::new("src/pin.rs", &text)).len(), 1);
    }

    #[test]
    fn an_allowed_lint() {
        let text =
            "#[allow(dead_code)]\n#![allow(x)]\n#[expect(y, reason = \"z\")]\n// #[allow(w)]\n";
        assert_eq!(allowed_lints(&Source::new("src/pin.rs", text)).len(), 2);
    }

    #[test]
    fn a_path_of_a_machine() {
        let checkout = env!("CARGO_MANIFEST_DIR");
        let text = format!("a {checkout}/src\nb /var/lib/immutag\nc {checkout}");
        assert_eq!(local_paths(&Source::new("docs/walk.md", &text)).len(), 2);
    }
}
