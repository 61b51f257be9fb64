use super::*;
use crate::event::{Draft, Event};
use crate::oci::manifest::fixtures;
use crate::oci::{ComputedDigest, Digest, ManifestKind, MediaType};
use crate::pin::{PinKey, Provenance};
use crate::policy::matcher::Matcher;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn rule(reaction: Reaction) -> Rule {
    Rule {
        name: "rule 1".into(),
        matcher: Matcher::everywhere(crate::policy::matcher::TagMatcher::Any),
        reaction,
        accept_after: None,
        min_age: Duration::ZERO,
        settle: Duration::ZERO,
        recheck: Duration::from_mins(1),
        include_referrers: false,
        is_exact: false,
    }
}

/// Some content: its manifest, and what a sight of it says.
struct Thing {
    content: Content,
    manifest: Manifest,
}

fn thing(bytes: &[u8]) -> Thing {
    let manifest = Manifest::parse(bytes, None).unwrap();
    let content = Content {
        digest: ComputedDigest::of(bytes, None).digest(),
        media_type: MediaType::from(manifest.kind),
        size_bytes: bytes.len() as u64,
    };
    Thing { content, manifest }
}

/// An image that only its `number` tells from others.
fn image(number: u32) -> Thing {
    thing(fixtures::image_json().replace("42", &format!("{}", 1000 + number)).as_bytes())
}

/// A tag's history under one rule, driven by what the upstream answers.
struct Tag {
    rule: Rule,
    state: TagState,
    now_ms: u64,
    revoked: Vec<Digest>,
}

impl Tag {
    fn under(rule: Rule) -> Self {
        Self { rule, state: TagState::default(), now_ms: 1_000_000, revoked: Vec::new() }
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.now_ms += ms;
        self
    }

    /// Judges `observed` beside the pinned index `pinned` and writes the event down.
    fn sees_beside(&mut self, observed: &Thing, pinned: Option<&Thing>) -> Judgement {
        let sight = Sight {
            content: &observed.content,
            manifest: &observed.manifest,
            pinned: pinned.map(|pinned| &pinned.manifest),
            is_revoked: self.revoked.contains(&observed.content.digest),
            sure_ms: self.now_ms,
        };
        let judgement = judge(&self.rule, &self.state, &sight, self.now_ms);
        if let Some(kind) = judgement.event {
            self.write(kind, Some(observed));
        }
        judgement
    }

    fn sees(&mut self, observed: &Thing) -> (Verdict, Option<EventKind>, Serve) {
        let judgement = self.sees_beside(observed, None);
        (judgement.verdict, judgement.event, judgement.serve)
    }

    fn write(&mut self, kind: EventKind, observed: Option<&Thing>) {
        let event: Event = Draft {
            pinned: self.state.standing().map(|pin| pin.content.digest),
            observed: observed.map(|thing| thing.content.clone()),
            provenance: Some(Provenance::FirstSeen),
            count: u64::from(!is_unwatched(&self.state, self.now_ms)),
            ..Draft::new(kind, None::<PinKey>)
        }
        .at(self.state.sequence + 1, self.now_ms);
        self.state.apply(&event);
    }

    /// It is seen each day, and held.
    fn stands(&mut self, days: u64, observed: &Thing) {
        for _ in 0..days {
            assert_eq!(self.wait(DAY).sees(observed).2, Serve::Pinned);
        }
    }

    fn pinned(&self) -> Digest {
        self.state.pin.as_ref().unwrap().content.digest
    }
}

#[test]
fn the_first_sight_is_pinned_and_the_same_again_writes_nothing() {
    for reaction in [Reaction::Alert, Reaction::Hold, Reaction::Block] {
        let mut tag = Tag::under(rule(reaction));
        let a = image(1);
        assert_eq!(tag.sees(&a), (Verdict::Pin, Some(EventKind::Pinned), Serve::Observed));
        assert_eq!(tag.sees(&a), (Verdict::Match, None, Serve::Pinned));
        assert_eq!(tag.pinned(), a.content.digest);
    }
}

#[test]
fn each_reaction_serves_its_own_answer_to_a_conflict() {
    let (a, b) = (image(1), image(2));
    for (reaction, serve) in [
        (Reaction::Alert, Serve::Observed),
        (Reaction::Hold, Serve::Pinned),
        (Reaction::Block, Serve::Refusal),
    ] {
        let mut tag = Tag::under(rule(reaction));
        tag.sees(&a);
        assert_eq!(tag.sees(&b), (Verdict::Conflict, Some(EventKind::Conflict), serve));
    }
}

#[test]
fn under_alert_the_pin_follows_and_a_return_is_a_roll_back() {
    let (a, b) = (image(1), image(2));
    let mut tag = Tag::under(rule(Reaction::Alert));
    tag.sees(&a);
    tag.sees(&b);
    assert_eq!(tag.sees(&b).1, Some(EventKind::Followed));
    assert_eq!(tag.pinned(), b.content.digest);
    assert_eq!(tag.state.followed_from, Some(a.content.digest));
    assert!(tag.state.conflict.is_none());
    assert_eq!(tag.sees(&a).1, Some(EventKind::RolledBack));
    assert_eq!(tag.sees(&a).1, Some(EventKind::Followed));
    assert_eq!(tag.pinned(), a.content.digest);
}

#[test]
fn a_conflict_is_told_once_repeats_hourly_and_heals() {
    let (a, b) = (image(1), image(2));
    let mut tag = Tag::under(rule(Reaction::Hold));
    tag.sees(&a);
    tag.sees(&b);
    assert_eq!(tag.sees(&b), (Verdict::Conflict, None, Serve::Pinned));
    assert_eq!(tag.wait(HOUR).sees(&b).1, Some(EventKind::Repeated));
    assert_eq!(tag.sees(&b).1, None);
    assert_eq!(tag.sees(&a), (Verdict::Match, Some(EventKind::Healed), Serve::Pinned));
    assert!(tag.state.conflict.is_none());
    assert_eq!(tag.sees(&b).1, Some(EventKind::Flapped));
    assert_eq!(tag.pinned(), a.content.digest);
}

#[test]
fn hold_follows_only_what_stood_long_enough_and_a_flap_starts_anew() {
    let (a, b) = (image(1), image(2));
    let week = Rule { accept_after: Some(Duration::from_hours(7 * 24)), ..rule(Reaction::Hold) };
    let mut tag = Tag::under(week.clone());
    tag.sees(&a);
    tag.sees(&b);
    tag.stands(6, &b);
    assert_eq!(tag.wait(DAY - 1).sees(&b).2, Serve::Pinned);
    assert_eq!(
        tag.wait(1).sees(&b),
        (Verdict::Conflict, Some(EventKind::Accepted), Serve::Observed)
    );
    assert_eq!(tag.pinned(), b.content.digest);

    let mut tag = Tag::under(week);
    tag.sees(&a);
    tag.sees(&b);
    tag.wait(6 * DAY).sees(&a);
    assert_eq!(tag.wait(2 * DAY).sees(&b).1, Some(EventKind::Flapped));
    tag.stands(6, &b);
    assert_eq!(tag.wait(DAY).sees(&b).1, Some(EventKind::Accepted));
}

#[test]
fn what_nobody_saw_stand_for_three_days_begins_anew_and_a_clock_set_ahead_ends_no_wait() {
    let (a, b) = (image(1), image(2));
    let week = Rule { accept_after: Some(Duration::from_hours(7 * 24)), ..rule(Reaction::Hold) };
    let mut tag = Tag::under(week);
    tag.sees(&a);
    tag.sees(&b);
    assert_eq!(tag.wait(7 * DAY).sees(&b).1, Some(EventKind::Repeated));
    tag.stands(6, &b);
    assert_eq!(tag.pinned(), a.content.digest);
    let late = tag.now_ms + 365 * DAY;
    let (content, manifest) = (&b.content, &b.manifest);
    let (pinned, is_revoked, sure_ms) = (None, false, tag.now_ms);
    let sight = Sight { content, manifest, pinned, is_revoked, sure_ms };
    assert_eq!(judge(&tag.rule, &tag.state, &sight, late).serve, Serve::Pinned);
    assert_eq!(tag.wait(DAY).sees(&b).1, Some(EventKind::Accepted));
}

#[test]
fn hold_without_accept_after_never_follows() {
    let (a, b) = (image(1), image(2));
    let mut tag = Tag::under(rule(Reaction::Hold));
    tag.sees(&a);
    tag.sees(&b);
    assert_eq!(tag.wait(5000 * DAY).sees(&b).2, Serve::Pinned);
    assert_eq!(tag.pinned(), a.content.digest);
}

#[test]
fn a_deletion_in_between_starts_the_wait_anew() {
    let (a, b) = (image(1), image(2));
    let mut tag =
        Tag::under(Rule { accept_after: Some(Duration::from_hours(24)), ..rule(Reaction::Hold) });
    tag.sees(&a);
    tag.sees(&b);
    tag.wait(DAY / 2).write(EventKind::Deleted, None);
    assert_eq!(tag.wait(DAY / 2).sees(&b).1, Some(EventKind::Flapped));
    assert_eq!(tag.wait(DAY / 2).sees(&b).2, Serve::Pinned);
    assert_eq!(tag.wait(DAY / 2).sees(&b).1, Some(EventKind::Accepted));
}

#[test]
fn a_revoked_digest_never_passes() {
    let (a, b) = (image(1), image(2));
    for reaction in [Reaction::Alert, Reaction::Hold] {
        let mut tag = Tag::under(Rule { accept_after: Some(Duration::ZERO), ..rule(reaction) });
        tag.revoked.push(b.content.digest);
        assert_eq!(tag.sees(&b), (Verdict::Conflict, None, Serve::Refusal));
        tag.sees(&a);
        assert_eq!(tag.sees(&b), (Verdict::Conflict, Some(EventKind::Conflict), Serve::Pinned));
        assert_eq!(tag.wait(DAY).sees(&b).2, Serve::Pinned);
        assert_eq!(tag.pinned(), a.content.digest);
    }
}

#[test]
fn a_rejected_digest_is_never_served_and_alerts_no_more() {
    let (a, b) = (image(1), image(2));
    for reaction in [Reaction::Alert, Reaction::Hold, Reaction::Block] {
        let mut tag = Tag::under(rule(reaction));
        tag.sees(&a);
        tag.state.rejected.push(b.content.digest);
        assert_eq!(tag.sees(&b), (Verdict::Conflict, None, Serve::Pinned), "{reaction:?}");
    }
}

#[test]
fn a_child_of_the_pinned_index_is_no_alarm() {
    let child = image(3);
    let index = thing(
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
            ManifestKind::OciIndex.as_str(),
            ManifestKind::OciManifest.as_str(),
            child.content.digest,
            child.content.size_bytes
        )
        .as_bytes(),
    );
    let mut tag = Tag::under(rule(Reaction::Block));
    tag.sees(&index);
    let judgement = tag.sees_beside(&child, Some(&index));
    assert_eq!(judgement.verdict, Verdict::Match);
    assert_eq!((judgement.event, judgement.serve), (Some(EventKind::Downgraded), Serve::Pinned));
    assert_eq!(tag.sees_beside(&child, Some(&index)).event, None);
}

#[test]
fn an_index_may_gain_platforms_within_settle_only() {
    let one = thing(fixtures::index_json(&[fixtures::child('1', "linux/amd64")]).as_bytes());
    let two = thing(
        fixtures::index_json(&[
            fixtures::child('1', "linux/amd64"),
            fixtures::child('2', "linux/arm64"),
        ])
        .as_bytes(),
    );
    let settling = Rule { settle: Duration::from_hours(24), ..rule(Reaction::Block) };
    let mut tag = Tag::under(settling.clone());
    tag.sees(&one);
    let judgement = tag.wait(DAY - 1).sees_beside(&two, Some(&one));
    assert_eq!((judgement.verdict, judgement.event), (Verdict::Match, Some(EventKind::Extended)));
    assert_eq!(tag.pinned(), two.content.digest);

    let mut tag = Tag::under(settling);
    tag.sees(&one);
    let judgement = tag.wait(DAY).sees_beside(&two, Some(&one));
    assert_eq!((judgement.verdict, judgement.serve), (Verdict::Conflict, Serve::Refusal));
}

#[test]
fn an_upstream_that_answers_something_new_each_time_cannot_grow_the_state() {
    let mut tag = Tag::under(Rule { accept_after: Some(Duration::ZERO), ..rule(Reaction::Hold) });
    let mut seen = 0;
    for number in 0..2 * u32::try_from(SEEN_LIMIT).unwrap() {
        tag.rule.accept_after = None;
        seen += usize::from(tag.sees(&image(number + 10)).1.is_some());
    }
    assert_eq!((tag.state.seen.len(), seen), (SEEN_LIMIT, SEEN_LIMIT));
    // What changes at every ask has not stood: it is never accepted.
    tag.rule.accept_after = Some(Duration::ZERO);
    assert_eq!(tag.wait(30 * DAY).sees(&image(4)).2, Serve::Pinned);
}

#[test]
fn a_tag_that_is_gone_stays_only_if_its_pin_was_old_by_then() {
    let a = image(1);
    let mut tag = Tag::under(rule(Reaction::Hold));
    tag.sees(&a);
    let young = judge_gone(&tag.state, tag.now_ms);
    assert_eq!(young, (Some(EventKind::Deleted), Serve::Refusal));
    tag.write(EventKind::Deleted, None);
    assert_eq!(judge_gone(&tag.state, tag.now_ms), (None, Serve::Refusal));
    let later = judge_gone(&tag.state, tag.now_ms + 30 * DAY);
    assert_eq!(later, (None, Serve::Refusal), "what was taken back young does not come back old");
    assert_eq!(tag.sees(&a).1, Some(EventKind::Healed));
    assert_eq!(tag.state.deleted_ms, None);
    tag.write(EventKind::Deleted, None);
    assert_eq!(tag.sees(&image(2)).1, Some(EventKind::Conflict), "back with other content");
    let mut old = Tag::under(rule(Reaction::Hold));
    old.sees(&a);
    old.wait(3 * DAY);
    assert_eq!(judge_gone(&old.state, old.now_ms), (Some(EventKind::Deleted), Serve::Pinned));
    old.write(EventKind::Deleted, None);
    assert_eq!(judge_gone(&old.state, old.now_ms), (None, Serve::Pinned));
}

#[test]
fn a_clock_that_went_back_expires_nothing() {
    assert!(is_within(1000, 0, Duration::from_millis(1)));
    assert!(!is_within(1000, 1001, Duration::from_millis(1)));
}

#[test]
fn under_record_what_was_last_served_stands_for_the_tag() {
    let (a, b) = (image(1), image(2));
    let mut tag = Tag::under(rule(Reaction::Hold));
    tag.sees(&a);
    tag.write(EventKind::Observed, Some(&b));
    assert!(tag.state.pin.is_none());
    assert_eq!(tag.state.standing().unwrap().content, b.content);
    // Unless the flow made it the pin: then it may be none.
    assert_eq!(tag.sees(&a).0, Verdict::Pin);
}
