//! The rules that come after the user's (design, section 3, "Built-in rules").

use std::sync::Arc;
use std::time::Duration;

use super::matcher::{Matcher, TagMatcher};
use super::rule::{Reaction, Rule};

/// How old an upstream's answer may be, where a rule does not say.
pub const DEFAULT_RECHECK: Duration = Duration::from_mins(1);

/// How long another digest must stand before a built-in `hold` follows it.
const ACCEPT_AFTER: Duration = Duration::from_hours(7 * 24);

/// How long an index may gain platforms under a built-in `hold`: multi-platform builds of one
/// release are often pushed over hours.
const SETTLE: Duration = Duration::from_hours(24);

/// The convention of distribution-spec PR #320: the publisher says that the tag never moves.
const IMMUTABLE_SUFFIXES: [&str; 3] = ["-immutable", "_immutable", ".immutable"];

/// Repositories whose full-version tags are pushed again as a matter of course, as pairs of globs
/// for registry and repository. A tag that moves there is news (alert), no attack by itself.
pub const REBUILT_REPOSITORIES: [(&str, &str); 15] = [
    // Docker's official images: each tag is rebuilt when its base image or a package changes.
    ("docker.io", "library/*"),
    // The same images, mirrored by AWS.
    ("public.ecr.aws", "docker/library/*"),
    // The same images, as their own publisher pushes them per architecture.
    ("docker.io", "{amd64,arm32v5,arm32v6,arm32v7,arm64v8,i386,ppc64le,riscv64,s390x}/*"),
    // Bitnami: `1.2.3` is a rolling tag; only `1.2.3-debian-12-rN` stays, and the form does not
    // tell them apart.
    ("docker.io", "bitnami/*"),
    ("docker.io", "bitnamilegacy/*"),
    ("public.ecr.aws", "bitnami/*"),
    // CircleCI's images: version tags get new base packages.
    ("docker.io", "circleci/*"),
    ("docker.io", "cimg/*"),
    // Microsoft's .NET: version tags are refreshed whenever their base image is.
    ("mcr.microsoft.com", "dotnet/**"),
    // Red Hat: `8.10` and `1.2.3` name a stream; only `version-release` tags stay.
    ("registry.access.redhat.com", "**"),
    ("registry.redhat.io", "**"),
    // Chainguard: rebuilt nightly, under the same version tags.
    ("cgr.dev", "**"),
    // LinuxServer.io: `version-1.2.3` and `1.2.3` follow weekly base rebuilds.
    ("lscr.io", "linuxserver/*"),
    ("docker.io", "linuxserver/*"),
    ("ghcr.io", "linuxserver/*"),
];

/// The built-in rules, in order.
///
/// # Panics
/// Never: a test reads the shipped globs.
pub fn builtin_rules() -> Vec<Arc<Rule>> {
    let suffixes = IMMUTABLE_SUFFIXES.map(str::to_owned).to_vec();
    let rebuilt = Matcher::any_of(&REBUILT_REPOSITORIES, TagMatcher::FullVersion)
        .expect("the shipped globs are tested");
    let hold_for_a_week = |name, tag| Rule {
        accept_after: Some(ACCEPT_AFTER),
        min_age: Duration::ZERO,
        settle: SETTLE,
        ..rule(name, Matcher::everywhere(tag), Reaction::Hold)
    };
    let rules = vec![
        rule("immutable-suffix", Matcher::everywhere(TagMatcher::Suffix(suffixes)), Reaction::Hold),
        rule("rebuilt-repositories", rebuilt, Reaction::Alert),
        hold_for_a_week("full-version", TagMatcher::FullVersion),
        hold_for_a_week("commit-id", TagMatcher::CommitId),
        hold_for_a_week("build-date", TagMatcher::BuildDate),
        rule("record", Matcher::everywhere(TagMatcher::Any), Reaction::Record),
    ];
    rules.into_iter().map(Arc::new).collect()
}

fn rule(name: &str, matcher: Matcher, reaction: Reaction) -> Rule {
    Rule {
        name: format!("built-in {name}"),
        matcher,
        reaction,
        accept_after: None,
        min_age: Duration::ZERO,
        settle: Duration::ZERO,
        recheck: DEFAULT_RECHECK,
        include_referrers: false,
        is_exact: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::PinKey;
    use crate::policy::{Decision, Policy};

    fn decide(policy: &Policy, repository: &str, tag: &str) -> (String, Reaction) {
        let (registry, repository) = repository.split_once('/').unwrap();
        let key = PinKey {
            registry: registry.parse().unwrap(),
            repository: repository.parse().unwrap(),
            tag: tag.parse().unwrap(),
        };
        match policy.decide(&key) {
            Decision::Ruled(rule) => (rule.name.clone(), rule.reaction),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn each_form_of_tag_meets_its_rule() {
        let policy = Policy { rules: builtin_rules() };
        let sha = "0123456789abcdef0123456789abcdef01234567";
        for (repository, tag, name, reaction) in [
            ("docker.io/library/alpine", "3.20.1", "rebuilt-repositories", Reaction::Alert),
            ("docker.io/library/alpine", "3.20.1-immutable", "immutable-suffix", Reaction::Hold),
            ("docker.io/library/alpine", "3.20", "record", Reaction::Record),
            ("docker.io/library/alpine", "20250108", "build-date", Reaction::Hold),
            ("docker.io/arm64v8/alpine", "3.20.1", "rebuilt-repositories", Reaction::Alert),
            ("docker.io/acme/alpine", "3.20.1", "full-version", Reaction::Hold),
            ("docker.io/acme/alpine", "3.20.1-nightly", "record", Reaction::Record),
            ("mcr.microsoft.com/dotnet/sdk", "8.0.100", "rebuilt-repositories", Reaction::Alert),
            ("mcr.microsoft.com/oss/x/y", "8.0.100", "full-version", Reaction::Hold),
            ("cgr.dev/chainguard/python", "3.13.1", "rebuilt-repositories", Reaction::Alert),
            ("ghcr.io/acme/x", "sha-abcdef0", "commit-id", Reaction::Hold),
            ("ghcr.io/acme/x", sha, "commit-id", Reaction::Hold),
            ("ghcr.io/acme/x", "2025-01-31", "build-date", Reaction::Hold),
            ("ghcr.io/acme/x", "x_immutable", "immutable-suffix", Reaction::Hold),
            ("ghcr.io/acme/x", "x.immutable", "immutable-suffix", Reaction::Hold),
            ("ghcr.io/acme/x", "main", "record", Reaction::Record),
        ] {
            let expected = (format!("built-in {name}"), reaction);
            assert_eq!(decide(&policy, repository, tag), expected, "{repository}:{tag}");
        }
    }

    #[test]
    fn the_seven_tags_of_the_attack_of_2026_04_22_are_held_or_recorded() {
        let policy = Policy { rules: builtin_rules() };
        for (tag, reaction) in [
            ("latest", Reaction::Record),
            ("alpine", Reaction::Record),
            ("debian", Reaction::Record),
            ("v2.1.20", Reaction::Hold),
            ("v2.1.20-debian", Reaction::Hold),
            ("v2.1.21", Reaction::Hold),
            ("v2.1.21-debian", Reaction::Hold),
        ] {
            assert_eq!(decide(&policy, "docker.io/acme/scanner", tag).1, reaction, "{tag}");
        }
    }

    #[test]
    fn held_versions_follow_after_a_week_and_promised_ones_never() {
        let rules = builtin_rules();
        let times: Vec<_> = rules.iter().map(|rule| (rule.accept_after, rule.settle)).collect();
        let week = (Some(Duration::from_hours(168)), Duration::from_hours(24));
        let none = (None, Duration::ZERO);
        assert_eq!(times, [none, none, week, week, week, none]);
        assert!(rules.iter().all(|rule| rule.recheck == Duration::from_mins(1)));
    }
}
