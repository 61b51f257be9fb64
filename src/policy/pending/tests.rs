use std::time::Duration;

use super::*;
use crate::event::Draft;
use crate::oci::manifest::fixtures;
use crate::oci::{ComputedDigest, Digest, Manifest, ManifestKind};
use crate::pin::{Content, PinKey, Provenance};
use crate::policy::matcher::{Matcher, TagMatcher};
use crate::policy::{Reaction, judge};

const HOUR: u64 = 3_600_000;

/// A tag under `min-age = "1d"`, driven by what the upstream answers.
struct Tag {
    rule: Rule,
    state: TagState,
    now_ms: u64,
    revoked: Vec<Digest>,
}

impl Tag {
    fn new(reaction: Reaction) -> Self {
        let rule = Rule {
            name: "rule 1".into(),
            matcher: Matcher::everywhere(TagMatcher::Any),
            reaction,
            accept_after: None,
            min_age: Duration::from_hours(24),
            settle: Duration::ZERO,
            recheck: Duration::ZERO,
            include_referrers: false,
            is_exact: false,
        };
        Self { rule, state: TagState::default(), now_ms: 1_000_000, revoked: Vec::new() }
    }

    /// So many hours later the upstream answers the image with this number.
    fn see(&mut self, hours: u64, number: u32) -> (Option<EventKind>, Serve) {
        self.now_ms += hours * HOUR;
        let (content, manifest) = image(number);
        let is_revoked = self.revoked.contains(&content.digest);
        let sight = Sight {
            content: &content,
            manifest: &manifest,
            pinned: None,
            is_revoked,
            sure_ms: self.now_ms,
        };
        let judged = judge(&self.rule, &self.state, &sight, self.now_ms);
        if let Some(kind) = judged.event {
            self.write(kind, Some(content));
        }
        (judged.event, judged.serve)
    }

    fn write(&mut self, kind: EventKind, observed: Option<Content>) {
        let key = PinKey {
            registry: "docker.io".parse().unwrap(),
            repository: "library/alpine".parse().unwrap(),
            tag: "3.19.1".parse().unwrap(),
        };
        let provenance = Some(Provenance::FirstSeen);
        let draft = Draft { observed, provenance, ..Draft::new(kind, Some(key)) };
        self.state.apply(&draft.at(self.state.sequence + 1, self.now_ms));
    }
}

fn image(number: u32) -> (Content, Manifest) {
    let bytes = fixtures::image_json().replace("42", &format!("{}", 1000 + number));
    let manifest = Manifest::parse(bytes.as_bytes(), None).unwrap();
    let content = Content {
        digest: ComputedDigest::of(bytes.as_bytes(), None).digest(),
        media_type: ManifestKind::OciManifest.into(),
        size_bytes: bytes.len() as u64,
    };
    (content, manifest)
}

const WAITS: (Option<EventKind>, Serve) = (None, Serve::Refusal);
const BEGINS: (Option<EventKind>, Serve) = (Some(EventKind::Pending), Serve::Refusal);
const PINNED: (Option<EventKind>, Serve) = (Some(EventKind::Pinned), Serve::Observed);

#[test]
fn a_new_tag_is_refused_until_it_has_stood_for_min_age_under_every_reaction() {
    for reaction in [Reaction::Alert, Reaction::Hold, Reaction::Block] {
        let mut tag = Tag::new(reaction);
        assert_eq!(tag.see(0, 1), BEGINS);
        assert_eq!(tag.see(1, 1), WAITS);
        assert_eq!(tag.see(22, 1), WAITS);
        assert_eq!(tag.see(1, 1), PINNED);
        assert!(tag.state.pending.is_none());
    }
}

#[test]
fn another_digest_begins_anew_and_so_does_the_first_one_when_it_is_back() {
    let mut tag = Tag::new(Reaction::Hold);
    assert_eq!(tag.see(0, 1), BEGINS);
    assert_eq!(tag.see(23, 2), BEGINS);
    assert_eq!(tag.see(23, 2), WAITS);
    assert_eq!(tag.see(0, 1), BEGINS, "it did not stand at every ask");
    assert_eq!(tag.see(23, 1), WAITS);
    assert_eq!(tag.see(1, 1), PINNED);
}

#[test]
fn a_revoked_or_rejected_digest_never_passes_and_ends_the_time_of_the_one_before() {
    let mut tag = Tag::new(Reaction::Hold);
    tag.revoked.push(image(2).0.digest);
    assert_eq!(tag.see(0, 2), WAITS, "nothing waits for it");
    assert!(tag.state.pending.is_none());
    assert_eq!(tag.see(0, 1), BEGINS);
    assert_eq!(tag.see(12, 2), BEGINS);
    assert_eq!(tag.see(48, 2), WAITS);
    assert_eq!(tag.see(0, 1), BEGINS);
    assert_eq!(tag.see(23, 1), WAITS, "the hours before do not count");
    let content = image(1).0;
    tag.write(EventKind::Rejected, Some(content));
    assert_eq!(tag.see(48, 1), WAITS);
}

#[test]
fn a_deletion_begins_anew_and_a_decision_ends_the_waiting() {
    let mut tag = Tag::new(Reaction::Hold);
    assert_eq!(tag.see(0, 1), BEGINS);
    tag.write(EventKind::Deleted, None);
    assert_eq!(tag.see(23, 1), BEGINS);
    assert_eq!(tag.state.deleted_ms, None);
    assert_eq!(tag.see(2, 1), WAITS);
    tag.write(EventKind::Approved, Some(image(1).0));
    assert_eq!(tag.see(0, 1), (None, Serve::Pinned));
}

#[test]
fn a_rule_that_wants_no_age_any_more_pins_at_once() {
    let mut tag = Tag::new(Reaction::Hold);
    assert_eq!(tag.see(0, 1), BEGINS);
    tag.rule.min_age = Duration::ZERO;
    assert_eq!(tag.see(0, 2), PINNED);
}
