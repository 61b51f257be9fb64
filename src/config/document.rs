//! Configuration texts (a file, environment variables) as one tree that knows its places.
//!
//! Every text gets a range of offsets of its own: it is parsed with as many spaces before it as
//! the texts before it are long. So one offset, wherever it comes up (a syntax error, a wrong
//! type, a check long after), tells text, line and column.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::{KeyPath, Place, Problem, Step};

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    /// A file.
    File,
    /// An environment variable that holds tables.
    Tables,
    /// An environment variable that holds one value: its lines mean nothing to a reader.
    Value,
}

/// A text of the configuration.
struct Text {
    /// The name of the file or the environment variable.
    source: String,
    kind: TextKind,
    start: usize,
    padded: String,
}

/// All texts.
#[derive(Default)]
pub(super) struct Texts(Vec<Text>);

/// The tree that the texts make.
#[derive(Default)]
pub(super) struct Document<'t> {
    pub(super) root: DeTable<'t>,
}

impl Texts {
    /// Adds a text; gives its index.
    pub(super) fn add(&mut self, source: &str, kind: TextKind, text: &str) -> usize {
        let start = self.0.last().map_or(0, |text| text.padded.len() + 1);
        let padded = format!("{:start$}{text}", "");
        self.0.push(Text { source: source.to_owned(), kind, start, padded });
        self.0.len() - 1
    }

    /// Parses a text; its problems come with their places.
    pub(super) fn parse(&self, index: usize) -> Result<DeTable<'_>, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(&self.0[index].padded);
        if errors.is_empty() {
            return Ok(table.into_inner());
        }
        let problem = |error: &toml::de::Error| Problem {
            place: self.place(error.span().map_or(self.0[index].start, |span| span.start)),
            key: String::new(),
            message: format!("this is not TOML: {}", error.message()),
        };
        Err(errors.iter().map(problem).collect())
    }

    /// The offsets that a text has.
    pub(super) fn range(&self, index: usize) -> Range<usize> {
        self.0[index].start..self.0[index].padded.len()
    }

    /// The place of an offset.
    pub(super) fn place(&self, offset: usize) -> Option<Place> {
        let text = self.at(offset)?;
        let before = text.padded.get(text.start..offset.min(text.padded.len())).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let position = (text.kind != TextKind::Value).then_some((line, column));
        Some(Place { source: text.source.clone(), position })
    }

    /// Whether an offset is in an environment variable.
    pub(super) fn is_variable(&self, offset: usize) -> bool {
        self.at(offset).is_some_and(|text| text.kind != TextKind::File)
    }

    fn at(&self, offset: usize) -> Option<&Text> {
        self.0.iter().rev().find(|text| text.start <= offset)
    }
}

impl<'t> Document<'t> {
    /// Where the value at `path` begins, or the nearest table around it that is written.
    pub(super) fn offset(&self, path: &KeyPath) -> Option<usize> {
        let mut found = None;
        let mut table = Some(&self.root);
        let mut array: Option<&DeArray<'_>> = None;
        for step in path.steps() {
            let value = match step {
                Step::Key(key) => table.and_then(|table| table.get(key.as_str())),
                Step::At(index) => array.and_then(|array| array.get(*index)),
            };
            let Some(value) = value else { break };
            found = Some(value.span().start);
            table = value.get_ref().as_table();
            array = value.get_ref().as_array();
        }
        found
    }

    /// Puts `value` at a path of keys, in place of what is there. The keys' offsets are `start` and
    /// those after it. Where a key on the way holds no table nothing changes: that is a problem of
    /// its own.
    pub(super) fn set(&mut self, keys: &[String], start: usize, value: Spanned<DeValue<'t>>) {
        let Some((last, tables)) = keys.split_last() else { return };
        let span = |index: usize| start + index..start + index + 1;
        let mut table = &mut self.root;
        for (index, key) in tables.iter().enumerate() {
            let empty = || Spanned::new(span(index), DeValue::Table(DeTable::new()));
            let key = Spanned::new(span(index), key.clone().into());
            match table.entry(key).or_insert_with(empty).get_mut() {
                DeValue::Table(inner) => table = inner,
                _ => return,
            }
        }
        table.insert(Spanned::new(span(tables.len()), last.clone().into()), value);
    }

    /// Removes the entry that offset `at` points at, the innermost one, and gives its path.
    pub(super) fn remove_at(&mut self, at: usize) -> Option<KeyPath> {
        remove_from_table(&mut self.root, at, &KeyPath::default())
    }
}

fn remove_from_table(table: &mut DeTable<'_>, at: usize, path: &KeyPath) -> Option<KeyPath> {
    let mut blamed = None;
    for (key, value) in table.iter_mut() {
        let here = path.key(key.get_ref());
        let found = remove_from_value(value, at, &here);
        if found.is_some() {
            return found;
        }
        if key.span().contains(&at) || holds(value, at) {
            blamed = Some((key.get_ref().to_string(), here));
        }
    }
    let (key, path) = blamed?;
    table.remove(key.as_str());
    Some(path)
}

fn remove_from_value(
    value: &mut Spanned<DeValue<'_>>,
    at: usize,
    path: &KeyPath,
) -> Option<KeyPath> {
    match value.get_mut() {
        DeValue::Table(table) => remove_from_table(table, at, path),
        DeValue::Array(array) => array
            .iter_mut()
            .enumerate()
            .find_map(|(index, element)| remove_from_value(element, at, &path.at(index))),
        _ => None,
    }
}

/// Whether `at` is in the value's own text, or in that of an element of it.
fn holds(value: &Spanned<DeValue<'_>>, at: usize) -> bool {
    value.span().contains(&at)
        || value
            .get_ref()
            .as_array()
            .is_some_and(|array| array.iter().any(|element| element.span().contains(&at)))
}
