//! A Dockerfile's lines as instructions: directives, comments, continuations, here-documents.

use std::ops::Range;

use super::flags;

/// The escape character where no directive says another.
const ESCAPE: char = '\\';

/// What stands in comments in front of everything else.
#[derive(Default)]
pub(super) struct Directives {
    /// Where the frontend's name is.
    pub(super) syntax: Option<Range<usize>>,
}

/// An instruction in one line, as a builder sees it.
pub(super) struct Instruction {
    /// Its text without continuations and comments.
    pub(super) text: String,
    /// Where each piece of it begins: in `text`, and in the file.
    pieces: Vec<(usize, usize)>,
    /// The file's escape character.
    pub(super) escape: char,
}

impl Instruction {
    /// One that is in no file.
    pub(super) fn plain(text: &str, escape: char) -> Self {
        Self { text: text.to_owned(), pieces: Vec::new(), escape }
    }

    /// Whether it has this name.
    pub(super) fn is(&self, name: &str) -> bool {
        let first = self.text.split_whitespace().next().unwrap_or_default();
        first.eq_ignore_ascii_case(name)
    }

    /// Where a byte of the text is in the file.
    pub(super) fn source(&self, at: usize) -> usize {
        let (from, source) = self.piece(at);
        source + (at - from)
    }

    /// Where a part of the text is in the file, if it is there in one piece.
    pub(super) fn span(&self, range: Range<usize>) -> Option<Range<usize>> {
        let last = range.end.checked_sub(1).filter(|last| *last >= range.start)?;
        let is_one = self.piece(range.start) == self.piece(last);
        is_one.then(|| self.source(range.start)..self.source(last) + 1)
    }

    fn piece(&self, at: usize) -> (usize, usize) {
        let number = self.pieces.partition_point(|(from, _)| *from <= at);
        number.checked_sub(1).map_or((0, 0), |number| self.pieces[number])
    }
}

/// The instructions of a Dockerfile, in its order; the bodies of here-documents are none.
pub(super) struct Instructions<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    unended: Option<usize>,
}

/// Reads the directives; the instructions follow.
pub(super) fn begin(text: &str) -> (Directives, Instructions<'_>) {
    let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut instructions = Instructions { text, at, escape: ESCAPE, unended: None };
    let mut directives = Directives::default();
    // A frontend may be asked for behind a `#!` line.
    let mut is_first = true;
    let begin = instructions.at;
    while let Some((start, line)) = instructions.line() {
        let is_shebang = std::mem::take(&mut is_first) && line.starts_with("#!");
        match directive(line) {
            Some((name, value)) if name.eq_ignore_ascii_case("syntax") => {
                let word = value.split(' ').next().unwrap_or_default();
                let from = start + line.trim_end().len() - value.len();
                directives.syntax.get_or_insert(from..from + word.len());
            }
            Some((name, value)) if name.eq_ignore_ascii_case("escape") => {
                instructions.escape = if value == "`" { '`' } else { ESCAPE };
            }
            Some((name, _)) if name.eq_ignore_ascii_case("check") => {}
            _ if is_shebang => {}
            _ => break,
        }
    }
    // Directives are comments, too.
    instructions.at = begin;
    (directives, instructions)
}

/// `# name = value`
fn directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_name && !name.is_empty() && !value.is_empty()).then_some((name, value))
}

impl<'a> Instructions<'a> {
    /// The here-document that goes on to the end of the file and is none for a builder.
    pub(super) const fn unended(&self) -> Option<usize> {
        self.unended
    }

    /// The next line without its end, and where it begins.
    fn line(&mut self) -> Option<(usize, &'a str)> {
        let start = self.at;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        self.at += length;
        Some((start, rest[..length].trim_end_matches(['\r', '\n'])))
    }

    /// The line without its continuation character, if it has one.
    fn continued<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(part) if !part.ends_with(self.escape) => (part, true),
            _ => (line, false),
        }
    }

    /// Reads over the bodies of the here-documents that an instruction begins.
    fn pass_documents(&mut self, instruction: &Instruction) {
        for document in flags::documents(instruction) {
            loop {
                let Some((_, line)) = self.line() else {
                    self.unended.get_or_insert(instruction.source(0));
                    return;
                };
                let line = if document.drops_tabs { line.trim_start_matches('\t') } else { line };
                if line == document.end {
                    break;
                }
            }
        }
    }
}

impl Iterator for Instructions<'_> {
    type Item = Instruction;

    fn next(&mut self) -> Option<Instruction> {
        let mut instruction =
            Instruction { text: String::new(), pieces: Vec::new(), escape: self.escape };
        let mut is_begun = false;
        while let Some((start, line)) = self.line() {
            let trimmed = line.trim_start();
            if trimmed.starts_with('#') || trimmed.is_empty() {
                continue;
            }
            // Only the first line's indentation is nothing.
            let (from, line) = if is_begun {
                (start, line)
            } else {
                (start + line.len() - trimmed.len(), trimmed)
            };
            let (part, goes_on) = self.continued(line);
            is_begun = true;
            if !part.is_empty() {
                instruction.pieces.push((instruction.text.len(), from));
                instruction.text.push_str(part);
            }
            if !goes_on {
                break;
            }
        }
        if !is_begun {
            return None;
        }
        self.pass_documents(&instruction);
        Some(instruction)
    }
}
