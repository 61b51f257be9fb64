use proptest::prelude::*;

use super::*;

fn key(text: &str) -> PinKey {
    let (rest, tag) = text.rsplit_once(':').unwrap();
    let (registry, repository) = rest.split_once('/').unwrap();
    PinKey {
        registry: registry.parse().unwrap(),
        repository: repository.parse().unwrap(),
        tag: tag.parse().unwrap(),
    }
}

#[test]
fn a_star_stays_in_its_component_and_two_cross_it() {
    for (registry, repository, reference, matches) in [
        ("*", "**", "ghcr.io/a/b/c:1", true),
        ("*", "*", "ghcr.io/a:1", true),
        ("*", "*", "ghcr.io/a/b:1", false),
        ("*", "a/**", "ghcr.io/a/b/c:1", true),
        ("*", "a/**", "ghcr.io/a:1", false),
        ("*", "**/c", "ghcr.io/a/b/c:1", true),
        ("*", "a/{b,c}", "ghcr.io/a/c:1", true),
        ("*.gcr.io", "**", "eu.gcr.io/a:1", true),
        ("*.gcr.io", "**", "gcr.io/a:1", false),
        ("GHCR.io", "a", "ghcr.io/a:1", true),
        ("localhost:*", "a", "localhost:5000/a:1", true),
        ("[::1]:5000", "a", "[::1]:5000/a:1", true),
    ] {
        let matcher = Matcher::new(registry, repository, TagMatcher::Any).unwrap();
        assert_eq!(
            matcher.matches(&key(reference)),
            matches,
            "{registry} {repository} {reference}"
        );
    }
}

#[test]
fn docker_hub_is_written_in_its_own_ways() {
    for (registry, repository, reference) in [
        ("index.docker.io", "library/alpine", "docker.io/library/alpine:1"),
        ("docker.io", "alpine", "docker.io/library/alpine:1"),
        ("docker.io", "*", "docker.io/library/alpine:1"),
        ("docker.io", "**", "docker.io/acme/scanner:1"),
    ] {
        let matcher = Matcher::new(registry, repository, TagMatcher::Any).unwrap();
        assert!(matcher.matches(&key(reference)), "{registry} {repository} {reference}");
    }
}

#[test]
fn a_regex_matches_the_whole_tag() {
    let regex = |text| TagMatcher::regex(text).unwrap();
    assert!(regex("a|ab").matches("ab"));
    assert!(!regex("a").matches("ab"));
    assert!(!regex("b").matches("ab"));
    assert!(regex(r"v\d+").matches("v17"));
    assert!(!regex("^a$").matches("a\n"));
    for text in ["a)|(?:b", "(", "(?x)a # comment"] {
        assert!(matches!(TagMatcher::regex(text), Err(MatcherError::SpoilsRegex(..))), "{text}");
    }
    assert_eq!(TagMatcher::regex(r"(\w{100}){100}").unwrap_err(), MatcherError::TooLarge);
}

#[test]
fn tags_match_by_form_glob_and_suffix() {
    let suffix = TagMatcher::Suffix(vec!["-prod".into(), ".lts".into()]);
    for (matcher, tag, matches) in [
        (TagMatcher::FullVersion, "1.2.3", true),
        (TagMatcher::FullVersion, "1.2", false),
        (TagMatcher::PartialVersion, "1.2", true),
        (TagMatcher::PartialVersion, "1.2.3", false),
        (TagMatcher::glob("*-slim").unwrap(), "x-slim", true),
        (TagMatcher::glob("*-slim").unwrap(), "x-slim-1", false),
        (TagMatcher::glob("stable").unwrap(), "stable", true),
        (suffix.clone(), "a-prod", true),
        (suffix.clone(), "a.lts", true),
        (suffix, "a-prod-1", false),
    ] {
        assert_eq!(matcher.matches(tag), matches, "{matcher} {tag}");
    }
}

#[test]
fn a_mismatch_names_the_first_condition_that_fails() {
    let matcher = Matcher::any_of(
        &[("docker.io", "library/*"), ("ghcr.io", "acme/**")],
        TagMatcher::FullVersion,
    )
    .unwrap();
    for (reference, mismatch) in [
        ("docker.io/library/a:1.2.3", None),
        ("ghcr.io/acme/a/b:1.2.3", None),
        ("quay.io/acme/a:1.2.3", Some(Mismatch::Registry)),
        ("ghcr.io/library/a:1.2.3", Some(Mismatch::Repository)),
        ("ghcr.io/acme/a:1.2", Some(Mismatch::Tag)),
    ] {
        assert_eq!(matcher.mismatch(&key(reference)), mismatch, "{reference}");
        assert_eq!(matcher.matches(&key(reference)), mismatch.is_none(), "{reference}");
    }
}

#[test]
fn a_matcher_covers_what_it_certainly_matches() {
    let matcher = |registry, repository, tag| Matcher::new(registry, repository, tag).unwrap();
    let any = || TagMatcher::Any;
    let hub = matcher("docker.io", "library/*", any());
    assert!(Matcher::default().covers(&hub));
    assert!(!hub.covers(&Matcher::default()));
    assert!(hub.covers(&matcher("index.docker.io", "alpine", TagMatcher::FullVersion)));
    assert!(!hub.covers(&matcher("docker.io", "acme/*", any())));
    assert!(hub.covers(&hub));
    let full = matcher("*", "**", TagMatcher::FullVersion);
    assert!(full.covers(&matcher("*", "**", TagMatcher::glob("1.2.3").unwrap())));
    assert!(!full.covers(&matcher("*", "**", TagMatcher::glob("1.2.*").unwrap())));
}

#[test]
fn globs_that_are_none_are_refused_with_their_text() {
    for glob in ["", "a[", "{a"] {
        let error = Matcher::new("*", glob, TagMatcher::Any).unwrap_err();
        assert!(matches!(error, MatcherError::SpoilsGlob(..)), "{error}");
    }
    let error = Matcher::new("docker.io.", "**", TagMatcher::Any).unwrap_err();
    assert!(matches!(error, MatcherError::SpoilsRegistry(..)), "{error}");
}

proptest! {
    #[test]
    fn no_pattern_and_no_tag_panics(
        pattern in ".{0,40}",
        glob in r"[a-z*?/{},\[\]\\!]{0,20}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}",
    ) {
        let key = key(&format!("docker.io/library/alpine:{tag}"));
        for text in [&pattern, &glob] {
            let _ = TagMatcher::regex(text).map(|matcher| matcher.matches(&tag));
            let _ = TagMatcher::glob(text).map(|matcher| matcher.matches(&tag));
            let matcher = Matcher::new(text, text, TagMatcher::Any);
            let _ = matcher.map(|matcher| matcher.mismatch(&key));
        }
    }
}
