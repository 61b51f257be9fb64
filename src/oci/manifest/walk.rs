//! The first pass: refuses what clients could read differently, at every level, and keeps nothing.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use super::ENTRY_LIMIT;
use super::error::{ManifestError, quote};

/// Which of the keys that tell the kinds apart stand at the top level, whatever their value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Present {
    pub(super) config: bool,
    pub(super) layers: bool,
    pub(super) manifests: bool,
}

/// Walks the whole text.
pub(super) fn walk(text: &str) -> Result<Present, ManifestError> {
    if text.is_empty() {
        return Err(ManifestError::IsEmpty);
    }
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(ManifestError::BreaksJson {
            detail: "it does not begin with an object".into(),
        });
    }
    let mut state = State::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let outcome = Value { state: &mut state, level: Level::Top }
        .deserialize(&mut json)
        .and_then(|()| json.end());
    match outcome {
        Ok(()) => Ok(state.present),
        Err(error) => Err(state.refusal.unwrap_or_else(|| ManifestError::from_json(&error))),
    }
}

/// Where in a manifest a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Annotations,
    Descriptor,
    Descriptors,
    Free,
    Platform,
    Top,
}

impl Level {
    /// The keys that clients know here.
    const fn known_keys(self) -> &'static [&'static str] {
        match self {
            Self::Annotations | Self::Descriptors | Self::Free => &[],
            Self::Descriptor => &[
                "annotations",
                "artifactType",
                "data",
                "digest",
                "mediaType",
                "platform",
                "size",
                "urls",
            ],
            Self::Platform => {
                &["architecture", "features", "os", "os.features", "os.version", "variant"]
            }
            Self::Top => &[
                "annotations",
                "artifactType",
                "config",
                "fsLayers",
                "layers",
                "manifests",
                "mediaType",
                "schemaVersion",
                "subject",
            ],
        }
    }

    /// The level of the value behind `key`.
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Top, "config" | "subject") => Self::Descriptor,
            (Self::Top, "layers" | "manifests") => Self::Descriptors,
            (Self::Top | Self::Descriptor, "annotations") => Self::Annotations,
            (Self::Descriptor, "platform") => Self::Platform,
            _ => Self::Free,
        }
    }
}

#[derive(Default)]
struct State<'de> {
    /// The keys of all objects that are open, the innermost object's last.
    keys: Vec<Key<'de>>,
    present: Present,
    /// What was refused, if it was not `serde_json` who refused.
    refusal: Option<ManifestError>,
}

impl State<'_> {
    fn refuse<E: Error>(&mut self, refusal: ManifestError) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }
}

/// A key; serde copies a plain `Cow`.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct Value<'s, 'de> {
    state: &'s mut State<'de>,
    level: Level,
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Descriptors => "an array",
            Level::Free => "a value",
            _ => "an object",
        })
    }

    // The second pass checks the types of scalars; here they only have to be well-formed.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { state, level } = self;
        let below = match level {
            Level::Descriptors => Level::Descriptor,
            Level::Free => Level::Free,
            // A derived `Deserialize` would take an array for a struct.
            _ => return Err(A::Error::invalid_type(Unexpected::Seq, &"an object")),
        };
        let mut count = 0;
        while items.next_element_seed(Value { state: &mut *state, level: below })?.is_some() {
            count += 1;
            if below == Level::Descriptor && count > ENTRY_LIMIT {
                return Err(state.refuse(ManifestError::ExceedsEntries));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { state, level } = self;
        let first = state.keys.len();
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            if let Some(refusal) = check_key(&key.0, level) {
                return Err(state.refuse(refusal));
            }
            if is_repeated(&key, &state.keys[first..], &mut seen) {
                return Err(state.refuse(ManifestError::RepeatsKey { key: quote(&key.0) }));
            }
            if state.keys.len() - first >= ENTRY_LIMIT {
                return Err(state.refuse(ManifestError::ExceedsEntries));
            }
            if level == Level::Top {
                note(&mut state.present, &key.0);
            }
            let below = level.below(&key.0);
            state.keys.push(key);
            entries.next_value_seed(Value { state: &mut *state, level: below })?;
        }
        state.keys.truncate(first);
        Ok(())
    }
}

/// An object of a lawful manifest has few keys: they are compared one by one. A large one gets a
/// set, so that a hostile one costs no square of its size.
fn is_repeated<'de>(key: &Key<'de>, keys: &[Key<'de>], seen: &mut HashSet<Key<'de>>) -> bool {
    const FEW: usize = 32;
    if keys.len() < FEW {
        return keys.contains(key);
    }
    if keys.len() == FEW {
        seen.extend(keys.iter().cloned());
    }
    !seen.insert(key.clone())
}

fn check_key(key: &str, level: Level) -> Option<ManifestError> {
    let known_keys = level.known_keys();
    if (level, key) == (Level::Top, "fsLayers") {
        return Some(ManifestError::IsSchema1);
    }
    if known_keys.contains(&key) {
        return None;
    }
    let known = known_keys.iter().find(|known| folds_to(key, known))?;
    Some(ManifestError::VariesKeyCase { key: quote(key), known })
}

/// Whether Go's `encoding/json` takes `key` for `known`, which is ASCII: letters in either case,
/// and the two characters beyond ASCII that fold to one.
fn folds_to(key: &str, known: &str) -> bool {
    let fold = |character: char| match character {
        'ſ' => 's',
        '\u{212a}' => 'k',
        _ => character.to_ascii_lowercase(),
    };
    // Each of those two is at most 3 bytes long.
    (known.len()..=known.len() * 3).contains(&key.len())
        && key.chars().map(fold).eq(known.chars().map(fold))
}

fn note(present: &mut Present, key: &str) {
    match key {
        "config" => present.config = true,
        "layers" => present.layers = true,
        "manifests" => present.manifests = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::folds_to;

    #[test]
    fn keys_fold_as_go_folds_them() {
        for key in ["disks", "DISKS", "diſks", "dis\u{212a}ſ"] {
            assert!(folds_to(key, "disks"), "{key}");
        }
        for key in ["disk", "diskss", "dısks", "dißks", "", "d\u{0456}sks"] {
            assert!(!folds_to(key, "disks"), "{key}");
        }
    }
}
