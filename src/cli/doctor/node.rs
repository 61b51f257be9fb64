//! Settings as one tree that knows its lines, whatever language they are written in.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How deep a tree may be: settings are flat, and a hostile file is not followed down.
pub(super) const MAX_DEPTH: usize = 64;

/// A value and the line where it begins, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a value is. Numbers and dates are texts: no setting that matters here is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Flag(bool),
    List(Vec<Node>),
    Nothing,
    Table(Vec<Entry>),
    Text(String),
}

/// An entry of a table, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The line of the key.
    pub(super) line: usize,
    pub(super) node: Node,
}

/// Why a text cannot be read as what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spoilt {
    pub(super) line: Option<usize>,
    pub(super) why: String,
}

impl Node {
    /// A table without entries: what a file that is not there comes to.
    pub(super) const fn empty() -> Self {
        Self { line: 1, value: Value::Table(Vec::new()) }
    }

    /// The node at a path of keys; of a key that stands there twice, the last.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Self> {
        self.entry(path).map(|entry| &entry.node)
    }

    /// The same with the key and its line.
    pub(super) fn entry(&self, path: &[&str]) -> Option<&Entry> {
        let (first, rest) = path.split_first()?;
        let entry = self.entries().iter().rev().find(|entry| entry.key == *first)?;
        if rest.is_empty() { Some(entry) } else { entry.node.entry(rest) }
    }

    /// The entries, if it is a table.
    pub(super) fn entries(&self) -> &[Entry] {
        if let Value::Table(entries) = &self.value { entries } else { &[] }
    }

    /// The elements, if it is a list.
    pub(super) fn elements(&self) -> &[Self] {
        if let Value::List(elements) = &self.value { elements } else { &[] }
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The text at a path of keys.
    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.get(path)?.text()
    }

    /// Whether a flag at a path of keys is there and set.
    pub(super) fn is_set(&self, path: &[&str]) -> bool {
        self.get(path).is_some_and(|node| node.value == Value::Flag(true))
    }

    /// The texts of a list, or the one text that stands in its place, with their lines.
    pub(super) fn texts(&self) -> Vec<(usize, &str)> {
        let all = if self.text().is_some() { std::slice::from_ref(self) } else { self.elements() };
        all.iter().filter_map(|node| Some((node.line, node.text()?))).collect()
    }
}

/// Reads TOML.
///
/// # Errors
/// The first place where it is none.
pub(super) fn from_toml(text: &str) -> Result<Node, Spoilt> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::of(text);
    if let Some(error) = errors.first() {
        let line = error.span().map(|span| lines.of_offset(span.start));
        return Err(Spoilt { line, why: format!("this is not TOML: {}", error.message()) });
    }
    Ok(Node { line: 1, value: table_of(table.get_ref(), &lines, 0) })
}

fn table_of(table: &DeTable<'_>, lines: &Lines, depth: usize) -> Value {
    let mut entries: Vec<(usize, Entry)> = Vec::new();
    for (key, value) in table {
        let (start, line) = (key.span().start, lines.of_offset(key.span().start));
        let node = node_of(value, lines, depth + 1);
        entries.push((start, Entry { key: key.get_ref().to_string(), line, node }));
    }
    // In the order of the file: for some clients that is the order in which hosts are asked.
    entries.sort_by_key(|(start, _)| *start);
    Value::Table(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn node_of(value: &Spanned<DeValue<'_>>, lines: &Lines, depth: usize) -> Node {
    let line = lines.of_offset(value.span().start);
    let value = match value.get_ref() {
        _ if depth > MAX_DEPTH => Value::Nothing,
        DeValue::Array(array) => {
            Value::List(array.iter().map(|element| node_of(element, lines, depth + 1)).collect())
        }
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(date) => Value::Text(date.to_string()),
        DeValue::Float(number) => Value::Text(number.as_str().to_owned()),
        DeValue::Integer(number) => Value::Text(number.as_str().to_owned()),
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Table(table) => table_of(table, lines, depth),
    };
    Node { line, value }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn of_offset(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_keeps_lines_and_the_order_of_the_file() {
        let text =
            "b = \"x\"\n\n[host.\"https://z\"]\n  c = [\"pull\",\n    \"resolve\"]\n[host.a]\n";
        let root = from_toml(text).unwrap();
        let hosts = root.entry(&["host"]).unwrap();
        let keys: Vec<_> =
            hosts.node.entries().iter().map(|it| (it.key.as_str(), it.line)).collect();
        assert_eq!(keys, [("https://z", 3), ("a", 6)]);
        let listed = root.get(&["host", "https://z", "c"]).unwrap();
        assert_eq!(listed.texts(), [(4, "pull"), (5, "resolve")]);
        assert_eq!((root.text_at(&["b"]), root.get(&["b"]).unwrap().line), (Some("x"), 1));
        assert_eq!(from_toml("a = 1\nb = \n").unwrap_err().line, Some(2));
    }
}
