//! Globs for registries, repositories and tags.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use thiserror::Error;

use crate::oci::Registry;

/// A glob: `*` does not cross `/`, `**` does.
#[derive(Clone, Debug, Default)]
pub enum Pattern {
    /// Everything.
    #[default]
    Any,
    /// A glob proper.
    Glob(GlobMatcher),
    /// One text.
    Literal(String),
}

/// Why a matcher does not do what somebody might have meant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MatcherError {
    /// It is no glob.
    #[error("{0:?} is no glob: {1}")]
    SpoilsGlob(String, String),
    /// It is no regular expression, or not one that can be held to a whole tag.
    #[error("{0:?} is no regular expression: {1}")]
    SpoilsRegex(String, String),
    /// It is neither a registry's name nor a glob.
    #[error("{0:?} is no registry: {1}")]
    SpoilsRegistry(String, String),
    /// The compiled expression is larger than [`REGEX_LIMIT_BYTES`].
    #[error("the regular expression is too large: at most {REGEX_LIMIT_BYTES} bytes compiled")]
    TooLarge,
}

/// The size, in bytes, that a compiled regular expression may have.
pub const REGEX_LIMIT_BYTES: usize = 1 << 20;

impl Pattern {
    /// Reads a glob.
    pub fn new(glob: &str) -> Result<Self, MatcherError> {
        let spoils =
            |error: &dyn fmt::Display| MatcherError::SpoilsGlob(glob.to_owned(), error.to_string());
        if glob.is_empty() {
            return Err(spoils(&"it is empty"));
        }
        if glob == "**" {
            return Ok(Self::Any);
        }
        if !has_glob_character(glob) {
            return Ok(Self::Literal(glob.to_owned()));
        }
        let built = GlobBuilder::new(glob).literal_separator(true).build();
        let built = built.map_err(|error| spoils(error.kind()))?;
        Ok(Self::Glob(built.compile_matcher()))
    }

    /// Reads a glob for registries: their names have no `/`, so that `*` is everything.
    pub fn registry(glob: &str) -> Result<Self, MatcherError> {
        if glob == "*" {
            return Ok(Self::Any);
        }
        match glob.parse::<Registry>() {
            Ok(name) => Ok(Self::Literal(name.as_str().to_owned())),
            Err(_) if glob.is_empty() || has_glob_character(glob) => {
                Self::new(&glob.to_ascii_lowercase())
            }
            Err(error) => Err(MatcherError::SpoilsRegistry(glob.to_owned(), error.to_string())),
        }
    }

    /// Whether it covers the whole `text`.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Glob(glob) => glob.is_match(text),
            Self::Literal(literal) => literal == text,
        }
    }

    /// The text that it was read from; `**` for everything.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "**",
            Self::Glob(glob) => glob.glob().glob(),
            Self::Literal(literal) => literal,
        }
    }

    /// Whether this certainly covers whatever `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Literal(text) => self.matches(text),
            _ => matches!(self, Self::Any) || self == other,
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

fn has_glob_character(text: &str) -> bool {
    text.contains(['*', '?', '[', ']', '{', '}', '\\'])
}
