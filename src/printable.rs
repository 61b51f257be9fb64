//! What may be shown: text of strangers (labels of images, words of registries and clients) that can
//! do nothing to a terminal, a log or its reader.
//!
//! Whoever publishes an image writes its labels. Shown as they are, they could move the cursor of
//! a terminal, reverse the order of what is read, or fill the screen.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Deserializer, Serialize};

/// The most characters of a [`Shown`] text.
pub const SHOWN_LIMIT: usize = 120;

/// What stands for the rest of a text that was cut.
const CUT: char = '…';

/// Whether a character moves the cursor, changes colours, or shows nothing or something else than
/// it is: control characters, line and paragraph separators, invisible and bidirectional marks
/// (Unicode TR 36, "bidirectional text spoofing"), fillers and variation selectors.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Text with everything unprintable spelled out: `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut spelled = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        spell(character, &mut spelled);
    }
    Cow::Owned(spelled)
}

/// The same, cut to at most `most` characters, of which the last says so.
pub fn escape_within(text: &str, most: usize) -> String {
    let (mut kept, mut room, mut piece) = (String::new(), most, String::new());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        piece.clear();
        spell(character, &mut piece);
        let (length, is_last) = (piece.chars().count(), rest.as_str().is_empty());
        if length + usize::from(!is_last) > room {
            kept.push(CUT);
            break;
        }
        room -= length;
        kept.push_str(&piece);
    }
    kept
}

fn spell(character: char, to: &mut String) {
    if is_unprintable(character) {
        to.extend(character.escape_default());
    } else {
        to.push(character);
    }
}

/// A line of JSON with everything unprintable as JSON spells it, `\u202e`; outside its strings
/// there is none, but for the line's end, which stays.
pub fn escape_json(line: &str) -> Cow<'_, str> {
    let is_hidden = |character: char| character != '\n' && is_unprintable(character);
    if !line.contains(is_hidden) {
        return Cow::Borrowed(line);
    }
    let mut spelled = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        if is_hidden(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(spelled, "\\u{unit:04x}").expect("memory takes it");
            }
        } else {
            spelled.push(character);
        }
    }
    Cow::Owned(spelled)
}

/// A text of somebody else, escaped and at most [`SHOWN_LIMIT`] characters long: there is no other
/// way to make one, and to read one from JSON makes it so again.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Shown(String);

impl Shown {
    /// Makes a text fit to be shown.
    pub fn new(text: &str) -> Self {
        Self(escape_within(text, SHOWN_LIMIT))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In quotes, within words of ours: it cannot end them.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0.replace('"', "\\\""))
    }

    /// In a list of names of ours: as it is if it is a plain name, else in quotes, so that it cannot
    /// pass for two names, or for words of ours.
    pub fn named(&self) -> Cow<'_, str> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || " ()+-./_".contains(letter);
        if self.0.chars().all(is_plain) {
            return Cow::Borrowed(&self.0);
        }
        Cow::Owned(self.quoted())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_something_to_a_terminal_or_a_reader_is_spelled_out() {
        for (text, expected) in [
            ("plain, größer, 修复", "plain, größer, 修复"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\r\nb\0", "a\\r\\nb\\u{0}"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("\u{2066}\u{9b}\u{e0041}\u{3164}", "\\u{2066}\\u{9b}\\u{e0041}\\u{3164}"),
        ] {
            assert_eq!(escape(text), expected);
            assert_eq!(Shown::new(text).as_str(), expected);
        }
    }

    #[test]
    fn a_text_that_is_cut_says_so_and_an_escape_is_never_cut_in_two() {
        assert_eq!(escape_within("abc", 3), "abc");
        assert_eq!(escape_within("abcd", 3), "ab…");
        assert_eq!(escape_within("ab\u{1b}\u{1b}", 8), "ab…");
        assert_eq!(escape_within("ab\u{1b}c", 9), "ab\\u{1b}c");
        assert_eq!(Shown::new("a\"b").quoted(), "\"a\\\"b\"");
        assert_eq!(Shown::new("windows/amd64 (10.0)").named(), "windows/amd64 (10.0)");
        assert_eq!(Shown::new("linux/amd64: low, b").named(), "\"linux/amd64: low, b\"");
    }

    #[test]
    fn json_says_the_same_when_what_hides_is_spelled_out() {
        let text = "a\u{202e}b\u{7f}c\u{9b}d\u{e0041}e\"f\\g\nh";
        let line = serde_json::to_string(&text).unwrap() + "\n";
        let escaped = escape_json(&line);
        assert!(escaped.is_ascii() && escaped.ends_with("\"\n"), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        assert_eq!(escape_json("{\"größer\":1}\n"), "{\"größer\":1}\n");
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_bounded_printable_and_the_same_when_it_is_shown_again(
            text in any::<String>(), most in 1..200_usize
        ) {
            let shown = escape_within(&text, most);
            prop_assert!(shown.chars().count() <= most);
            prop_assert!(!shown.contains(is_unprintable));
            prop_assert_eq!(escape_within(&shown, most), shown);
        }
    }
}
