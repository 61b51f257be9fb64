//! What an alert says.

use async_trait::async_trait;

use super::*;
use crate::alert::sources::{Explain, Nothing, Who};
use crate::clock::ManualClock;
use crate::event::Draft;
use crate::ledger::{LedgerStore as _, MemoryLedger};
use crate::metrics::NotifyMetrics;
use crate::oci::MediaType;
use crate::pin::{Content, PinKey, Provenance};

const DAY_MS: u64 = 86_400_000;

fn key() -> PinKey {
    PinKey {
        registry: "a.example".parse().unwrap(),
        repository: "app".parse().unwrap(),
        tag: "1.0.0".parse().unwrap(),
    }
}

fn digest(byte: u8) -> Digest {
    Digest::sha256([byte; 32])
}

fn content(byte: u8) -> Content {
    let media_type: MediaType = "application/vnd.oci.image.index.v1+json".parse().unwrap();
    Content { digest: digest(byte), media_type, size_bytes: 1 }
}

/// A ledger with a pin, and a conflict so many days later.
async fn conflict(after_days: u64) -> (Arc<MemoryLedger>, Event) {
    let clock = ManualClock::at(1_800_000_000_000);
    let ledger = Arc::new(MemoryLedger::new(clock.clone()));
    let pin = Draft {
        observed: Some(content(1)),
        provenance: Some(Provenance::FirstSeen),
        ..Draft::new(EventKind::Pinned, Some(key()))
    };
    ledger.append(pin, 0, None).await.unwrap();
    clock.advance(Duration::from_millis(after_days * DAY_MS));
    let conflict = Draft {
        pinned: Some(digest(1)),
        observed: Some(content(2)),
        rule: "rule\u{202e}\u{1b}[2J".to_owned(),
        ..Draft::new(EventKind::Conflict, Some(key()))
    };
    let state = ledger.state(&key()).await.unwrap().unwrap();
    ledger.append(conflict, state.sequence, None).await.unwrap();
    let event = ledger.events(1, 10).await.unwrap().pop().unwrap();
    (ledger, event)
}

fn sources(ledger: &Arc<MemoryLedger>) -> Sources {
    Sources {
        ledger: Arc::clone(ledger) as _,
        clock: ManualClock::at(0),
        metrics: NotifyMetrics::default(),
        explain: Arc::new(Nothing),
        who: Arc::new(Nothing),
        reaction: Arc::new(|_| Some("hold")),
    }
}

/// Knows everything, or never answers.
struct Knows {
    in_time: bool,
}

#[async_trait]
impl Explain for Knows {
    async fn explain(&self, key: &PinKey, before: Digest, after: Digest) -> Option<Explained> {
        if !self.in_time {
            std::future::pending::<()>().await;
        }
        assert_eq!((key, before, after), (&super::tests::key(), digest(1), digest(2)));
        let young = std::iter::once(YOUNG_PIN.to_owned());
        let reasons = young.chain((0..50).map(|number| format!("{number}\u{7}"))).collect();
        let summary = format!("entrypoint {}", "x".repeat(2000));
        Some(Explained { severity: Severity::Low, reasons, summary })
    }
}

#[async_trait]
impl Who for Knows {
    async fn who(&self, digest: Digest, limit: usize) -> Option<Pulls> {
        if !self.in_time {
            std::future::pending::<()>().await;
        }
        let clients = (0..100).map(|number| (format!("10.0.0.{number}"), 2, 1, 2));
        let clients =
            if digest == super::tests::digest(1) { clients.collect() } else { Vec::new() };
        assert_eq!(limit, MAX_CLIENTS);
        Some(Pulls { total: 200, clients })
    }
}

#[tokio::test]
async fn an_alert_says_what_happened_since_when_and_which_commands_end_it() {
    let (ledger, event) = conflict(10).await;
    let notice = super::event(&sources(&ledger), &event, &[]).await;
    assert_eq!((notice.kind.as_str(), notice.severity), ("conflict", Severity::High));
    assert_eq!(notice.tag.as_deref(), Some("a.example/app:1.0.0"));
    assert_eq!(notice.pinned, Some(digest(1).to_string()));
    assert_eq!(notice.observed, Some(digest(2).to_string()));
    assert_eq!(notice.since.as_deref(), Some("2027-01-25T08:00:00Z"));
    assert_eq!(notice.pinned_since.as_deref(), Some("2027-01-15T08:00:00Z"));
    assert_eq!(notice.reaction.as_deref(), Some("hold"));
    assert_eq!(notice.rule.as_deref(), Some("rule\\u{202e}\\u{1b}[2J"));
    assert!(notice.text.ends_with("Clients get the recorded one."), "{}", notice.text);
    let (tag, new) = ("a.example/app:1.0.0", digest(2));
    let expected = [
        format!("immutag ledger show {tag}"),
        format!("immutag ledger diff {tag}"),
        format!("immutag ledger approve {tag} --digest {new} --reason 'WHY'"),
        format!("immutag ledger reject {tag} --digest {new} --reason 'WHY'"),
        format!("immutag ledger revoke {new} --reason 'WHY'"),
        format!(
            "immutag ledger approve {tag} --digest {new} --revoke {} --reason 'WHY'",
            digest(1)
        ),
        format!("immutag ledger forget {tag} --reason 'WHY'"),
    ];
    let commands: Vec<_> = notice.commands.iter().map(|command| command.run.clone()).collect();
    assert_eq!(commands, expected);
    let status = ledger.status();
    let head = Head { id: status.id.clone(), size: event.sequence, hash: status.head };
    assert_eq!(notice.ledger, Some(head));
    assert_eq!(notice.id, format!("{}-{}-{}", status.id, event.sequence, event.time_ms));
}

#[tokio::test]
async fn a_young_pin_makes_it_critical_whatever_the_triage_says() {
    let (ledger, event) = conflict(1).await;
    let knows = Arc::new(Knows { in_time: true });
    let sources = Sources { explain: knows.clone(), who: knows, ..sources(&ledger) };
    let notice = super::event(&sources, &event, &[]).await;
    assert_eq!((notice.severity, notice.pin_is_young), (Severity::Critical, true));
    assert_eq!(notice.reasons.iter().position(|reason| reason == YOUNG_PIN), Some(0));
    assert!(!notice.reasons[1..].contains(&YOUNG_PIN.to_owned()), "{:?}", notice.reasons);
}

#[tokio::test]
async fn an_alert_is_about_the_tag_as_it_was_then() {
    let (ledger, event) = conflict(1).await;
    let forgotten = Draft::new(EventKind::Forgotten, Some(key()));
    ledger.append(forgotten, event.sequence, None).await.unwrap();
    let notice = super::event(&sources(&ledger), &event, &[]).await;
    assert_eq!((notice.severity, notice.pin_is_young), (Severity::Critical, true));
    assert_eq!(notice.pinned_since.as_deref(), Some("2027-01-15T08:00:00Z"));
}

#[tokio::test]
async fn triage_and_journal_are_told_escaped_and_bounded() {
    let (ledger, event) = conflict(10).await;
    let knows = Arc::new(Knows { in_time: true });
    let sources = Sources { explain: knows.clone(), who: knows, ..sources(&ledger) };
    let notice = super::event(&sources, &event, &[]).await;
    assert_eq!(notice.severity, Severity::Low);
    assert_eq!(notice.reasons.len(), MAX_REASONS);
    assert_eq!(notice.reasons[4], "3\\u{7}");
    assert_eq!(notice.changes.as_ref().map(|text| text.chars().count()), Some(MAX_TEXT));
    let pulls: Vec<_> = notice.pulls.iter().map(|it| (it.total, it.clients.len())).collect();
    assert_eq!(pulls, [(200, MAX_CLIENTS), (200, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_triage_or_a_journal_that_hangs_holds_no_alert_up() {
    let (ledger, event) = conflict(10).await;
    let hangs = Arc::new(Knows { in_time: false });
    let sources = Sources { explain: hangs.clone(), who: hangs, ..sources(&ledger) };
    let notice = super::event(&sources, &event, &[]).await;
    assert_eq!((notice.severity, notice.changes), (Severity::High, None));
    assert!(notice.pulls.is_empty());
}

#[tokio::test]
async fn a_message_that_stands_for_several_says_since_when() {
    let (ledger, event) = conflict(10).await;
    let before = [Waiting::at(2, 1_800_000_000_000), Waiting::at(3, 1_800_000_001_000)];
    let notice = super::event(&sources(&ledger), &event, &before).await;
    let first = "2027-01-15T08:00:00Z".to_owned();
    assert_eq!(notice.repeats, Some(Repeats { count: 3, first_sequence: 2, first }));
}

/// The text and the commands of an event of these kinds, written one after the other.
async fn told(kinds: &[EventKind], after_days: u64) -> (String, String) {
    let clock = ManualClock::at(1_800_000_000_000);
    let ledger = Arc::new(MemoryLedger::new(clock.clone()));
    let (mut sequence, mut event) = (0, None);
    for kind in kinds {
        let is_first = matches!(kind, EventKind::Imported | EventKind::Pinned);
        let draft = Draft {
            pinned: (*kind != EventKind::Pinned).then(|| digest(1)),
            observed: match kind {
                EventKind::Pinned => Some(content(1)),
                EventKind::Conflict => Some(content(2)),
                _ => None,
            },
            provenance: (*kind == EventKind::Pinned).then_some(Provenance::FirstSeen),
            ..Draft::new(*kind, Some(key()))
        };
        ledger.append(draft, sequence, None).await.unwrap();
        sequence = ledger.state(&key()).await.unwrap().unwrap().sequence;
        event = ledger.events(sequence, 1).await.unwrap().pop();
        if is_first {
            clock.advance(Duration::from_millis(after_days * DAY_MS));
        }
    }
    let notice = super::event(&sources(&ledger), &event.unwrap(), &[]).await;
    let runs: Vec<_> = notice.commands.into_iter().map(|command| command.run).collect();
    (notice.text, runs.join("\n"))
}

#[tokio::test]
async fn what_is_not_what_was_imported_is_refused_and_ended_by_what_the_ledger_takes() {
    let (text, runs) = told(&[EventKind::Imported, EventKind::Conflict], 0).await;
    assert!(text.contains("is not what was imported") && text.contains("are refused"), "{text}");
    assert!(runs.contains("approve") && runs.contains("forget"), "{runs}");
    assert!(!runs.contains("reject") && !runs.contains("--revoke"), "{runs}");
}

#[tokio::test]
async fn a_deletion_says_what_clients_get_and_how_a_young_pin_is_served_all_the_same() {
    let deleted = [EventKind::Pinned, EventKind::Deleted];
    let (text, runs) = told(&deleted, 1).await;
    assert!(text.contains("clients are refused"), "{text}");
    assert!(runs.contains(&format!("approve a.example/app:1.0.0 --digest {}", digest(1))));
    let (text, runs) = told(&deleted, 4).await;
    assert!(text.contains("Clients get the recorded one"), "{text}");
    assert!(!runs.contains("approve"), "{runs}");
}
