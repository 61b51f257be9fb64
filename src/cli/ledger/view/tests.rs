//! What a person sees of a tag and of an event.

use super::*;
use crate::event::{Draft, EventKind};
use crate::oci::Digest;
use crate::pin::{Content, PinKey, TagState};

const NOON: u64 = 1_776_859_200_000;

fn content(byte: u8) -> Content {
    let media_type = "application/vnd.oci.image.index.v1+json".parse().unwrap();
    Content { digest: Digest::sha256([byte; 32]), media_type, size_bytes: 1 }
}

fn event(sequence: u64, kind: EventKind, byte: u8) -> Event {
    let key = PinKey {
        registry: "ghcr.io".parse().unwrap(),
        repository: "acme/app".parse().unwrap(),
        tag: "1.0.0".parse().unwrap(),
    };
    Draft { observed: Some(content(byte)), ..Draft::new(kind, Some(key)) }.at(sequence, NOON)
}

fn entry(events: &[Event], revoked: &[u8]) -> TagEntry {
    let mut state = TagState::default();
    for event in events {
        state.apply(event);
    }
    let key = events[0].key.clone().unwrap();
    TagEntry { key, state, revoked: revoked.iter().map(|byte| content(*byte).digest).collect() }
}

#[test]
fn a_row_says_what_stands_and_what_is_wrong_with_it() {
    let pinned = event(1, EventKind::Pinned, 0xa1);
    let conflict = event(2, EventKind::Conflict, 0xb2);
    let row = |events: &[Event], revoked: &[u8]| tag_row(&entry(events, revoked)).join(" | ");
    let begin = "ghcr.io/acme/app:1.0.0 | sha256:a1a1a1a1a1a1 | 2026-04-22 12:00:00Z";
    let open = "CONFLICT sha256:b2b2b2b2b2b2 since 2026-04-22 12:00:00Z";
    let both = [pinned.clone(), conflict.clone()];
    assert_eq!(row(&both[..1], &[]), format!("{begin} | first seen | ok"));
    assert_eq!(row(&both, &[]), format!("{begin} | first seen | {open}"));
    assert_eq!(row(&both, &[0xa1]), format!("{begin} | first seen | REVOKED, {open}"));
    let gone = [pinned, event(2, EventKind::Deleted, 0xa1)];
    let words = "deleted upstream since 2026-04-22 12:00:00Z, REFUSED: the pin was too young to \
                 outlive it";
    assert_eq!(row(&gone, &[]), format!("{begin} | first seen | {words}"));
    let recorded = [event(1, EventKind::Observed, 0xa1)];
    assert_eq!(row(&recorded, &[]), format!("{begin} | recorded | ok"));
}

#[test]
fn an_event_tells_who_and_why() {
    let mut approved = event(7, EventKind::Approved, 0xb2);
    approved.pinned = Some(content(0xa1).digest);
    (approved.who, approved.why) = ("alice".into(), "ticket 7".into());
    assert_eq!(
        event_row(&approved).join(" | "),
        "7 | 2026-04-22 12:00:00Z | approved | sha256:b2b2b2b2b2b2 | sha256:a1a1a1a1a1a1 | alice \
         | ticket 7"
    );
    let mut repeated = event(8, EventKind::Repeated, 0xb2);
    (repeated.count, repeated.rule) = (3, "rule 1".into());
    assert_eq!(
        event_row(&repeated)[2..].join(" | "),
        "repeated ×3 | sha256:b2b2b2b2b2b2 | - | - | rule 1"
    );
}
