//! Which tags a rule decides for.

use std::fmt;

pub use super::pattern::{MatcherError, Pattern};
pub use super::tag_matcher::TagMatcher;
use crate::pin::PinKey;

/// The conditions of a rule; all must hold. The default holds for every tag.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// One of these; empty: everywhere.
    places: Vec<Place>,
    tag: TagMatcher,
}

/// Some repositories of some registries.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    registry: Pattern,
    repository: Pattern,
}

/// Why a matcher does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// No place has this registry.
    Registry,
    /// The registry is right; the repository is not.
    Repository,
    /// The place is right; the tag is not.
    Tag,
}

impl Matcher {
    /// Decides for `tag` in the repositories that both globs cover.
    ///
    /// A registry without glob characters is made canonical (`index.docker.io` is `docker.io`), and
    /// on `docker.io` a repository without `/` is in `library/`, as everywhere in references.
    pub fn new(registry: &str, repository: &str, tag: TagMatcher) -> Result<Self, MatcherError> {
        let place = Place::new(registry, repository)?;
        Ok(Self { places: if place.is_anywhere() { Vec::new() } else { vec![place] }, tag })
    }

    /// Decides for `tag` in every repository.
    pub const fn everywhere(tag: TagMatcher) -> Self {
        Self { places: Vec::new(), tag }
    }

    /// Decides for `tag` in any of `places`, pairs of globs for registry and repository.
    pub fn any_of(places: &[(&str, &str)], tag: TagMatcher) -> Result<Self, MatcherError> {
        let place = |(registry, repository): &(&str, &str)| Place::new(registry, repository);
        Ok(Self { places: places.iter().map(place).collect::<Result<_, _>>()?, tag })
    }

    /// Whether the rule decides for `key`.
    pub fn matches(&self, key: &PinKey) -> bool {
        self.is_at(key) && self.tag.matches(key.tag.as_str())
    }

    /// The first condition that does not hold for `key`; `None` if the rule decides for it.
    pub fn mismatch(&self, key: &PinKey) -> Option<Mismatch> {
        let knows_registry = self.places.is_empty()
            || self.places.iter().any(|place| place.registry.matches(key.registry.as_str()));
        if !knows_registry {
            Some(Mismatch::Registry)
        } else if !self.is_at(key) {
            Some(Mismatch::Repository)
        } else if !self.tag.matches(key.tag.as_str()) {
            Some(Mismatch::Tag)
        } else {
            None
        }
    }

    /// Whether this certainly matches whatever `other` does, so that `other` after it never
    /// decides. Looks at the texts: may miss a case, never claims one.
    pub fn covers(&self, other: &Self) -> bool {
        let places = self.places.is_empty()
            || !other.places.is_empty()
                && other.places.iter().all(|place| self.places.iter().any(|own| own.covers(place)));
        places && self.tag.covers(&other.tag)
    }

    /// Which tags, without the place.
    pub const fn tag(&self) -> &TagMatcher {
        &self.tag
    }

    /// The places as text: `everywhere`, `docker.io/library/*`, or how many they are.
    pub fn places(&self) -> String {
        match self.places.as_slice() {
            [] => "everywhere".to_owned(),
            [place] => place.to_string(),
            places => format!("the {} listed groups of repositories", places.len()),
        }
    }

    fn is_at(&self, key: &PinKey) -> bool {
        let is_here = |place: &Place| {
            place.registry.matches(key.registry.as_str())
                && place.repository.matches(key.repository.as_str())
        };
        self.places.is_empty() || self.places.iter().any(is_here)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.places(), self.tag)
    }
}

impl Place {
    fn new(registry: &str, repository: &str) -> Result<Self, MatcherError> {
        let registry = Pattern::registry(registry)?;
        let is_hub = matches!(&registry, Pattern::Literal(name) if name == "docker.io");
        let repository = if is_hub && !repository.contains('/') && repository != "**" {
            Pattern::new(&format!("library/{repository}"))?
        } else {
            Pattern::new(repository)?
        };
        Ok(Self { registry, repository })
    }

    const fn is_anywhere(&self) -> bool {
        matches!((&self.registry, &self.repository), (Pattern::Any, Pattern::Any))
    }

    fn covers(&self, other: &Self) -> bool {
        self.registry.covers(&other.registry) && self.repository.covers(&other.repository)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = if self.registry == Pattern::Any { "*" } else { self.registry.as_str() };
        write!(f, "{registry}/{}", self.repository.as_str())
    }
}

#[cfg(test)]
mod tests;
