//! Says in words what the rules are, and why one of them decides for a tag.

use std::fmt;
use std::sync::Arc;

use super::builtin::DEFAULT_RECHECK;
use super::matcher::{Matcher, Mismatch, TagMatcher};
use super::rule::{Decision, Policy, Reaction, Rule};
use super::tag_form::{VersionForm, is_build_date, version_form};
use crate::pin::PinKey;
use crate::units::Span;

/// Why a tag is decided as it is: each rule until the one that decides.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// The tag.
    pub key: PinKey,
    /// The rules that were asked before the decision, with the first condition that failed.
    pub passed: Vec<Passed<'a>>,
    /// What decides.
    pub decision: Decision<'a>,
}

/// A rule that does not decide.
#[derive(Clone, Debug)]
pub struct Passed<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Why not, in words.
    pub why: String,
}

/// One line per rule, in the order in which they are asked:
/// `rule 1 (immutag.toml:12): docker.io/library/*, any tag → hold, follows after 7d`.
pub fn describe(policy: &Policy) -> Vec<String> {
    let line = |rule: &Arc<Rule>| format!("{}: {} → {}", rule.name, rule.matcher, effect(rule));
    policy.rules.iter().map(line).collect()
}

/// Says why `key` is decided as it is.
pub fn explain<'a>(policy: &'a Policy, key: &PinKey) -> Explanation<'a> {
    let decision = policy.decide(key);
    let asked = policy
        .rules
        .iter()
        .take_while(|rule| !matches!(decision, Decision::Ruled(ruled) if Arc::ptr_eq(ruled, rule)));
    let passed = asked.map(|rule| Passed { rule, why: why_not(rule, key) }).collect();
    Explanation { key: key.clone(), passed, decision }
}

/// What a rule does: `hold, follows after 7d, an index may grow for 1d, asked again after 5m`.
pub fn effect(rule: &Rule) -> String {
    let mut parts = vec![rule.reaction.name().to_owned()];
    match rule.accept_after {
        Some(time) => parts.push(format!("follows after {}", Span(time))),
        None if rule.reaction == Reaction::Hold => parts.push("never follows".to_owned()),
        None => {}
    }
    if !rule.min_age.is_zero() {
        parts.push(format!("a new tag waits for {}", Span(rule.min_age)));
    }
    if !rule.settle.is_zero() {
        parts.push(format!("an index may grow for {}", Span(rule.settle)));
    }
    if rule.reaction.is_covered() && rule.recheck != DEFAULT_RECHECK {
        parts.push(format!("asked again after {}", Span(rule.recheck)));
    }
    if rule.include_referrers {
        parts.push("referrers' tags too".to_owned());
    }
    parts.join(", ")
}

impl Explanation<'_> {
    /// The decision and its reason, in one sentence.
    pub fn verdict(&self) -> String {
        match self.decision {
            Decision::Exempt => {
                "exempt: a referrers' tag is mutable by specification, and no rule with \
                 include-referrers matches"
                    .to_owned()
            }
            Decision::Unmatched => "record: no rule matches".to_owned(),
            Decision::Ruled(rule) => {
                format!("{} decides: {} → {}", rule.name, why(rule, &self.key), effect(rule))
            }
        }
    }
}

impl fmt::Display for Explanation<'_> {
    /// The tag, a line per rule that was asked, and the decision.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.key)?;
        for Passed { rule, why } in &self.passed {
            writeln!(f, "  {} does not match: {why}", rule.name)?;
        }
        write!(f, "  {}", self.verdict())
    }
}

fn why(rule: &Rule, key: &PinKey) -> String {
    let place = rule.matcher.places();
    let tag = &key.tag;
    match rule.matcher.tag() {
        TagMatcher::Any => format!("{place}, any tag"),
        TagMatcher::BuildDate => format!("{place}, \"{tag}\" holds a build date"),
        TagMatcher::CommitId => format!("{place}, \"{tag}\" is a commit id"),
        TagMatcher::FullVersion => format!("{place}, \"{tag}\" is a full version"),
        TagMatcher::PartialVersion => format!("{place}, \"{tag}\" is a partial version"),
        other => format!("{place}, \"{tag}\" is among {other}"),
    }
}

fn why_not(rule: &Rule, key: &PinKey) -> String {
    match rule.matcher.mismatch(key) {
        None => "a referrers' tag is mutable by specification, and this rule has no \
                 include-referrers"
            .to_owned(),
        Some(Mismatch::Registry) => {
            format!("registry {} is not in {}", key.registry, rule.matcher.places())
        }
        Some(Mismatch::Repository) => {
            format!("repository {} is not in {}", key.repository, rule.matcher.places())
        }
        Some(Mismatch::Tag) => why_not_tag(&rule.matcher, key.tag.as_str()),
    }
}

fn why_not_tag(matcher: &Matcher, tag: &str) -> String {
    let reason = match (matcher.tag(), version_form(tag)) {
        (TagMatcher::FullVersion, VersionForm::Moving(word)) => {
            format!("is no full version: the word \"{word}\" moves by custom")
        }
        (TagMatcher::FullVersion, VersionForm::Partial) => {
            "is a partial version: a full one has three numbers".to_owned()
        }
        (TagMatcher::FullVersion, _) => "is no full version".to_owned(),
        (TagMatcher::PartialVersion, VersionForm::Full | VersionForm::Moving(_)) => {
            "is no partial version: it has three numbers".to_owned()
        }
        (TagMatcher::PartialVersion, _) if is_build_date(tag) => {
            "is a build date, no partial version".to_owned()
        }
        (TagMatcher::PartialVersion, _) => "is no partial version".to_owned(),
        (TagMatcher::CommitId, _) => "is no commit id".to_owned(),
        (TagMatcher::BuildDate, _) => "holds no build date".to_owned(),
        (other, _) => format!("is not among {other}"),
    };
    format!("\"{tag}\" {reason}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::builtin::builtin_rules;

    fn policy() -> Policy {
        let matcher =
            Matcher::new("docker.io", "library/*", TagMatcher::glob("*-slim").unwrap()).unwrap();
        let rule = Rule {
            name: "rule 1 (immutag.toml:12)".into(),
            matcher,
            reaction: Reaction::Hold,
            accept_after: Some(Duration::from_hours(72)),
            min_age: Duration::from_hours(48),
            settle: Duration::ZERO,
            recheck: Duration::from_mins(5),
            include_referrers: false,
            is_exact: false,
        };
        Policy { rules: [vec![Arc::new(rule)], builtin_rules()].concat() }
    }

    fn explained(repository: &str, tag: &str) -> String {
        let key = PinKey {
            registry: "docker.io".parse().unwrap(),
            repository: repository.parse().unwrap(),
            tag: tag.parse().unwrap(),
        };
        explain(&policy(), &key).to_string()
    }

    #[test]
    fn each_rule_is_one_line() {
        let expected = "\
rule 1 (immutag.toml:12): docker.io/library/*, tags like *-slim → hold, follows after 3d, \
a new tag waits for 2d, asked again after 5m
built-in immutable-suffix: everywhere, tags that end in -immutable or _immutable or .immutable \
→ hold, never follows
built-in rebuilt-repositories: the 15 listed groups of repositories, full versions → alert
built-in full-version: everywhere, full versions → hold, follows after 7d, an index may grow for 1d
built-in commit-id: everywhere, commit ids → hold, follows after 7d, an index may grow for 1d
built-in build-date: everywhere, build dates → hold, follows after 7d, an index may grow for 1d
built-in record: everywhere, any tag → record";
        assert_eq!(describe(&policy()).join("\n"), expected);
    }

    #[test]
    fn the_deciding_rule_and_why_the_earlier_ones_do_not_are_told() {
        assert_eq!(
            explained("library/alpine", "3.19-slim"),
            "docker.io/library/alpine:3.19-slim\n  rule 1 (immutag.toml:12) decides: \
             docker.io/library/*, \"3.19-slim\" is among tags like *-slim → hold, follows after \
             3d, a new tag waits for 2d, asked again after 5m"
        );
        let expected = "\
docker.io/acme/scanner:1.2.3-nightly
  rule 1 (immutag.toml:12) does not match: repository acme/scanner is not in docker.io/library/*
  built-in immutable-suffix does not match: \"1.2.3-nightly\" is not among tags that end in \
-immutable or _immutable or .immutable
  built-in rebuilt-repositories does not match: repository acme/scanner is not in the 15 listed \
groups of repositories
  built-in full-version does not match: \"1.2.3-nightly\" is no full version: the word \"nightly\" \
moves by custom
  built-in commit-id does not match: \"1.2.3-nightly\" is no commit id
  built-in build-date does not match: \"1.2.3-nightly\" holds no build date
  built-in record decides: everywhere, any tag → record";
        assert_eq!(explained("acme/scanner", "1.2.3-nightly"), expected);
        let dated = explained("acme/scanner", "2025-01-31");
        assert!(dated.contains("built-in build-date decides: everywhere, \"2025-01-31\" holds a"));
    }

    #[test]
    fn a_referrers_tag_is_told_to_be_exempt() {
        let text = explained("library/alpine", &format!("sha256-{}", "0".repeat(64)));
        assert!(text.contains("exempt: a referrers' tag is mutable"), "{text}");
        assert!(text.contains("this rule has no include-referrers"), "{text}");
    }
}
