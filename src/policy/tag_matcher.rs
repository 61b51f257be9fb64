//! Which tags a rule decides for, by their text alone.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::pattern::{MatcherError, Pattern, REGEX_LIMIT_BYTES};
use super::tag_form::{VersionForm, is_build_date, is_commit_id, version_form};

/// Which tags, by their text alone.
#[derive(Clone, Debug, Default)]
pub enum TagMatcher {
    /// Every tag.
    #[default]
    Any,
    /// A build date (see [`is_build_date`]).
    BuildDate,
    /// A commit id (see [`is_commit_id`]).
    CommitId,
    /// A full version (see [`version_form`]).
    FullVersion,
    /// Tags that a pattern covers.
    Glob(Pattern),
    /// A partial version (see [`version_form`]).
    PartialVersion,
    /// Tags that an expression matches as a whole.
    Regex(TagRegex),
    /// Tags that end in one of these.
    Suffix(Vec<String>),
}

/// A regular expression for a whole tag, as written and as compiled.
#[derive(Clone, Debug)]
pub struct TagRegex {
    written: String,
    compiled: Regex,
}

impl TagMatcher {
    /// Tags that `glob` covers.
    pub fn glob(glob: &str) -> Result<Self, MatcherError> {
        // A tag has no '/', so that one star is everything too.
        Ok(if glob == "*" { Self::Any } else { Self::Glob(Pattern::new(glob)?) })
    }

    /// Tags that `regex` matches as a whole, in time linear in their length.
    pub fn regex(regex: &str) -> Result<Self, MatcherError> {
        // Alone first: "a)|(?:b" must not escape from the group that holds it to the whole tag.
        compile(regex, regex)?;
        let compiled = compile(regex, &format!(r"\A(?:{regex})\z"))?;
        Ok(Self::Regex(TagRegex { written: regex.to_owned(), compiled }))
    }

    /// Whether it covers `tag`.
    pub fn matches(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::BuildDate => is_build_date(tag),
            Self::CommitId => is_commit_id(tag),
            Self::FullVersion => version_form(tag) == VersionForm::Full,
            Self::Glob(glob) => glob.matches(tag),
            Self::PartialVersion => version_form(tag) == VersionForm::Partial,
            Self::Regex(regex) => regex.compiled.is_match(tag),
            Self::Suffix(suffixes) => suffixes.iter().any(|suffix| tag.ends_with(suffix.as_str())),
        }
    }

    /// Whether this certainly covers whatever `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _)
            | (Self::BuildDate, Self::BuildDate)
            | (Self::CommitId, Self::CommitId)
            | (Self::FullVersion, Self::FullVersion)
            | (Self::PartialVersion, Self::PartialVersion) => true,
            (Self::Glob(own), Self::Glob(other)) => own.covers(other),
            (Self::Regex(own), Self::Regex(other)) => own.written == other.written,
            (Self::Suffix(own), Self::Suffix(other)) => {
                other.iter().all(|suffix| own.iter().any(|own| suffix.ends_with(own.as_str())))
            }
            (own, Self::Glob(Pattern::Literal(tag))) => own.matches(tag),
            _ => false,
        }
    }
}

fn compile(written: &str, regex: &str) -> Result<Regex, MatcherError> {
    let built = RegexBuilder::new(regex).size_limit(REGEX_LIMIT_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => MatcherError::TooLarge,
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason).to_owned();
            MatcherError::SpoilsRegex(written.to_owned(), reason)
        }
    })
}

impl fmt::Display for TagMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any tag"),
            Self::BuildDate => f.write_str("build dates"),
            Self::CommitId => f.write_str("commit ids"),
            Self::FullVersion => f.write_str("full versions"),
            Self::Glob(glob) => write!(f, "tags like {}", glob.as_str()),
            Self::PartialVersion => f.write_str("partial versions"),
            Self::Regex(regex) => write!(f, "tags that match /{}/", regex.written),
            Self::Suffix(suffixes) => write!(f, "tags that end in {}", suffixes.join(" or ")),
        }
    }
}
