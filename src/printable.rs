//! What may be shown: text of strangers that can do nothing to a terminal, a log or its reader.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character moves the cursor, changes colours, or shows nothing or something else than
/// it is: control characters, line and paragraph separators, invisible and bidirectional marks
/// (Unicode TR 36, "bidirectional text spoofing").
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Text with everything unprintable spelled out: `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut spelled = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unprintable(character) {
            spelled.extend(character.escape_default());
        } else {
            spelled.push(character);
        }
    }
    Cow::Owned(spelled)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_or_hides_is_left() {
        assert_eq!(escape("plain, größer, 修复"), "plain, größer, 修复");
        assert_eq!(escape("a\u{1b}[2Jb\nc\u{202e}d\u{7f}"), "a\\u{1b}[2Jb\\nc\\u{202e}d\\u{7f}");
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
}
