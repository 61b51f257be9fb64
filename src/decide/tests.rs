//! Decisions on a ledger in memory.

mod imports;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::clock::ManualClock;
use crate::event::{Draft, EventKind};
use crate::ledger::{LedgerStore, MemoryLedger, Outcome};
use crate::pin::{Content, Provenance};

/// A ledger with a clock, and what is done to it.
struct Desk {
    clock: Arc<ManualClock>,
    ledger: Arc<MemoryLedger>,
}

fn digest(letter: char) -> Digest {
    format!("sha256:{}", letter.to_string().repeat(64)).parse().unwrap()
}

fn key(tag: &str) -> PinKey {
    PinKey {
        registry: "docker.io".parse().unwrap(),
        repository: "library/alpine".parse().unwrap(),
        tag: tag.parse().unwrap(),
    }
}

fn reason() -> Reason {
    "ticket 7".parse().unwrap()
}

impl Desk {
    /// `3.19.1` is pinned to A; the upstream then answered each of `conflicts`.
    async fn with_conflicts(conflicts: &str) -> Self {
        let clock = ManualClock::at(1_000);
        let ledger = Arc::new(MemoryLedger::new(clock.clone()));
        let desk = Self { clock, ledger };
        desk.write(EventKind::Pinned, 'a').await;
        for letter in conflicts.chars() {
            desk.write(EventKind::Conflict, letter).await;
        }
        desk
    }

    async fn write(&self, kind: EventKind, letter: char) {
        self.clock.advance(Duration::from_secs(1));
        let content = Content {
            digest: digest(letter),
            media_type: "application/vnd.oci.image.index.v1+json".parse().unwrap(),
            size_bytes: 7,
        };
        let draft = Draft { observed: Some(content), ..Draft::new(kind, Some(key("3.19.1"))) };
        let state = self.ledger.state(&key("3.19.1")).await.unwrap().unwrap_or_default();
        let outcome = self.ledger.append(draft, state.sequence, None).await.unwrap();
        assert!(matches!(outcome, Outcome::Written(_)));
    }

    async fn all(&self, request: Request) -> Result<Vec<Reply>, Fault> {
        let (to, mut from) = mpsc::channel(1);
        let ledger = Arc::clone(&self.ledger) as Arc<dyn Ledger>;
        let done = tokio::spawn(async move { execute(ledger, request, "alice", to).await });
        let mut replies = Vec::new();
        while let Some(reply) = from.recv().await {
            replies.push(reply);
        }
        done.await.unwrap().map(|()| replies)
    }

    async fn decide(&self, request: Request) -> Result<Decided, Fault> {
        match self.all(request).await?.pop() {
            Some(Reply::Decided(decided)) => Ok(decided),
            other => panic!("{other:?}"),
        }
    }

    async fn approve(&self, letter: char) -> Result<Decided, Fault> {
        let (key, digest) = (key("3.19.1"), digest(letter));
        self.decide(Request::Approve { key, digest, revoke: None, reason: reason() }).await
    }

    async fn reject(&self, letter: char) -> Result<Decided, Fault> {
        let (key, digest) = (key("3.19.1"), digest(letter));
        self.decide(Request::Reject { key, digest, reason: reason() }).await
    }

    async fn revoke(&self, letter: char, undo: bool) -> Decided {
        let request = Request::Revoke { digest: digest(letter), undo, reason: reason() };
        self.decide(request).await.unwrap()
    }

    async fn state(&self) -> Arc<TagState> {
        self.ledger.state(&key("3.19.1")).await.unwrap().unwrap()
    }

    async fn pin(&self) -> Digest {
        self.state().await.pin.as_ref().unwrap().content.digest
    }
}

#[tokio::test]
async fn an_observed_digest_is_approved_once_and_again_changes_nothing() {
    let desk = Desk::with_conflicts("b").await;
    let decided = desk.approve('b').await.unwrap();
    assert!(decided.changed && decided.message.contains("is now pinned to"), "{decided:?}");
    assert_eq!((desk.pin().await, desk.state().await.conflict.clone()), (digest('b'), None));
    let event = desk.ledger.history(&key("3.19.1")).await.unwrap().pop().unwrap();
    assert_eq!((event.kind, event.sequence), (EventKind::Approved, decided.sequence.unwrap()));
    assert_eq!((event.who.as_str(), event.why.as_str()), ("alice", "ticket 7"));
    assert_eq!(event.pinned, Some(digest('a')));
    let again = desk.approve('b').await.unwrap();
    assert_eq!((again.changed, again.sequence), (false, None));
    assert_eq!(desk.ledger.status().sequence, event.sequence);
}

#[tokio::test]
async fn only_what_was_observed_at_the_tag_is_approved() {
    let desk = Desk::with_conflicts("b").await;
    let unseen = Fault::UnseenDigest { key: key("3.19.1"), digest: digest('c') };
    assert_eq!(desk.approve('c').await, Err(unseen));
    let other = key("3.19.2");
    let approve = Request::Approve {
        key: other.clone(),
        digest: digest('c'),
        revoke: None,
        reason: reason(),
    };
    assert_eq!(desk.decide(approve).await, Err(Fault::UnseenTag { key: other }));
    assert_eq!(desk.pin().await, digest('a'));
}

#[tokio::test]
async fn what_is_revoked_is_not_approved_until_that_is_taken_back() {
    let desk = Desk::with_conflicts("b").await;
    assert!(desk.revoke('b', false).await.changed);
    assert!(!desk.revoke('b', false).await.changed);
    assert_eq!(desk.approve('b').await, Err(Fault::IsRevoked { digest: digest('b') }));
    assert_eq!(desk.pin().await, digest('a'));
    assert!(desk.revoke('b', true).await.changed);
    assert!(!desk.revoke('b', true).await.changed);
    assert!(desk.approve('b').await.unwrap().changed);
}

#[tokio::test]
async fn only_the_named_digest_moves_when_the_upstream_has_moved_on() {
    let desk = Desk::with_conflicts("bc").await;
    let decided = desk.approve('b').await.unwrap();
    assert!(decided.message.contains("stays open"), "{decided:?}");
    assert_eq!(desk.pin().await, digest('b'));
    let open = desk.state().await.conflict.clone().unwrap();
    assert_eq!(open.observed, digest('c'));
}

#[tokio::test]
async fn a_move_to_another_digest_between_look_and_write_leaves_the_named_one_approved() {
    let desk = Desk::with_conflicts("b").await;
    let races = AtomicUsize::new(2);
    let plan = |state: &TagState| {
        if races.load(Relaxed) > 0 {
            races.fetch_sub(1, Relaxed);
            desk.write(EventKind::Conflict, 'c').now_or_never().unwrap();
        }
        plan::approve(&key("3.19.1"), state, digest('b'), &reason().by("alice"))
    };
    assert!(writing::decide(&*desk.ledger, &key("3.19.1"), plan).await.unwrap().changed);
    assert_eq!((desk.pin().await, races.into_inner()), (digest('b'), 0));
    assert_eq!(desk.state().await.conflict.clone().unwrap().observed, digest('c'));
}

#[tokio::test]
async fn a_tag_that_changes_at_every_try_is_given_up() {
    let desk = Desk::with_conflicts("b").await;
    let plan = |state: &TagState| {
        desk.write(EventKind::Repeated, 'b').now_or_never().unwrap();
        plan::approve(&key("3.19.1"), state, digest('b'), &reason().by("alice"))
    };
    let busy = writing::decide(&*desk.ledger, &key("3.19.1"), plan).await;
    assert_eq!(busy, Err(Fault::Busy { key: key("3.19.1") }));
    assert_eq!(desk.pin().await, digest('a'));
}

#[tokio::test]
async fn a_rejected_digest_closes_its_own_conflict_and_no_other() {
    let desk = Desk::with_conflicts("bc").await;
    assert!(desk.reject('b').await.unwrap().changed);
    assert!(!desk.reject('b').await.unwrap().changed);
    assert!(desk.state().await.conflict.is_some());
    assert!(desk.reject('c').await.unwrap().changed);
    assert_eq!(desk.state().await.conflict, None);
    assert_eq!(desk.state().await.rejected, [digest('b'), digest('c')]);
}

#[tokio::test]
async fn what_a_tag_stands_for_is_not_rejected() {
    let desk = Desk::with_conflicts("b").await;
    let refused = desk.reject('a').await.unwrap_err();
    assert_eq!(refused, Fault::IsStanding { key: key("3.19.1"), digest: digest('a') });
    assert!(matches!(desk.reject('c').await, Err(Fault::UnseenDigest { .. })));
}

#[tokio::test]
async fn a_rejected_digest_may_be_approved_later() {
    let desk = Desk::with_conflicts("b").await;
    desk.reject('b').await.unwrap();
    assert!(desk.approve('b').await.unwrap().changed);
    assert!(desk.state().await.rejected.is_empty());
}

#[tokio::test]
async fn a_hostile_first_pin_is_cured_in_one_request() {
    let desk = Desk::with_conflicts("b").await;
    let request = |digest, revoke| Request::Approve {
        key: key("3.19.1"),
        digest,
        revoke: Some(revoke),
        reason: reason(),
    };
    let both = desk.decide(request(digest('b'), digest('b'))).await;
    assert_eq!(both, Err(Fault::IsBoth { digest: digest('b') }));
    // What cannot be approved revokes nothing.
    assert!(desk.decide(request(digest('c'), digest('a'))).await.is_err());
    assert!(!desk.ledger.is_revoked(&digest('a')));
    assert!(desk.decide(request(digest('b'), digest('a'))).await.unwrap().changed);
    assert!(desk.ledger.is_revoked(&digest('a')));
    assert_eq!(desk.pin().await, digest('b'));
    let events = desk.ledger.events(1, 100).await.unwrap();
    let audited = |kind| events.iter().any(|event| event.kind == kind && event.who == "alice");
    assert!(audited(EventKind::Revoked) && audited(EventKind::Approved));
}

#[tokio::test]
async fn a_forgotten_tag_keeps_its_history_and_nothing_else() {
    let desk = Desk::with_conflicts("b").await;
    let forget = || Request::Forget { key: key("3.19.1"), reason: reason() };
    assert!(desk.decide(forget()).await.unwrap().changed);
    assert!(!desk.decide(forget()).await.unwrap().changed);
    assert!(desk.all(Request::List(Filter::default())).await.unwrap().is_empty());
    let show = Request::Show { key: key("3.19.1") };
    assert_eq!(desk.all(show).await, Err(Fault::UnseenTag { key: key("3.19.1") }));
    let history = desk.all(Request::History { key: key("3.19.1") }).await.unwrap();
    assert_eq!(history.len(), 3);
}

#[tokio::test]
async fn a_list_is_filtered_by_any_name_of_a_tag_and_by_conflict() {
    let desk = Desk::with_conflicts("b").await;
    for (glob, only_conflicts, expected) in [
        (None, false, 1),
        (None, true, 1),
        (Some("alpine"), false, 1),
        (Some("alpine:3.*"), true, 1),
        (Some("library/*"), false, 1),
        (Some("docker.io/**"), false, 1),
        (Some("docker.io/*"), false, 0),
        (Some("alpine:4.*"), false, 0),
    ] {
        let filter = Filter { glob: glob.map(str::to_owned), only_conflicts, ..Filter::default() };
        let found = desk.all(Request::List(filter)).await.unwrap().len();
        assert_eq!(found, expected, "{glob:?}");
    }
    desk.write(EventKind::Healed, 'a').await;
    let filter = Filter { only_conflicts: true, ..Filter::default() };
    assert!(desk.all(Request::List(filter)).await.unwrap().is_empty());
    let filter = Filter { glob: Some("[".into()), ..Filter::default() };
    assert!(matches!(desk.all(Request::List(filter)).await, Err(Fault::SpoilsGlob(_))));
}

#[tokio::test]
async fn a_tag_tells_which_of_its_digests_are_revoked() {
    let desk = Desk::with_conflicts("b").await;
    desk.revoke('b', false).await;
    let shown = desk.all(Request::Show { key: key("3.19.1") }).await.unwrap();
    let [Reply::Tag(entry)] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(entry.revoked, [digest('b')]);
    let json = serde_json::to_string(entry).unwrap();
    assert_eq!(serde_json::from_str::<TagEntry>(&json).unwrap(), **entry);
}

#[tokio::test]
async fn an_export_has_every_event_in_order() {
    let desk = Desk::with_conflicts("b").await;
    for _ in 0..600 {
        desk.write(EventKind::Repeated, 'b').await;
    }
    let replies: Vec<_> = desk.all(Request::Export).await.unwrap();
    let [Reply::Status(status), events @ ..] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!(status.sequence, 603);
    let sequences = events.iter().map(|reply| match reply {
        Reply::Event(event) => event.sequence,
        other => panic!("{other:?}"),
    });
    assert!(sequences.eq(1..=603));
}

#[test]
fn a_request_is_read_strictly() {
    let read = |text: &str| serde_json::from_str::<Request>(text);
    assert_eq!(read("\"status\"").unwrap(), Request::Status);
    let forget = r#"{"forget":{"key":{"registry":"docker.io","repository":"library/x","tag":"1"},"reason":"r"}}"#;
    assert!(matches!(read(forget).unwrap(), Request::Forget { .. }));
    for bad in [
        forget.replace("\"reason\"", "\"who\":\"root\",\"reason\""),
        forget.replace("\"r\"", "\"\""),
        forget.replace("library/x", "../x"),
        "{\"stop\":{}}".into(),
        "null".into(),
    ] {
        assert!(read(&bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_first_sight_may_be_vouched_for_once() {
    let desk = Desk::with_conflicts("").await;
    desk.write(EventKind::Deleted, 'a').await;
    let decided = desk.approve('a').await.unwrap();
    assert!(decided.changed && decided.message.contains("stays pinned"), "{decided:?}");
    assert!(decided.message.contains("has deleted the tag"), "{decided:?}");
    let state = desk.state().await;
    let provenance = state.pin.as_ref().unwrap().provenance;
    assert_eq!((provenance, state.deleted_ms.is_some()), (Provenance::Approved, true));
    let sequence = desk.ledger.status().sequence;
    assert!(!desk.approve('a').await.unwrap().changed);
    assert_eq!(desk.ledger.status().sequence, sequence);
}

#[tokio::test]
async fn deleted_tags_are_listed_by_themselves() {
    let desk = Desk::with_conflicts("").await;
    let filter = || Filter { only_deleted: true, ..Filter::default() };
    assert!(desk.all(Request::List(filter())).await.unwrap().is_empty());
    desk.write(EventKind::Deleted, 'a').await;
    assert_eq!(desk.all(Request::List(filter())).await.unwrap().len(), 1);
    // The same digest is there again: healed.
    desk.write(EventKind::Healed, 'a').await;
    assert!(desk.all(Request::List(filter())).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_flap_is_counted_and_a_roll_back_is_told_from_it() {
    let desk = Desk::with_conflicts("b").await;
    for _ in 0..2 {
        desk.write(EventKind::Healed, 'a').await;
        desk.write(EventKind::Flapped, 'b').await;
    }
    let open = desk.state().await.conflict.clone().unwrap();
    assert_eq!((open.observed, open.flaps), (digest('b'), 2));
    assert!(!desk.state().await.seen(&digest('b')).unwrap().was_served);
    desk.approve('b').await.unwrap();
    desk.write(EventKind::RolledBack, 'a').await;
    let open = desk.state().await.conflict.clone().unwrap();
    assert_eq!((open.observed, open.flaps), (digest('a'), 1));
    assert!(desk.state().await.seen(&digest('a')).unwrap().was_served);
}
