//! Rules: which tags are immutable, and what happens on a conflict.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::matcher::Matcher;
use crate::pin::PinKey;

/// What happens when the upstream answers another digest than the pin, from mild to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reaction {
    /// The client gets what the upstream says; each new digest is written down.
    Record,
    /// The client gets the new manifest with a Warning; the pin follows; an alert.
    Alert,
    /// The client gets the recorded manifest.
    Hold,
    /// The client is refused, in a way that it cannot get round.
    Block,
}

impl Reaction {
    /// The name, as the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Block => "block",
            Self::Hold => "hold",
            Self::Record => "record",
        }
    }

    /// Whether tags under this reaction have a pin.
    pub const fn is_covered(self) -> bool {
        !matches!(self, Self::Record)
    }
}

/// A rule, valid.
#[derive(Clone, Debug)]
pub struct Rule {
    /// How messages, events and `rules test` call it: `rule 2`, or `built-in full-version`.
    pub name: String,
    /// Which tags it decides for.
    pub matcher: Matcher,
    /// What happens on a conflict.
    pub reaction: Reaction,
    /// `hold` only: follow when the new digest has stood unchanged this long; `None`: never.
    pub accept_after: Option<Duration>,
    /// How long a tag that was never seen must have stood before it is served.
    pub min_age: Duration,
    /// How long after first sight an index may still gain platforms.
    pub settle: Duration,
    /// How old an upstream's answer may be.
    pub recheck: Duration,
    /// Whether it also decides for tags that are mutable by specification
    /// (see [`crate::oci::Tag::is_referrers`]).
    pub include_referrers: bool,
    /// What was imported must be the very digest that is served: no index that names it, no image
    /// that has it as its config. So are the tags of a lock file.
    pub is_exact: bool,
}

/// The effective rules, in order: the user's, then the built-in ones.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// First match decides.
    pub rules: Vec<Arc<Rule>>,
}

/// What the policy says of one tag.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// Mutable by specification: passed through, not even recorded.
    Exempt,
    /// No rule matches: as `record`, without a rule.
    Unmatched,
    /// The first rule that matches.
    Ruled(&'a Arc<Rule>),
}

impl Policy {
    /// The rule that decides for `key`: the first that matches.
    pub fn decide(&self, key: &PinKey) -> Decision<'_> {
        let referrers = key.tag.is_referrers();
        let matches =
            |rule: &&Arc<Rule>| (!referrers || rule.include_referrers) && rule.matcher.matches(key);
        match self.rules.iter().find(matches) {
            Some(rule) => Decision::Ruled(rule),
            None if referrers => Decision::Exempt,
            None => Decision::Unmatched,
        }
    }
}
