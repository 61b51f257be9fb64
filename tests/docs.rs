//! Holds the documents to what there is: links lead to files, commands are known, tests exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

#[test]
fn links_lead_to_files_that_are_there() {
    let link = Regex::new(r"\]\(([^)#\s]+)(#[^)\s]*)?\)").unwrap();
    let mut count = 0;
    for (path, text) in documents() {
        for found in link.captures_iter(&text) {
            let target = &found[1];
            if target.contains("://") {
                continue;
            }
            count += 1;
            let target_path = path.parent().unwrap().join(target);
            assert!(target_path.exists(), "{}: {target} is not there", path.display());
        }
    }
    assert!(count > 20, "{count} links are not all");
}

#[test]
fn every_document_is_reached_from_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for (path, _) in documents() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || readme.contains(name), "README.md does not name {name}");
    }
}

#[test]
fn commands_in_documents_are_known_to_the_program() {
    let command = Regex::new(r"\bimmutag((?: [a-z][a-z-]*)+)").unwrap();
    let code = Regex::new(r"(?m)`immutag [^`]*`|^ {4}.*\bimmutag .*$|^\$ .*\bimmutag .*$").unwrap();
    let known = known_commands();
    let mut count = 0;
    for (path, text) in documents() {
        for found in code.find_iter(&text) {
            let Some(words) = command.captures(found.as_str()) else { continue };
            let words: Vec<String> = words[1].split_whitespace().map(str::to_owned).collect();
            if !known.iter().any(|it| it[0] == words[0]) && found.as_str().starts_with("    ") {
                continue; // Prose or output of something else in an indented block.
            }
            count += 1;
            let fits = known.iter().any(|it| words.starts_with(it) || it.starts_with(&words));
            assert!(fits, "{}: {} is no command", path.display(), found.as_str());
        }
    }
    assert!(count > 10, "{count} commands are not all");
}

#[test]
fn tests_that_the_architecture_names_exist() {
    let name = Regex::new(r"`([a-z0-9]+(?:_[a-z0-9]+){3,})`").unwrap();
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let attributed =
        Regex::new(r"#\[(?:tokio::)?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)");
    let attributed = attributed.unwrap();
    let mut tests = BTreeSet::new();
    for folder in ["src", "tests"] {
        for source in files(&root().join(folder), "rs") {
            let source = fs::read_to_string(source).unwrap();
            tests.extend(attributed.captures_iter(&source).map(|found| found[1].to_owned()));
        }
    }
    let named: Vec<_> = name.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        assert!(tests.contains(&name), "docs/architecture.md: there is no test {name}");
    }
}

/// The commands with their subcommands, as `--help` lists them.
fn known_commands() -> Vec<Vec<String>> {
    let mut known = Vec::new();
    for command in subcommands(&[]) {
        let below = subcommands(&[&command]);
        known.extend(below.iter().map(|it| vec![command.clone(), it.clone()]));
        if below.is_empty() {
            known.push(vec![command]);
        }
    }
    known
}

fn subcommands(of: &[&str]) -> Vec<String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_immutag"));
    let help = program.args(of).arg("--help").output().expect("it runs");
    assert!(help.status.success(), "{of:?}: {help:?}");
    let help = String::from_utf8(help.stdout).expect("help is text");
    let listed = help.split_once("Commands:\n").map_or("", |(_, rest)| rest);
    let listed = listed.split("\n\n").next().unwrap_or_default();
    let names = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// README and everything in `docs/`.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = files(&root().join("docs"), "md");
    paths.push(root().join("README.md"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a document");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
