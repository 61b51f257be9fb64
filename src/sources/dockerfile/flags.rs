//! An instruction's words: flags, what follows them, and the here-documents that it begins.

use std::ops::Range;

use super::instructions::Instruction;

/// A word of an instruction.
pub(super) struct Word {
    /// As it is written.
    pub(super) raw: String,
    /// Without quotes and escapes; variables stay.
    pub(super) text: String,
    /// Where it is in the instruction's text.
    pub(super) range: Range<usize>,
}

/// An instruction without its name.
pub(super) struct Words {
    flags: Vec<Word>,
    /// What follows the flags.
    pub(super) rest: Vec<Word>,
}

/// Splits an instruction into its words. Quotes and escapes hold a word together.
pub(super) fn split(instruction: &Instruction) -> Words {
    let text = instruction.text.as_str();
    let mut at = skip_word(text, 0);
    let mut flags = Vec::new();
    let mut rest = Vec::new();
    while let Some(word) = next_word(text, at, instruction.escape) {
        at = word.range.end;
        if rest.is_empty() && word.text == "--" {
            rest.extend(std::iter::from_fn(|| {
                let word = next_word(text, at, instruction.escape)?;
                at = word.range.end;
                Some(word)
            }));
            break;
        }
        if rest.is_empty() && word.raw.starts_with("--") {
            flags.push(word);
        } else {
            rest.push(word);
        }
    }
    Words { flags, rest }
}

impl Words {
    /// The values of a flag, each with its place in the instruction's text.
    pub(super) fn flag(&self, name: &str) -> Vec<(String, Range<usize>)> {
        let value = |word: &Word| {
            let (key, value) = word.text.strip_prefix("--")?.split_once('=')?;
            let raw = word.raw.split_once('=')?.1;
            let quoted = usize::from(raw.starts_with(['"', '\'']));
            let start = word.range.end - raw.len() + quoted;
            key.eq_ignore_ascii_case(name).then(|| (value.to_owned(), start..start + value.len()))
        };
        self.flags.iter().filter_map(value).collect()
    }
}

/// A field of `type=bind,from=image,…`, with its place.
pub(super) fn field<'v>(
    fields: &'v str,
    range: Range<usize>,
    name: &str,
) -> Option<(&'v str, Range<usize>)> {
    let mut found = None;
    let mut at = 0;
    for part in fields.split(',') {
        let inner = part.trim_matches('"');
        if let Some((key, value)) = inner.split_once('=')
            && key.trim().eq_ignore_ascii_case(name)
        {
            let quoted = usize::from(part.starts_with('"'));
            let start = range.start + at + quoted + key.len() + 1;
            // The last one counts.
            found = Some((value, start..start + value.len()));
        }
        at += part.len() + 1;
    }
    found
}

/// Whether what follows `ONBUILD` may name an image.
pub(super) fn names_image(instruction: &Instruction) -> bool {
    let inner = behind_name(instruction);
    let words = split(&inner);
    let names = |mount: &str| field(mount, 0..0, "from").is_some();
    (inner.is("COPY") && !words.flag("from").is_empty())
        || (inner.is("RUN") && words.flag("mount").iter().any(|(mount, _)| names(mount)))
}

/// The instruction behind `ONBUILD`; its places mean nothing.
fn behind_name(instruction: &Instruction) -> Instruction {
    let at = skip_word(&instruction.text, 0);
    Instruction::plain(instruction.text[at..].trim_start(), instruction.escape)
}

/// A here-document that an instruction begins.
pub(super) struct Document {
    /// The line that ends it.
    pub(super) end: String,
    /// Its lines may be indented by tabs (`<<-`).
    pub(super) drops_tabs: bool,
}

/// The here-documents that an instruction begins.
pub(super) fn documents(instruction: &Instruction) -> Vec<Document> {
    if !instruction.text.contains("<<") {
        return Vec::new();
    }
    if instruction.is("ONBUILD") {
        let inner = behind_name(instruction);
        return if inner.is("ONBUILD") { Vec::new() } else { documents(&inner) };
    }
    if !["ADD", "COPY", "RUN"].iter().any(|name| instruction.is(name)) {
        return Vec::new();
    }
    let words = split(instruction);
    let is_json = words.rest.first().is_some_and(|first| {
        let list = &instruction.text[first.range.start..];
        serde_json::from_str::<Vec<String>>(list).is_ok()
    });
    if is_json {
        return Vec::new();
    }
    words.flags.iter().chain(&words.rest).filter_map(document).collect()
}

/// `[fd]<<[-]NAME`, with or without quotes.
fn document(word: &Word) -> Option<Document> {
    let behind = word.raw.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (name, drops_tabs) = match behind.strip_prefix('-') {
        Some(name) => (name, true),
        None => (behind, false),
    };
    if name.is_empty() || name.contains('<') {
        return None;
    }
    // Here it is the backslash, whatever escapes elsewhere.
    let end = next_word(name, 0, '\\')?.text;
    Some(Document { end, drops_tabs })
}

/// Where the word that begins at or behind `at` ends.
fn skip_word(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let begin = at + (rest.len() - rest.trim_start().len());
    text[begin..].find(char::is_whitespace).map_or(text.len(), |length| begin + length)
}

/// The next word at or behind `at`.
fn next_word(text: &str, at: usize, escape: char) -> Option<Word> {
    let rest = &text[at..];
    let start = at + (rest.len() - rest.trim_start().len());
    let (mut quote, mut plain, mut end) = (None, String::new(), text.len());
    let mut letters = text[start..].char_indices();
    while let Some((offset, letter)) = letters.next() {
        match quote {
            None if letter.is_whitespace() => {
                end = start + offset;
                break;
            }
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            None | Some('"') if letter == escape => {
                plain.extend(letters.next().map(|(_, letter)| letter));
            }
            _ => plain.push(letter),
        }
    }
    let raw = text[start..end].to_owned();
    (!raw.is_empty()).then_some(Word { raw, text: plain, range: start..end })
}
