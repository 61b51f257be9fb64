//! Variables in a Dockerfile: `$NAME`, `${NAME}`, `${NAME:-word}` and their kin.
//!
//! Source: Dockerfile reference, "Environment replacement"; the arguments that a builder sets by
//! itself: "Automatic platform ARGs in the global scope".

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Range;
use std::str::Chars;

/// The longest text that comes of variables, in bytes. No reference is as long.
const LONGEST: usize = 4 << 10;

/// The most arguments that are kept.
const NAMES: usize = 1_000;

/// How deep words may stand in each other.
const DEPTH: usize = 16;

/// What a builder sets to the platform that it builds for, or on.
const PLATFORM: [&str; 8] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETPLATFORM",
    "TARGETVARIANT",
];

/// Why a text is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It needs an argument without a value.
    Argument,
    /// It needs what the builder says of the platform.
    Platform,
    /// It is longer than anything that is of use.
    TooLong,
    /// It is written as nothing that is understood.
    Written,
}

/// The arguments that a `FROM` can use.
pub(super) struct Arguments {
    given: BTreeMap<String, String>,
    known: BTreeMap<String, Value>,
}

struct Value {
    text: String,
    /// Where it is written, if it is written as it is.
    span: Option<Range<usize>>,
}

impl Arguments {
    /// None yet but for these values, which go before defaults.
    pub(super) fn given(given: &BTreeMap<String, String>) -> Self {
        Self { given: given.clone(), known: BTreeMap::new() }
    }

    /// `ARG name` or `ARG name=default`; the default as it is written, and where.
    pub(super) fn define(
        &mut self,
        name: &str,
        default: Option<&str>,
        escape: char,
        span: Option<Range<usize>>,
    ) {
        let value = match (self.given.get(name), default) {
            (Some(given), _) => Value { text: given.clone(), span: None },
            (None, None) => return,
            (None, Some(default)) => {
                let Ok(text) = self.expand(default, escape) else {
                    self.known.remove(name);
                    return;
                };
                Value { text, span }
            }
        };
        if self.known.len() < NAMES {
            self.known.insert(name.to_owned(), value);
        }
    }

    /// A word with its variables replaced, and without quotes and escapes.
    pub(super) fn expand(&self, text: &str, escape: char) -> Result<String, Unknown> {
        Expansion { arguments: self, letters: text.chars().peekable(), escape }.word(None, 0)
    }

    /// Where the default is written that is all of this word, `$NAME` or `${NAME}`.
    pub(super) fn default_span(&self, word: &str) -> Option<Range<usize>> {
        let word = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
        let name = word.strip_prefix('$')?;
        let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
        self.known.get(name)?.span.clone()
    }

    fn value(&self, name: &str) -> Result<Option<&str>, Unknown> {
        match self.known.get(name) {
            Some(value) => Ok(Some(&value.text)),
            None if PLATFORM.contains(&name) => Err(Unknown::Platform),
            None => Ok(None),
        }
    }
}

/// The part of a word that means itself: all of it, or what stands in its quotes. `None` if there
/// is more to it.
pub(super) fn plain(word: &str, escape: char) -> Option<Range<usize>> {
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| word.strip_prefix(*quote).and_then(|inner| inner.strip_suffix(*quote)));
    let (inner, start) = quoted.map_or((word, 0), |inner| (inner, 1));
    let is_plain = !inner.contains(['$', '"', '\'', escape]);
    (is_plain && !inner.is_empty()).then(|| start..start + inner.len())
}

/// A word on its way.
struct Expansion<'a> {
    arguments: &'a Arguments,
    letters: Peekable<Chars<'a>>,
    escape: char,
}

impl Expansion<'_> {
    /// Reads to the end, or to `stop`, which is left. Reads on behind a failure, so that what
    /// turns out not to be needed may have failed.
    fn word(&mut self, stop: Option<char>, depth: usize) -> Result<String, Unknown> {
        let (mut out, mut quote, mut failure) = (String::new(), None, None);
        loop {
            let Some(&letter) = self.letters.peek() else {
                if stop.is_some() || quote.is_some() {
                    failure = Some(Unknown::Written);
                }
                break;
            };
            if quote.is_none() && Some(letter) == stop {
                break;
            }
            self.letters.next();
            match quote {
                None if letter == '"' || letter == '\'' => quote = Some(letter),
                Some(open) if open == letter => quote = None,
                None | Some('"') if letter == '$' => match self.variable(depth) {
                    Ok(value) if out.len() + value.len() <= LONGEST => out.push_str(&value),
                    Ok(_) => failure = failure.or(Some(Unknown::TooLong)),
                    Err(unknown) => failure = failure.or(Some(unknown)),
                },
                None | Some('"') if letter == self.escape => out.extend(self.letters.next()),
                _ if out.len() < LONGEST => out.push(letter),
                _ => failure = failure.or(Some(Unknown::TooLong)),
            }
        }
        failure.map_or(Ok(out), Err)
    }

    /// What stands behind a `$`.
    fn variable(&mut self, depth: usize) -> Result<String, Unknown> {
        if self.letters.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Err(Unknown::Written);
            }
            let value = self.arguments.value(&name)?;
            return value.map(str::to_owned).ok_or(Unknown::Argument);
        }
        if depth >= DEPTH {
            return Err(Unknown::TooLong);
        }
        let name = self.name();
        let counts_empty = self.letters.next_if_eq(&':').is_none();
        let operator = self.letters.next_if(|letter| "-+?".contains(*letter));
        let word = self.word(Some('}'), depth + 1);
        self.letters.next();
        let set = self.arguments.value(&name)?;
        let is_used = |text: &&str| counts_empty || !text.is_empty();
        match operator {
            _ if name.is_empty() => Err(Unknown::Written),
            None if word.as_deref() == Ok("") && counts_empty => {
                set.map(str::to_owned).ok_or(Unknown::Argument)
            }
            None => Err(Unknown::Written),
            Some('+') => {
                if set.as_ref().is_some_and(is_used) {
                    word
                } else {
                    Ok(String::new())
                }
            }
            Some('-') => set.filter(is_used).map_or(word, |set| Ok(set.to_owned())),
            Some(_) => set.filter(is_used).map(str::to_owned).ok_or(Unknown::Argument),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        let is_name = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
        while let Some(letter) = self.letters.next_if(is_name) {
            name.push(letter);
        }
        name
    }
}
