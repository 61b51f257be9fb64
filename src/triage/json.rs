//! JSON as Go reads it: a key in any case, the last of equal ones; and whether that matters.
//!
//! A config is not parsed strictly before it is served, as a manifest is. What a client makes of
//! one that can be read in two ways is its own business; here it is a finding.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value, with all keys as they came.
pub(super) enum Node {
    List(Vec<Node>),
    Object(Object),
    /// A number, `true` or `false`, as text.
    Plain(String),
    Text(String),
    Null,
}

/// An object's keys and values, in their order.
pub(super) struct Object(Vec<(String, Node)>);

impl Node {
    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The object, if it is one.
    pub(super) const fn object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The texts of a list, or the one text that stands for a list of it; others are left out.
    pub(super) fn texts(&self) -> Vec<&str> {
        match self {
            Self::List(list) => list.iter().filter_map(Self::text).collect(),
            Self::Text(text) => vec![text],
            _ => Vec::new(),
        }
    }

    /// Whether it says nothing: null, or nothing in it.
    pub(super) const fn is_empty(&self) -> bool {
        match self {
            Self::List(list) => list.is_empty(),
            Self::Object(object) => object.0.is_empty(),
            Self::Plain(_) => false,
            Self::Text(text) => text.is_empty(),
            Self::Null => true,
        }
    }

    /// The value, written so that equal values look alike.
    pub(super) fn write(&self, to: &mut String) {
        match self {
            Self::List(list) => {
                to.push('[');
                for (at, node) in list.iter().enumerate() {
                    to.push_str(if at > 0 { ", " } else { "" });
                    node.write(to);
                }
                to.push(']');
            }
            Self::Object(object) => {
                to.push('{');
                for (at, (key, node)) in object.0.iter().enumerate() {
                    to.push_str(if at > 0 { ", " } else { "" });
                    Self::write_text(key, to);
                    to.push_str(": ");
                    node.write(to);
                }
                to.push('}');
            }
            Self::Plain(text) => to.push_str(text),
            Self::Text(text) => Self::write_text(text, to),
            Self::Null => to.push_str("null"),
        }
    }

    fn write_text(text: &str, to: &mut String) {
        to.push_str(&serde_json::Value::from(text).to_string());
    }
}

impl Object {
    /// The value that Go takes for a field of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        let mut entries = self.0.iter().rev();
        entries.find(|(key, _)| is_same(key, name)).map(|(_, node)| node)
    }

    /// All keys and values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// Whether another reader may find something else under one of these names: it stands there
    /// twice, or in another case.
    pub(super) fn is_ambiguous(&self, names: &[&str]) -> bool {
        names.iter().any(|name| {
            let mut found = self.0.iter().filter(|(key, _)| is_same(key, name));
            found.next().is_some_and(|(key, _)| key != name) || found.next().is_some()
        })
    }
}

/// As Go's encoding/json compares a key with the name of a field.
fn is_same(key: &str, name: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => letter.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, it: bool) -> Result<Node, E> {
        Ok(Node::Plain(it.to_string()))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Node, E> {
        Ok(Node::Plain(it.to_string()))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Node, E> {
        Ok(Node::Plain(it.to_string()))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Node, E> {
        Ok(Node::Plain(it.to_string()))
    }

    fn visit_str<E>(self, it: &str) -> Result<Node, E> {
        Ok(Node::Text(it.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Object(Object(entries)))
    }
}
