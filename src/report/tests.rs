use std::net::IpAddr;

use super::conflicts::{conflict_of, take};
use super::tally::{Tallies, Tally};
use super::*;
use crate::event::{Draft, Event, EventKind};
use crate::journal::{Method, Pulled};
use crate::oci::MediaType;
use crate::pin::{Content, PinKey, TagState};

fn digest(number: u32) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

fn pulled(reference: &str, client: u8, outcome: Outcome, given: Option<u32>) -> Pulled {
    let line = serde_json::json!({
        "v": 1, "first-ms": 1, "last-ms": 2, "count": 3, "listener": "mirror", "method": "GET",
        "client": IpAddr::from([127, 0, 0, client]), "reference": reference, "outcome": outcome,
        "digest": given.map(digest),
    });
    serde_json::from_value(line).unwrap()
}

fn key() -> PinKey {
    PinKey {
        registry: "docker.io".parse().unwrap(),
        repository: "library/alpine".parse().unwrap(),
        tag: "3.19".parse().unwrap(),
    }
}

fn event(sequence: u64, kind: EventKind, pinned: u32, observed: u32) -> Event {
    let media_type = MediaType::from(crate::oci::ManifestKind::OciManifest);
    let content = Content { digest: digest(observed), media_type, size_bytes: 1 };
    let why = format!("event {sequence}");
    let draft = Draft {
        pinned: Some(digest(pinned)),
        observed: Some(content),
        why,
        ..Draft::new(kind, Some(key()))
    };
    draft.at(sequence, sequence * 1000)
}

/// What is reported of a tag after these events, all of them since the start.
fn after(events: &[Event]) -> Option<Conflict> {
    let (mut state, mut moves) = (TagState::default(), super::conflicts::Moves::new());
    for event in events {
        state.apply(event);
        take(&mut moves, event.clone());
    }
    conflict_of(&state, moves.get(&key()))
}

#[test]
fn requests_are_summed_by_reference_with_what_came_of_them() {
    let mut tallies = Tallies::default();
    let name = "docker.io/library/alpine:3.19";
    tallies.add(pulled(name, 1, Outcome::Pinned, Some(1)));
    tallies.add(pulled(name, 2, Outcome::Pinned, Some(1)));
    let mut head = pulled(name, 2, Outcome::Held, Some(2));
    head.method = Method::Head;
    tallies.add(head);
    let tally = &tallies.all[&name.parse().unwrap()];
    assert_eq!(tally.requests, Requests { get: 6, head: 3, by_digest: 0 });
    assert_eq!(tally.digests, [digest(1), digest(2)]);
    assert_eq!(tally.clients.len(), 2);
    let counts: Vec<_> = tally.outcomes.iter().map(|came| (came.outcome, came.count)).collect();
    assert_eq!(counts, [(Outcome::Pinned, 6), (Outcome::Held, 3)]);
}

#[test]
fn more_references_than_rows_are_counted_as_lost() {
    let mut tallies = Tallies::default();
    let name = |number: usize| format!("docker.io/library/a:{number}");
    for number in 0..ROWS + 2 {
        tallies.add(pulled(&name(number), 1, Outcome::Recorded, Some(1)));
    }
    tallies.add(pulled(&name(0), 1, Outcome::Recorded, Some(1)));
    assert_eq!((tallies.all.len(), tallies.lost), (ROWS, 6));
    assert_eq!(tallies.all[&name(0).parse().unwrap()].requests.get, 6);
}

#[test]
fn what_was_denied_by_digest_is_told_of_the_image() {
    let mut tally = Tally::default();
    let part = Tally {
        requests: Requests { get: 2, head: 1, by_digest: 0 },
        outcomes: vec![
            Came { outcome: Outcome::ByDigest, reason: None, count: 2 },
            Came { outcome: Outcome::Refused, reason: Some("DIGEST_REVOKED".into()), count: 1 },
        ],
        ..Tally::default()
    };
    tally.absorb(&part);
    assert_eq!(tally.requests, Requests { get: 0, head: 0, by_digest: 3 });
    assert_eq!(tally.outcomes.len(), 1);
    assert_eq!(tally.outcomes[0].reason.as_deref(), Some("DIGEST_REVOKED"));
}

#[test]
fn a_conflict_is_told_while_it_is_open_and_after_it_healed_and_not_once_it_is_decided() {
    let pinned = event(1, EventKind::Pinned, 1, 1);
    let moved = event(2, EventKind::Conflict, 1, 2);
    let healed = event(3, EventKind::Healed, 1, 1);
    assert_eq!(after(std::slice::from_ref(&pinned)), None);
    let open = after(&[pinned.clone(), moved.clone()]).unwrap();
    assert_eq!((open.pinned, open.observed), (Some(digest(1)), digest(2)));
    assert!(open.is_open && open.since_ms == 2000 && open.hint == "event 2", "{open:?}");
    let was = after(&[pinned.clone(), moved.clone(), healed]).unwrap();
    assert!(!was.is_open && was.observed == digest(2), "{was:?}");
    let followed = after(&[pinned.clone(), event(2, EventKind::Followed, 1, 2)]).unwrap();
    assert_eq!((followed.pinned, followed.observed), (Some(digest(1)), digest(2)));
    for kind in [EventKind::Accepted, EventKind::Approved, EventKind::Rejected] {
        let decided = [pinned.clone(), moved.clone(), event(3, kind, 1, 2)];
        assert_eq!(after(&decided), None, "{kind}");
    }
}

#[test]
fn a_conflict_with_what_the_lock_file_claims_names_the_claim() {
    let claimed = Event { observed: None, ..event(1, EventKind::Imported, 1, 1) };
    let conflict = after(&[claimed, event(2, EventKind::Conflict, 1, 2)]).unwrap();
    assert_eq!((conflict.pinned, conflict.observed), (Some(digest(1)), digest(2)));
}
