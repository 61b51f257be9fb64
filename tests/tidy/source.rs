//! Sources, read as text: without comments and literals, without tests, function by function.

use std::fs;
use std::path::Path;

use regex::Regex;

/// One file.
pub(crate) struct Source {
    /// Its path from the manifest's folder, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Whether its parent declares it for tests only.
    pub(crate) test_only: bool,
}

/// The files below these folders (those that are there), without what is not text.
pub(crate) fn texts(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(folder, &mut found);
    }
    let declared: Vec<String> = found.iter().flat_map(Source::test_modules).collect();
    for source in &mut found {
        source.test_only = declared.iter().any(|module| source.is_in(module));
    }
    found
}

/// The files in the manifest's own folder.
pub(crate) fn texts_beside_the_manifest() -> Vec<Source> {
    let entries = fs::read_dir(root()).expect("the manifest's folder");
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    files.filter_map(|file| read(&file.file_name().to_string_lossy())).collect()
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), test_only: false }
    }

    /// The paths, without extension, of the modules that it declares for tests only.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        if !self.is_rust() {
            return Vec::new();
        }
        let folder = match self.path.strip_suffix("/lib.rs") {
            Some(root) => root,
            None => self.path.trim_end_matches(".rs"),
        };
        let declaration =
            r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\(\w+\))?\s+)?mod\s+(\w+)\s*;";
        let declaration = Regex::new(declaration).expect("a valid pattern");
        let code = self.code();
        let names = declaration.captures_iter(&code).map(|found| found[1].to_owned());
        names.map(|name| format!("{folder}/{name}")).collect()
    }

    /// Whether it is this module (a path without extension) or below it.
    fn is_in(&self, module: &str) -> bool {
        let rest = self.path.strip_prefix(module);
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// The top-level module that it belongs to; `None` for `lib.rs`, which only declares.
    pub(crate) fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let name = below.split('/').next()?;
        Some(name.strip_suffix(".rs").unwrap_or(name)).filter(|name| *name != "lib")
    }

    /// How many `super`s lead from it to the crate's root.
    pub(crate) fn depth(&self) -> usize {
        self.path.strip_prefix("src/").map_or(0, |below| below.split('/').count())
    }

    /// The text with comments and literals blanked; lines stay where they are.
    pub(crate) fn code(&self) -> String {
        let raw = Regex::new(RAW_STRING).expect("a valid pattern");
        let text = raw.replace_all(&self.text, |found: &regex::Captures<'_>| blank(&found[0]));
        let other = Regex::new(COMMENT_OR_LITERAL).expect("a valid pattern");
        other.replace_all(&text, |found: &regex::Captures<'_>| blank(&found[0])).into_owned()
    }

    /// The code without what exists for tests only.
    pub(crate) fn code_outside_tests(&self) -> String {
        if self.test_only {
            return String::new();
        }
        let mut code = self.code();
        let start = Regex::new(r"#\[cfg\(test\)\]\s*(pub(\(\w+\))?\s+)?mod\s+\w+\s*\{");
        let start = start.expect("a valid pattern");
        while let Some(found) = start.find(&code) {
            let end = found.end() + block_length(&code[found.end()..]);
            let gone = blank(&code[found.start()..end]);
            code.replace_range(found.start()..end, &gone);
        }
        code
    }

    /// Every function with a body: its name, its first line, how many lines it has.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let code = self.code();
        let head = Regex::new(r"\bfn\s+(\w+)[^;{]*\{").expect("a valid pattern");
        let function = |found: regex::Captures<'_>| {
            let whole = found.get(0).expect("a match");
            let end = whole.end() + block_length(&code[whole.end()..]);
            let line = 1 + code[..whole.start()].matches('\n').count();
            let lines = 1 + code[whole.start()..end].matches('\n').count();
            (found[1].to_owned(), line, lines)
        };
        head.captures_iter(&code).map(function).collect()
    }

    /// One finding for each match of `pattern` in `text`, which has this source's lines.
    pub(crate) fn findings(&self, text: &str, pattern: &str, why: &str) -> Vec<String> {
        let pattern = Regex::new(pattern).expect("a valid pattern");
        let finding = |(line, text): (usize, &str)| {
            let found = pattern.find(text)?;
            Some(format!("{}:{}: `{}`: {why}", self.path, line + 1, found.as_str()))
        };
        text.lines().enumerate().filter_map(finding).collect()
    }
}

const RAW_STRING: &str = r####"(?s)\bb?r###".*?"###|\bb?r##".*?"##|\bb?r#".*?"#"####;
const COMMENT_OR_LITERAL: &str =
    r#"(?s)//[^\n]*|/\*.*?\*/|"(\\.|[^"\\])*"|'(\\[^']+|\\'|[^'\\\n])'"#;

/// As many lines, and nothing on them.
fn blank(text: &str) -> String {
    text.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }).collect()
}

/// The bytes up to and with the brace that closes a block, its opening brace being before them.
fn block_length(code: &str) -> usize {
    let mut depth = 1;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return };
    for entry in entries.flatten() {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&path, found);
        } else {
            found.extend(read(&path));
        }
    }
}

fn read(path: &str) -> Option<Source> {
    let text = fs::read_to_string(root().join(path)).ok()?;
    Some(Source::new(path, &text))
}
