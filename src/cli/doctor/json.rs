//! JSON as a tree with lines.

use super::node::{Entry, Node, Spoilt, Value};

/// Reads JSON; an empty text is an empty table.
///
/// # Errors
/// The place where it is none.
pub(super) fn from_json(text: &str) -> Result<Node, Spoilt> {
    if text.trim().is_empty() {
        return Ok(Node::empty());
    }
    // It says what is wrong, and bounds the depth; what is left to do is to find the lines.
    let lawful: Result<serde_json::Value, _> = serde_json::from_str(text);
    if let Err(error) = lawful {
        let line = Some(error.line());
        return Err(Spoilt { line, why: format!("this is not JSON: {error}") });
    }
    let mut scan = Scan { text, at: 0, line: 1 };
    scan.value().ok_or_else(|| Spoilt { line: None, why: "this is not JSON".to_owned() })
}

/// A walk over a text that is known to be JSON.
struct Scan<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl Scan<'_> {
    fn value(&mut self) -> Option<Node> {
        let first = self.peek()?;
        let line = self.line;
        let value = match first {
            b'{' => Value::Table(self.all(b'}', Self::entry)?),
            b'[' => Value::List(self.all(b']', Self::value)?),
            b'"' => Value::Text(self.string()?),
            _ => self.word(),
        };
        Some(Node { line, value })
    }

    fn entry(&mut self) -> Option<Entry> {
        self.peek()?;
        let line = self.line;
        let key = self.string()?;
        self.peek().filter(|byte| *byte == b':')?;
        self.at += 1;
        Some(Entry { key, line, node: self.value()? })
    }

    /// What stands between brackets, with commas between.
    fn all<T>(&mut self, end: u8, read: fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        self.at += 1;
        let mut found = Vec::new();
        while self.peek()? != end {
            found.push(read(self)?);
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        Some(found)
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !byte.is_ascii_whitespace() {
                return Some(byte);
            }
            self.line += usize::from(byte == b'\n');
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<String> {
        let rest = self.text.get(self.at..)?;
        let mut is_escaped = false;
        let end = rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        })?;
        let quoted = rest.get(..end + 2)?;
        self.at += quoted.len();
        serde_json::from_str(quoted).ok()
    }

    /// A number, or one of the three words.
    fn word(&mut self) -> Value {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |letter: char| matches!(letter, ',' | '}' | ']') || letter.is_whitespace();
        let word = rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or_default();
        self.at += word.len();
        match word {
            "false" => Value::Flag(false),
            "null" => Value::Nothing,
            "true" => Value::Flag(true),
            _ => Value::Text(word.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_tells_the_lines_of_keys_and_of_texts_in_lists() {
        let text = "{\n\t\"features\": { \"x\": true, \"y\\\"\":null},\n \"registry-mirrors\": [\n  \"http://a\",\n  \"http://b\"\n ], \"n\": [1,[]]\n}\n";
        let root = from_json(text).unwrap();
        assert!(root.is_set(&["features", "x"]));
        assert_eq!(root.get(&["features", "y\""]).unwrap().value, Value::Nothing);
        let mirrors = root.entry(&["registry-mirrors"]).unwrap();
        assert_eq!(mirrors.line, 3);
        assert_eq!(mirrors.node.texts(), [(4, "http://a"), (5, "http://b")]);
        assert_eq!(from_json("{\n  \"a\": [1,]\n}").unwrap_err().line, Some(2));
        assert_eq!(from_json(" \n").unwrap(), Node::empty());
    }

    proptest! {
        #[test]
        fn what_serde_takes_is_read_whole(
            text in "[\\[{\"]{0,3}[a-z\": ,\\\\]{0,12}[\\]}\"]{0,3}", word in ".{0,12}"
        ) {
            let quoted = serde_json::json!({ "k": [word, { word.clone(): word }] });
            for text in [text, serde_json::to_string_pretty(&quoted).unwrap()] {
                let lawful = text.trim().is_empty()
                    || serde_json::from_str::<serde_json::Value>(&text).is_ok();
                prop_assert_eq!(from_json(&text).is_ok(), lawful);
            }
        }
    }
}
