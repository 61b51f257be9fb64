//! From a document to the raw configuration, with every wrong key and value at once.
//!
//! serde stops at the first error. So: read, blame the entry that the error points at, take it
//! out, read again. Each round takes one entry away, so it ends.

use serde::Deserialize;
use toml::Spanned;

use super::document::{Document, Texts};
use super::problem::{KeyPath, Problem};
use super::raw::RawConfig;

/// Keys whose values no message may quote.
const SECRET_KEYS: [&str; 1] = ["password"];

/// Reads the document; wrong entries are taken out of it and told.
pub(super) fn read(document: &mut Document<'_>, texts: &Texts) -> (RawConfig, Vec<Problem>) {
    let mut problems = Vec::new();
    loop {
        let error = match attempt(document) {
            Ok(raw) => return (raw, problems),
            Err(error) => error,
        };
        let at = error.span().map(|span| span.start);
        let Some((at, path)) = at.and_then(|at| Some((at, document.remove_at(at)?))) else {
            let message = error.message().to_owned();
            problems.push(Problem { place: None, key: String::new(), message });
            return (RawConfig::default(), problems);
        };
        let message = message(error.message(), &path);
        problems.push(Problem { place: texts.place(at), key: path.to_string(), message });
    }
}

/// Reads the document as it is.
pub(super) fn attempt(document: &Document<'_>) -> Result<RawConfig, toml::de::Error> {
    let root = Spanned::new(0..0, document.root.clone());
    RawConfig::deserialize(toml::Deserializer::from(root))
}

/// The error's message in our words where it is about a key, and without secrets.
fn message(error: &str, path: &KeyPath) -> String {
    let unknown = error.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, "));
    if let Some((key, known)) = unknown {
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        return match nearest(key, &known) {
            Some(near) => format!("there is no such key; did you mean \"{near}\"?"),
            None => format!("there is no such key; known here: {}", known.join(", ")),
        };
    }
    match path.last_key() {
        Some(key) if SECRET_KEYS.contains(&key) => "it must be a string".to_owned(),
        _ => error.replace('`', "\""),
    }
}

/// The known word that is at most a third of its letters away from `word`.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('_', "-");
    let near = known.iter().map(|candidate| (distance(&word, candidate), *candidate)).min()?;
    (near.0 <= near.1.len().div_ceil(3)).then_some(near.1)
}

/// Levenshtein's distance, in bytes.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_key_is_suggested_and_a_far_one_is_not() {
        let known = ["max-size", "min-free"];
        assert_eq!(nearest("max-sise", &known), Some("max-size"));
        assert_eq!(nearest("MAX_SIZE", &known), Some("max-size"));
        assert_eq!(nearest("minfree", &known), Some("min-free"));
        assert_eq!(nearest("retain", &known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
