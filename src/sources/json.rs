//! JSON with the places of its values, which `serde_json` does not tell.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::{Found, Lines, Mention, SOURCE_BYTES, SourceError, reference};

/// How deep values may stand in each other.
const DEPTH: usize = 128;

/// A step from a value into one that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// In a list.
    Index(usize),
    /// In an object.
    Name(String),
}

impl Key {
    /// Whether it is this name. Go's readers do not tell `Image` from `image`.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Name(own) if own.eq_ignore_ascii_case(name))
    }
}

/// A value on the way.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// Where it begins.
    pub(super) at: usize,
    /// Whether it is an object.
    pub(super) is_object: bool,
    /// The text of a string, and where it is written if nothing in it is escaped.
    pub(super) text: Option<String>,
    pub(super) span: Option<Range<usize>>,
}

/// Reads documents, one after the other, and shows each value with the way to it, in the order of
/// the text; strings whose way `wants` them come with their text.
///
/// # Errors
/// It is no JSON, or too large, or too deep.
pub(super) fn walk(
    text: &str,
    wants: impl Fn(&[Key]) -> bool,
    mut each: impl FnMut(&[Key], Value),
) -> Result<(), SourceError> {
    if text.len() > SOURCE_BYTES {
        return Err(SourceError::TooLarge);
    }
    for document in serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>() {
        document.map_err(|error| malformed(&error))?;
    }
    // From here on it is sound, and only the places are new.
    let (mut path, mut at, mut awaits_key) = (Vec::new(), 0, false);
    while let Some(byte) = text.as_bytes().get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' | b'[' => {
                if path.len() >= DEPTH {
                    return Err(SourceError::Malformed("its values are nested too deep".into()));
                }
                awaits_key = *byte == b'{';
                each(&path, Value { at: start, is_object: awaits_key, text: None, span: None });
                path.push(if awaits_key { Key::Name(String::new()) } else { Key::Index(0) });
            }
            b'}' | b']' => {
                path.pop();
                awaits_key = false;
            }
            b',' => match path.last_mut() {
                Some(Key::Index(index)) => *index += 1,
                _ => awaits_key = true,
            },
            b'"' => {
                at = end_of_string(text, at);
                let raw = start..at;
                if std::mem::take(&mut awaits_key) {
                    let name = string(text, raw)?.0;
                    path.pop();
                    path.push(Key::Name(name));
                } else {
                    let mut value =
                        Value { at: start + 1, is_object: false, text: None, span: None };
                    if wants(&path) {
                        let (text, span) = string(text, raw)?;
                        (value.text, value.span) = (Some(text), span);
                    }
                    each(&path, value);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn malformed(error: &serde_json::Error) -> SourceError {
    SourceError::Malformed(error.to_string())
}

/// The byte behind the quote that ends the string.
fn end_of_string(text: &str, mut at: usize) -> usize {
    while let Some(byte) = text.as_bytes().get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    text.len()
}

/// A string's text, and where it is if it is written as it is.
fn string(text: &str, raw: Range<usize>) -> Result<(String, Option<Range<usize>>), SourceError> {
    let value: String =
        serde_json::from_str(&text[raw.clone()]).map_err(|error| malformed(&error))?;
    let inner = raw.start + 1..raw.end - 1;
    let is_verbatim = text[inner.clone()] == value;
    Ok((value, is_verbatim.then_some(inner)))
}

/// Takes in what a string names, `skip` bytes into it.
pub(super) fn mention(found: &mut Found, lines: &Lines<'_>, value: &Value, skip: usize) {
    let (line, column) = lines.place(value.at + skip);
    let Some(name) = value.text.as_deref().and_then(|text| text.get(skip..)) else { return };
    match reference(name) {
        Ok((reference, is_immutable)) => found.mention(Mention {
            reference,
            is_immutable,
            platform: None,
            line,
            column,
            span: value.span.clone().map(|span| span.start + skip..span.end),
            default_span: None,
            is_frontend: false,
        }),
        Err(why) => found.skip(line, name, why),
    }
}
