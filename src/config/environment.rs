//! `IMMUTAG__*`: scalars by their path, tables as TOML text.
//!
//! Scalars (`IMMUTAG__CACHE__MAX_SIZE=10GiB`) take the place of the file's. Rules come before the
//! file's, so that they decide first; upstreams take the place of the file's of the same name;
//! listeners and webhooks take the place of all of the file's. Other `IMMUTAG_*` are none of ours: Kubernetes
//! injects such.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::document::{Document, TextKind, Texts};
use super::problem::Problem;
use super::read::attempt;

/// What variables of ours begin with.
const PREFIX: &str = "IMMUTAG__";

/// The keys that are given whole.
const TABLES: [&str; 4] = ["listener", "rule", "upstream", "webhook"];

/// A variable of ours: where its value goes, and its texts.
pub(super) struct Variable {
    name: String,
    keys: Vec<String>,
    value: String,
    /// The text to parse, as TOML, when it is (or may be) some.
    text: usize,
}

/// The variables of ours, in the order of their names, with their texts added to `texts`.
pub(super) fn variables(environment: &[(String, String)], texts: &mut Texts) -> Vec<Variable> {
    let mut ours: Vec<_> =
        environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    ours.sort();
    let variable = |(name, value): &(String, String)| {
        let path = name[PREFIX.len()..].to_ascii_lowercase().replace("__", "\0").replace('_', "-");
        let keys: Vec<String> = path.split('\0').map(str::to_owned).collect();
        let is_table = matches!(&keys[..], [key] if TABLES.contains(&key.as_str()));
        let is_document = is_table && !value.trim_start().starts_with("[{");
        let text =
            if is_document { value.clone() } else { format!("{:?} = {value}", keys.join(".")) };
        let kind = if is_document { TextKind::Tables } else { TextKind::Value };
        let text = texts.add(name, kind, &text);
        Variable { name: name.clone(), keys, value: value.clone(), text }
    };
    ours.into_iter().map(variable).collect()
}

/// Lays the variables over the document.
pub(super) fn overlay<'t>(
    document: &mut Document<'t>,
    variables: &[Variable],
    texts: &'t Texts,
) -> Vec<Problem> {
    variables
        .iter()
        .flat_map(|variable| match &variable.keys[..] {
            [key] if TABLES.contains(&key.as_str()) => set_table(document, variable, key, texts),
            [key, ..] if TABLES.contains(&key.as_str()) => {
                let name = format!("{PREFIX}{}", key.to_ascii_uppercase());
                vec![variable.problem(texts, &format!("give the whole table as TOML in {name}"))]
            }
            _ => {
                let value = variable.scalar(texts);
                document.set(&variable.keys, texts.range(variable.text).start, value);
                Vec::new()
            }
        })
        .collect()
}

fn set_table<'t>(
    document: &mut Document<'t>,
    variable: &Variable,
    key: &str,
    texts: &'t Texts,
) -> Vec<Problem> {
    let mut table = match texts.parse(variable.text) {
        Ok(table) => table,
        Err(problems) => return problems,
    };
    let Some(value) = table.remove(key).filter(|_| table.is_empty()) else {
        let example = if key == "upstream" { "[upstream.\"host\"]" } else { &format!("[[{key}]]") };
        return vec![variable.problem(texts, &format!("it must hold {example} tables, only"))];
    };
    let span = value.span();
    let old = document.root.remove(key).map(Spanned::into_inner);
    let merged = match (key, value.into_inner(), old) {
        ("rule", DeValue::Array(ours), Some(DeValue::Array(old))) => {
            let mut all = DeArray::new();
            ours.iter().chain(old.iter()).for_each(|rule| all.push(rule.clone()));
            DeValue::Array(all)
        }
        ("upstream", DeValue::Table(ours), Some(DeValue::Table(mut old))) => {
            for (host, upstream) in ours {
                old.remove(host.get_ref().as_ref());
                old.insert(host, upstream);
            }
            DeValue::Table(old)
        }
        (_, ours, _) => ours,
    };
    document.set(&[key.to_owned()], span.start, Spanned::new(span, merged));
    Vec::new()
}

impl Variable {
    /// The value as the key wants it: text where it takes text, else what TOML reads in it.
    fn scalar<'t>(&self, texts: &'t Texts) -> Spanned<DeValue<'t>> {
        let range = texts.range(self.text);
        let text = DeValue::String(self.value.clone().into());
        // The text is `"key.key" = value`: after the offsets that the keys take.
        let text = Spanned::new(range.start + self.keys.len()..range.end, text);
        if self.is_right(&text) {
            return text;
        }
        let parsed = texts.parse(self.text).ok().and_then(only_value);
        parsed.filter(|value| self.is_right(value)).unwrap_or(text)
    }

    fn is_right(&self, value: &Spanned<DeValue<'_>>) -> bool {
        let mut alone = Document::default();
        alone.set(&self.keys, 0, value.clone());
        attempt(&alone).is_ok()
    }

    fn problem(&self, texts: &Texts, message: &str) -> Problem {
        let mut place = texts.place(texts.range(self.text).start);
        if let Some(place) = &mut place {
            place.position = None;
            place.source.clone_from(&self.name);
        }
        Problem { place, key: String::new(), message: message.to_owned() }
    }
}

fn only_value(table: DeTable<'_>) -> Option<Spanned<DeValue<'_>>> {
    table.into_iter().next().map(|(_, value)| value)
}
