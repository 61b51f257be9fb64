//! `[[rule]]`.

use std::sync::Arc;
use std::time::Duration;

use super::Report;
use crate::config::problem::KeyPath;
use crate::config::raw::{RawRule, RawTag, RawVersion};
use crate::policy::builtin::{DEFAULT_RECHECK, builtin_rules};
use crate::policy::matcher::{Matcher, MatcherError, TagMatcher};
use crate::policy::{Policy, Reaction, Rule};

/// The user's rules, and the built-in ones after them.
pub(super) fn resolve(raw: Vec<RawRule>, with_builtin: bool, report: &mut Report<'_>) -> Policy {
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let path = KeyPath::new("rule").at(index);
        let Some(rule) = resolve_rule(&raw, index, &path, report) else { continue };
        if let Some(earlier) = rules.iter().find(|earlier| shadows(earlier, &rule)) {
            let message = format!(
                "it never decides: {} comes first and matches every tag that it does; put it \
                 before that rule, or take one of them out",
                earlier.name
            );
            report.add(&path, message);
        }
        rules.push(Arc::new(rule));
    }
    if with_builtin {
        rules.extend(builtin_rules());
    }
    Policy { rules }
}

fn resolve_rule(
    raw: &RawRule,
    index: usize,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Option<Rule> {
    let Some(reaction) = raw.on_conflict else {
        let message = "it is missing: what happens on a conflict is \"record\", \"alert\", \
                       \"hold\" or \"block\"";
        report.add(&path.key("on-conflict"), message);
        return None;
    };
    check_times(raw, reaction, path, report);
    let matcher = matcher(raw, path, report)?;
    let place = report.short_place(path).map_or_else(String::new, |place| format!(" ({place})"));
    Some(Rule {
        name: format!("rule {}{place}", index + 1),
        matcher,
        reaction,
        accept_after: raw.accept_after.map(|span| span.0),
        min_age: raw.min_age.map_or(Duration::ZERO, |span| span.0),
        settle: raw.settle.map_or(Duration::ZERO, |span| span.0),
        recheck: raw.recheck.map_or(DEFAULT_RECHECK, |span| span.0),
        include_referrers: raw.include_referrers.unwrap_or(false),
        is_exact: false,
    })
}

fn check_times(raw: &RawRule, reaction: Reaction, path: &KeyPath, report: &mut Report<'_>) {
    match raw.accept_after {
        Some(_) if reaction != Reaction::Hold => {
            let message = format!(
                "only on-conflict = \"hold\" waits before it follows; this rule says \"{}\"",
                reaction.name()
            );
            report.add(&path.key("accept-after"), message);
        }
        Some(span) if span.0.is_zero() => {
            let message = "0 would follow at once, without an alert: leave it out (never follow), \
                           or say on-conflict = \"alert\"";
            report.add(&path.key("accept-after"), message);
        }
        _ => {}
    }
    let times = [("min-age", raw.min_age), ("settle", raw.settle), ("recheck", raw.recheck)];
    for (key, value) in times {
        if value.is_some() && reaction == Reaction::Record {
            let message = "it does nothing under on-conflict = \"record\", which keeps no pin and \
                           asks the upstream each time: take it out";
            report.add(&path.key(key), message);
        }
    }
}

fn matcher(raw: &RawRule, path: &KeyPath, report: &mut Report<'_>) -> Option<Matcher> {
    let tag = match &raw.tag {
        None => TagMatcher::Any,
        Some(raw) => tag_matcher(raw, &path.key("tag"), report)?,
    };
    if report.knows(&path.key("tag")) {
        return None;
    }
    let registry = raw.registry.as_deref().unwrap_or("*");
    let repository = raw.repository.as_deref().unwrap_or("**");
    // One at a time, so that each problem has its own key.
    let registry_is_right =
        told(Matcher::new(registry, "**", tag.clone()), "registry", path, report);
    let repository_is_right =
        told(Matcher::new("*", repository, tag.clone()), "repository", path, report);
    if !(registry_is_right && repository_is_right) {
        return None;
    }
    Matcher::new(registry, repository, tag).ok()
}

fn told(
    result: Result<Matcher, MatcherError>,
    key: &str,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> bool {
    result.map_err(|error| report.add(&path.key(key), error.to_string())).is_ok()
}

fn tag_matcher(raw: &RawTag, path: &KeyPath, report: &mut Report<'_>) -> Option<TagMatcher> {
    let (key, matcher) = match raw {
        RawTag { version: Some(version), glob: None, regex: None, suffix: None } => {
            return Some(match version {
                RawVersion::Full => TagMatcher::FullVersion,
                RawVersion::Partial => TagMatcher::PartialVersion,
            });
        }
        RawTag { version: None, glob: Some(glob), regex: None, suffix: None } => {
            ("glob", TagMatcher::glob(glob))
        }
        RawTag { version: None, glob: None, regex: Some(regex), suffix: None } => {
            ("regex", TagMatcher::regex(regex))
        }
        RawTag { version: None, glob: None, regex: None, suffix: Some(suffixes) } => {
            if suffixes.is_empty() || suffixes.iter().any(String::is_empty) {
                report.add(&path.key("suffix"), "give one ending or more, none of them empty");
                return None;
            }
            return Some(TagMatcher::Suffix(suffixes.clone()));
        }
        _ => {
            let message = "give exactly one of version, glob, regex and suffix; for every tag, \
                           leave tag out";
            let has_wrong_key = ["version", "glob", "regex", "suffix"]
                .iter()
                .any(|key| report.knows(&path.key(key)));
            if !has_wrong_key {
                report.add(path, message);
            }
            return None;
        }
    };
    matcher.map_err(|error| report.add(&path.key(key), error.to_string())).ok()
}

fn shadows(earlier: &Rule, later: &Rule) -> bool {
    earlier.matcher.covers(&later.matcher)
        && (earlier.include_referrers || !later.include_referrers)
}
