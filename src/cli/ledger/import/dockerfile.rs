//! Dockerfiles: the images behind `FROM`.
//!
//! Source: Dockerfile reference, "FROM", "Understand how ARG and FROM interact", "Environment
//! replacement", "Escape". Only `ARG`s with a default in front of the first `FROM` are known here.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;

use super::gather::Gather;
use super::lines::Lines;

/// The longest line, and the longest instruction, in bytes.
const LINE_LIMIT: usize = 64 << 10;

/// The most `ARG`s and stages that are kept.
const NAMES: usize = 1_000;

#[derive(Default)]
struct Reader {
    gather: Gather,
    arguments: HashMap<String, String>,
    stages: HashSet<String>,
    has_stage: bool,
}

/// Reads a Dockerfile; a tag's place is the line of its `FROM`.
pub(super) fn read(input: impl BufRead) -> anyhow::Result<Gather> {
    let mut lines = Lines::new(input, LINE_LIMIT);
    let mut reader = Reader::default();
    let mut instruction = String::new();
    let (mut place, mut escape, mut may_direct) = (1, '\\', true);
    loop {
        let number = lines.number + 1;
        let Some(line) = lines.next()? else { break };
        let line = line.trim();
        if line.starts_with('#') || line.is_empty() {
            if let Some(character) = directive(line).filter(|_| may_direct) {
                escape = character;
            }
            may_direct &= line.starts_with('#') && line.contains('=');
            continue;
        }
        may_direct = false;
        if instruction.is_empty() {
            place = number;
        }
        let (part, goes_on) = match line.strip_suffix(escape) {
            Some(part) => (part, true),
            None => (line, false),
        };
        // What is longer than any FROM is read over.
        if instruction.len() < LINE_LIMIT {
            instruction.push_str(part);
            instruction.push(' ');
        }
        if !goes_on {
            reader.take(&instruction, place)?;
            instruction.clear();
        }
    }
    reader.take(&instruction, place)?;
    Ok(reader.gather)
}

/// The character that `# escape=…` asks for.
fn directive(line: &str) -> Option<char> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let is_escape = name.trim().eq_ignore_ascii_case("escape");
    is_escape.then(|| value.trim().chars().next()).flatten()
}

impl Reader {
    fn take(&mut self, instruction: &str, place: u64) -> anyhow::Result<()> {
        let mut words = instruction.split_whitespace();
        let name = words.next().unwrap_or_default();
        if name.eq_ignore_ascii_case("ARG") && !self.has_stage {
            words.for_each(|word| self.argument(word));
        } else if name.eq_ignore_ascii_case("FROM") {
            self.has_stage = true;
            let mut words = words.filter(|word| !word.starts_with("--"));
            let image = words.next().unwrap_or_default();
            let is_named = words.next().is_some_and(|word| word.eq_ignore_ascii_case("AS"));
            self.from(image, place)?;
            if let Some(stage) = words.next().filter(|_| is_named && self.stages.len() < NAMES) {
                self.stages.insert(stage.to_lowercase());
            }
        }
        Ok(())
    }

    fn argument(&mut self, word: &str) {
        if let Some((name, value)) = word.split_once('=')
            && self.arguments.len() < NAMES
        {
            let value = value.trim_matches(['"', '\'']);
            if let Some(value) = self.expand(value) {
                self.arguments.insert(name.to_owned(), value);
            }
        }
    }

    fn from(&mut self, image: &str, place: u64) -> anyhow::Result<()> {
        let Some(image_name) = self.expand(image.trim_matches(['"', '\''])) else {
            self.gather.skip(place, image, "it needs an ARG that has no default here");
            return Ok(());
        };
        let is_stage = self.stages.contains(&image_name.to_lowercase());
        if is_stage || image_name == "scratch" {
            return Ok(());
        }
        self.gather.reference(&image_name, place)
    }

    /// `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}` replaced; `None` if one is not
    /// known, or is written in another way.
    fn expand(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (name, behind) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}')?,
                None => after.split_at(
                    after
                        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .unwrap_or(after.len()),
                ),
            };
            let (name, default) = match name.split_once('-') {
                Some((name, default)) => (name.strip_suffix(':').unwrap_or(name), Some(default)),
                None => (name, None),
            };
            out.push_str(self.arguments.get(name).map(String::as_str).or(default)?);
            if out.len() > LINE_LIMIT {
                return None;
            }
            rest = behind;
        }
        out.push_str(rest);
        Some(out)
    }
}
