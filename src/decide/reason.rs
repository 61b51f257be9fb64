//! Why a person decided: a text that is kept for ever and shown on terminals.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fault::Fault;
use crate::event::{Draft, EventKind};
use crate::pin::PinKey;
use crate::printable::is_unprintable;

/// How long a reason may be, in characters.
pub(super) const REASON_LIMIT: usize = 500;

/// Why, in a person's words: one line, not empty, nothing in it that hides or moves text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

/// A reason with its author.
pub(super) struct Signed<'a> {
    who: &'a str,
    why: String,
}

impl Reason {
    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn by(self, who: &str) -> Signed<'_> {
        Signed { who, why: self.0 }
    }
}

impl Signed<'_> {
    /// A draft that carries who and why.
    pub(super) fn draft(&self, kind: EventKind, key: Option<&PinKey>) -> Draft {
        let Self { who, why } = self;
        Draft { who: (*who).to_owned(), why: why.clone(), ..Draft::new(kind, key.cloned()) }
    }
}

impl FromStr for Reason {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        let fits = !text.is_empty() && text.chars().count() <= REASON_LIMIT;
        if !fits || text.contains(is_unprintable) {
            return Err(Fault::SpoilsReason);
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_shows_what_it_says() {
        let long = "ä".repeat(REASON_LIMIT);
        for good in ["rebuilt for CVE-2026-1", "  trimmed  ", "größer, 修复", long.as_str()] {
            assert_eq!(good.parse::<Reason>().unwrap().as_str(), good.trim());
        }
        let too_long = "x".repeat(REASON_LIMIT + 1);
        for bad in
            ["", "  ", "two\nlines", "\u{1b}[31mred", "a\0b", "\u{202e}kcab", too_long.as_str()]
        {
            assert_eq!(bad.parse::<Reason>(), Err(Fault::SpoilsReason), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_reason_does_not_come_in_by_the_wire() {
        assert!(serde_json::from_str::<Reason>("\"fine\"").is_ok());
        assert!(serde_json::from_str::<Reason>("\"a\\u0007b\"").is_err());
    }
}
