//! What a check finds.

use super::*;
use crate::pin::{Content, OpenConflict, Pin, PinKey, Provenance, TagState};

fn computed(bytes: &[u8]) -> ComputedDigest {
    ComputedDigest::of(bytes, None)
}

fn reference(given: Option<&[u8]>) -> Reference {
    let mut reference: Reference = "registry.example/app:1".parse().unwrap();
    reference.digest = given.map(|bytes| computed(bytes).digest());
    reference
}

fn entry(pinned: &[u8]) -> TagEntry {
    let media_type = "application/vnd.oci.image.index.v1+json".parse().unwrap();
    let content = Content { digest: computed(pinned).digest(), media_type, size_bytes: 1 };
    let pin = Pin { content, provenance: Provenance::FirstSeen, sequence: 2, since_ms: 1 };
    let key: PinKey = key_of(&reference(None));
    TagEntry { key, state: TagState { pin: Some(pin), ..TagState::default() }, revoked: Vec::new() }
}

fn known(entry: Option<&TagEntry>) -> Known<'_> {
    Known { entry, ..Known::default() }
}

#[test]
fn each_answer_is_compared_with_the_given_digest_first_and_then_with_the_pin() {
    let answer = |bytes: &[u8]| Heard::Answer(computed(bytes));
    for (given, pinned, heard, expected) in [
        (None, None, answer(b"a"), Found::NoPin),
        (None, Some(b"a"), answer(b"a"), Found::Match),
        (None, Some(b"a"), answer(b"b"), Found::Conflict),
        (Some(b"a"), None, answer(b"a"), Found::Match),
        (Some(b"a"), None, answer(b"b"), Found::Mismatch),
        (Some(b"b"), Some(b"a"), answer(b"b"), Found::Conflict),
        (Some(b"a"), Some(b"a"), answer(b"b"), Found::Mismatch),
        (None, None, Heard::Nothing, Found::Unknown),
        (None, Some(b"a"), Heard::Nothing, Found::Gone),
        (Some(b"a"), None, Heard::Nothing, Found::Unknown),
        (Some(b"a"), Some(b"b"), Heard::Nothing, Found::Gone),
        (None, Some(b"a"), Heard::Unknown, Found::Unknown),
        (None, Some(b"a"), Heard::Invalid("x".into()), Found::Invalid),
        (None, Some(b"a"), Heard::Unreachable("x".into()), Found::Unreachable),
    ] {
        let entry = pinned.map(|bytes: &[u8; 1]| entry(bytes));
        let reference = reference(given.map(|bytes: &[u8; 1]| bytes.as_slice()));
        let finding = judge(&reference, known(entry.as_ref()), heard);
        assert_eq!(finding.found, expected, "{given:?} {pinned:?}");
    }
}

#[test]
fn a_conflict_names_both_digests_and_what_people_said() {
    let mut entry = entry(b"a");
    entry.state.rejected.push(computed(b"b").digest());
    let finding = judge(&reference(None), known(Some(&entry)), Heard::Answer(computed(b"b")));
    assert_eq!(finding.observed, Some(computed(b"b").digest()));
    assert_eq!(finding.expected, Some(computed(b"a").digest()));
    assert_eq!(finding.remark.as_deref(), Some("the digest is rejected for this tag"));
    entry.revoked.push(computed(b"b").digest());
    let finding = judge(&reference(None), known(Some(&entry)), Heard::Answer(computed(b"b")));
    assert_eq!(finding.remark.as_deref(), Some("the digest is revoked"));
}

#[test]
fn an_open_conflict_alone_is_no_finding_when_the_upstream_is_back() {
    let mut entry = entry(b"a");
    let observed = computed(b"b").digest();
    let conflict = OpenConflict { observed, since_ms: 1, recorded_ms: 1, flaps: 0, repeats: 0 };
    entry.state.conflict = Some(conflict);
    let finding = judge(&reference(None), known(Some(&entry)), Heard::Answer(computed(b"a")));
    assert_eq!(finding.found, Found::Match);
}

#[test]
fn a_finding_outweighs_an_upstream_that_is_down() {
    for (findings, expected) in [
        (vec![], Code::Ok),
        (vec![Found::Match, Found::NoPin], Code::Ok),
        (vec![Found::Match, Found::Unknown], Code::Failure),
        (vec![Found::Unknown, Found::Unreachable], Code::Unreachable),
        (vec![Found::Unreachable, Found::Conflict, Found::Unknown], Code::Finding),
        (vec![Found::Match, Found::Mismatch], Code::Finding),
        (vec![Found::Gone], Code::Finding),
    ] {
        assert_eq!(worst(&findings), expected, "{findings:?}");
    }
}

#[test]
fn what_a_lock_file_has_is_compared_last() {
    let digest = |bytes: &[u8]| Some(computed(bytes).digest());
    for (given, pinned, locked, expected) in [
        (None, None, b"a", Found::NoPin),
        (None, None, b"b", Found::Mismatch),
        (Some(b"a"), None, b"b", Found::Mismatch),
        (Some(b"a"), Some(b"a"), b"a", Found::Match),
        (None, Some(b"a"), b"b", Found::Mismatch),
        (None, Some(b"b"), b"b", Found::Conflict),
    ] {
        let entry = pinned.map(|bytes: &[u8; 1]| entry(bytes));
        let known = Known { locked: digest(locked), ..known(entry.as_ref()) };
        let reference = reference(given.map(|bytes: &[u8; 1]| bytes.as_slice()));
        let finding = judge(&reference, known, Heard::Answer(computed(b"a")));
        assert_eq!(finding.found, expected, "{given:?} {pinned:?} {locked:?}");
        assert_eq!(finding.locked, digest(locked));
    }
}

#[test]
fn a_digest_that_an_unknown_tag_borrows_from_another_is_a_mismatch() {
    for (digest_is, expected) in [
        (DigestIs::OtherTag, Found::Mismatch),
        (DigestIs::NoTag, Found::Unknown),
        (DigestIs::Absent, Found::Unknown),
    ] {
        let known = Known { whose: Some(Whose::plain(digest_is)), ..Known::default() };
        let finding = judge(&reference(Some(b"a")), known, Heard::Nothing);
        assert_eq!((finding.found, finding.tag_is), (expected, Some(TagIs::Unknown)));
    }
}

#[test]
fn a_platforms_image_is_a_match_and_a_config_is_none() {
    for (digest_is, pinned, expected) in [
        (DigestIs::PlatformOfThisTag, None, Found::Match),
        (DigestIs::PlatformOfThisTag, Some(b"index"), Found::Match),
        (DigestIs::PlatformOfThisTag, Some(b"other"), Found::Conflict),
        (DigestIs::ConfigOfThisTag, None, Found::Mismatch),
    ] {
        let entry = pinned.map(|bytes: &[u8; 5]| entry(bytes));
        let whose = Some(Whose::plain(digest_is));
        let known = Known { whose, ..known(entry.as_ref()) };
        let finding = judge(&reference(Some(b"a")), known, Heard::Answer(computed(b"index")));
        assert_eq!(finding.found, expected, "{digest_is:?} {pinned:?}");
        assert_eq!(finding.tag_is, Some(TagIs::Elsewhere));
    }
}

#[test]
fn a_tag_leaves_a_digest_when_it_is_last_seen_at_another() {
    use crate::event::{Draft, EventKind};
    let [a, b] = [b"a", b"b"].map(|seed: &[u8; 1]| entry(seed).state.pin.unwrap().content);
    let event = |time_ms: u64, observed: &Content| {
        let observed = Some(observed.clone());
        Draft { observed, ..Draft::new(EventKind::Observed, None) }.at(time_ms, time_ms)
    };
    let events = [event(1, &a), event(2, &b), event(3, &a), event(4, &b), event(5, &b)];
    assert_eq!(told::until(&events, a.digest), Some(4));
    assert_eq!(told::until(&events[..3], a.digest), None);
    assert_eq!(told::until(&events, b.digest), None);
    assert_eq!(told::until(&[], a.digest), None);
}
