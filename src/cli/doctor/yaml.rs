//! YAML as a tree with lines: one document, without anchors.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::node::{Entry, MAX_DEPTH, Node, Spoilt, Value};

/// A list or a table that is not at its end yet.
enum Open {
    List(usize, Vec<Node>),
    /// Entries, and the key that waits for its value.
    Table(usize, Vec<Entry>, Option<(String, usize)>),
}

/// Reads YAML.
///
/// # Errors
/// The place where it is none, or where it goes beyond what is read here: that is told rather than
/// guessed.
pub(super) fn from_yaml(text: &str) -> Result<Node, Spoilt> {
    let (mut open, mut root, mut documents) = (Vec::new(), None, 0);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Spoilt {
            line: Some(error.marker().line()),
            why: format!("this is not YAML: {}", error.info()),
        })?;
        let line = span.start.line();
        let spoilt = |why: &str| Spoilt { line: Some(line), why: why.to_owned() };
        let done = match event {
            Event::Alias(_) => return Err(spoilt("an alias is not read here")),
            Event::DocumentStart(_) if documents > 0 => {
                return Err(spoilt("a second document is not read here"));
            }
            Event::DocumentStart(_) => {
                documents += 1;
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Table(line, Vec::new(), None));
                None
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(line, Vec::new()));
                None
            }
            Event::MappingEnd | Event::SequenceEnd => open.pop().map(Open::close),
            Event::Scalar(text, style, ..) => Some(Node { line, value: scalar(&text, style) }),
            _ => continue,
        };
        if open.len() > MAX_DEPTH {
            return Err(spoilt("this is nested deeper than any settings are"));
        }
        let Some(node) = done else { continue };
        match open.last_mut() {
            Some(around) => around.take(node).map_err(spoilt)?,
            None => root = Some(node),
        }
    }
    Ok(root.filter(|root| root.value != Value::Nothing).unwrap_or(Node::empty()))
}

impl Open {
    fn close(self) -> Node {
        match self {
            Self::List(line, elements) => Node { line, value: Value::List(elements) },
            Self::Table(line, entries, _) => Node { line, value: Value::Table(entries) },
        }
    }

    fn take(&mut self, node: Node) -> Result<(), &'static str> {
        match self {
            Self::List(_, elements) => elements.push(node),
            Self::Table(_, entries, key) => match (key.take(), node) {
                (Some((key, line)), node) => entries.push(Entry { key, line, node }),
                (None, Node { line, value: Value::Text(text) }) => *key = Some((text, line)),
                (None, Node { line, value: Value::Flag(flag) }) => {
                    *key = Some((flag.to_string(), line));
                }
                _ => return Err("a key that is no text is not read here"),
            },
        }
        Ok(())
    }
}

/// The words for true and false are those of YAML 1.1, which the Go reader of these files takes.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Nothing,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Flag(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Value::Flag(false)
        }
        _ => Value::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_tells_lines_and_reads_both_styles() {
        let text = "mirrors:\n  docker.io:\n    endpoint:\n      - \"http://a:1\"\n  \"*\": {endpoint: [b]}\nflag: true\nempty:\n";
        let root = from_yaml(text).unwrap();
        let endpoint = root.entry(&["mirrors", "docker.io", "endpoint"]).unwrap();
        assert_eq!((endpoint.line, endpoint.node.texts()), (3, vec![(4, "http://a:1")]));
        assert_eq!(root.get(&["mirrors", "*", "endpoint"]).unwrap().texts(), [(5, "b")]);
        assert!(root.is_set(&["flag"]) && !root.is_set(&["empty"]));
        assert_eq!(from_yaml("").unwrap(), Node::empty());
        assert_eq!(from_yaml("# nothing\n").unwrap(), Node::empty());
    }

    #[test]
    fn what_is_not_read_is_told() {
        for (text, line) in [
            ("a: &x 1\nb: *x\n", 2),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: 1\n[x]: 2\n", 2),
            ("a: [1\nb: 2\n", 2),
        ] {
            let spoilt = from_yaml(text).unwrap_err();
            assert_eq!(spoilt.line, Some(line), "{text:?}: {spoilt:?}");
        }
        assert!(from_yaml(&"[".repeat(10_000)).is_err());
    }
}
