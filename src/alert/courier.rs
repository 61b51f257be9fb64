//! The task that tells one webhook.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{IntCounter, IntGauge};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use super::outbox::{Limits, Outbox};
use super::queue::Next;
use super::sources::Sources;
use super::{LOOK_EVERY, compose, pace, words};
use crate::event::EventKind;
use crate::ledger::LedgerError;
use crate::metrics::NotifyMetrics;
use crate::notify::{DeliveryFault, Notice, Notifier};
use crate::triage::Severity;

/// How often a message that the receiver refuses is sent before it is given up.
const MAX_REFUSALS: u32 = 10;

/// How long it is waited after the ledger did not answer.
const LEDGER_PAUSE: Duration = Duration::from_secs(1);

/// A receiver, and what it is told.
pub(super) struct Post {
    pub(super) name: String,
    pub(super) webhook: Box<dyn Notifier>,
    pub(super) events: Vec<EventKind>,
    pub(super) min_severity: Severity,
    pub(super) limits: Limits,
}

/// Tells one webhook.
pub(super) struct Courier {
    pub(super) sources: Arc<Sources>,
    pub(super) post: Arc<Post>,
    pub(super) board: Arc<Board>,
    /// True: try once more what is due, and end.
    pub(super) leaving: watch::Receiver<bool>,
}

/// How it is with a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The last try failed.
    Failing,
    /// It wants no more messages (410): nothing is sent until a reload.
    Gone,
    /// All is told, or nothing failed so far.
    #[default]
    Well,
}

/// How it is with a webhook, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WebhookState {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// How many events wait.
    pub pending: u64,
    /// How many tries failed in a row.
    pub failures: u32,
    /// When the first of these was, in milliseconds since the Unix epoch.
    pub failing_since_ms: Option<u64>,
    /// What the last of them was.
    pub last_error: Option<String>,
    /// When a message was last taken, in this process, in milliseconds since the Unix epoch.
    pub last_success_ms: Option<u64>,
}

/// Where it is written how it is with a webhook.
pub(super) struct Board {
    state: Mutex<WebhookState>,
    pending: IntGauge,
    last_success: IntGauge,
    delivered: IntCounter,
    failed: IntCounter,
    dead: IntCounter,
}

/// What became of a message.
enum Fate {
    /// The receiver has it, or never will.
    Settled,
    /// It is for the next start.
    Left,
    /// The receiver wants no more.
    Gone,
}

impl Courier {
    /// Tells, from where the file at `path` says, until it is to leave.
    pub(super) async fn run(mut self, path: PathBuf, head: u64) {
        let Some(mut outbox) = self.open(path, head).await else { return };
        loop {
            let taken = outbox.take(self.sources.clock.wall_ms()).await;
            self.board.wait(&outbox, matches!(taken, Ok(Some(_))));
            let is_leaving = *self.leaving.borrow();
            match taken {
                Ok(Some(next)) => match self.tell(&mut outbox, &next).await {
                    Fate::Settled => outbox.told(&next).await,
                    Fate::Left => return,
                    Fate::Gone => return self.rest_in_peace(outbox).await,
                },
                Ok(None) if is_leaving => return outbox.rest(true).await,
                Ok(None) => {
                    outbox.rest(false).await;
                    self.pause(LOOK_EVERY).await;
                }
                Err(_) if is_leaving => return,
                Err(error) => self.ledger_failed(&error).await,
            }
        }
    }

    async fn open(&mut self, path: PathBuf, head: u64) -> Option<Outbox> {
        loop {
            let (ledger, events) = (Arc::clone(&self.sources.ledger), self.post.events.clone());
            let opened = Outbox::open(ledger, path.clone(), events, self.post.limits, head);
            match opened.await {
                Ok(outbox) => return Some(outbox),
                Err(_) if *self.leaving.borrow() => return None,
                Err(error) => self.ledger_failed(&error).await,
            }
        }
    }

    async fn ledger_failed(&mut self, error: &LedgerError) {
        tracing::warn!(webhook = self.post.name, %error, "the ledger could not be read for alerts");
        self.pause(LEDGER_PAUSE).await;
    }

    /// Waits so long, or until it is to leave.
    async fn pause(&mut self, time: Duration) {
        // Whether it is to leave is looked up afterwards.
        let _ = timeout(time, self.leaving.wait_for(|leaving| *leaving)).await;
    }

    async fn tell(&mut self, outbox: &mut Outbox, next: &Next) -> Fate {
        let notice = match next {
            Next::Skipped(skipped) => compose::skipped(&self.sources, skipped),
            Next::Event(waiting, before) => loop {
                match outbox.event(*waiting).await {
                    Ok(Some(event)) => {
                        let notice = compose::event(&self.sources, &event, before).await;
                        // What an upstream lets nobody explain may be the worst.
                        let is_known = notice.changes.is_some() || !words::is_move(event.kind);
                        if is_known && notice.severity < self.post.min_severity {
                            return Fate::Settled;
                        }
                        break notice;
                    }
                    // It was there a moment ago, and the ledger forgets nothing.
                    Ok(None) => return Fate::Settled,
                    Err(_) if *self.leaving.borrow() => return Fate::Left,
                    Err(error) => self.ledger_failed(&error).await,
                }
            },
        };
        self.deliver(outbox, &notice).await
    }

    /// Sends a message until the receiver takes it. It is the same at every try: what happens
    /// meanwhile is told by the next.
    async fn deliver(&mut self, outbox: &mut Outbox, notice: &Notice) -> Fate {
        let mut refusals = 0;
        loop {
            let is_last = *self.leaving.borrow();
            let now_ms = self.sources.clock.wall_ms();
            let now = UNIX_EPOCH.checked_add(Duration::from_millis(now_ms));
            let sent = self.post.webhook.deliver(notice, now.unwrap_or(SystemTime::UNIX_EPOCH));
            let Err(fault) = sent.await else {
                self.board.delivered(now_ms);
                return Fate::Settled;
            };
            let failures = self.board.failed(fault, now_ms);
            refusals += u32::from(fault.is_about_message());
            self.log(notice, fault, failures);
            if fault.is_gone() {
                return Fate::Gone;
            }
            if refusals >= MAX_REFUSALS {
                return self.give_up(notice);
            }
            if is_last {
                return Fate::Left;
            }
            // Trouble of the ledger is told when the next message is taken.
            let _ = outbox.scan().await;
            self.board.wait(outbox, true);
            self.pause(pace::pause(failures, fault)).await;
        }
    }

    fn log(&self, notice: &Notice, fault: DeliveryFault, failures: u32) {
        let (webhook, sequence) = (&self.post.name, notice.sequence);
        let kind = &notice.kind;
        let words = "a webhook did not take a message; it is tried again";
        tracing::warn!(webhook, kind, sequence, failures, %fault, "{words}");
    }

    fn give_up(&self, notice: &Notice) -> Fate {
        let (webhook, sequence, kind) = (&self.post.name, notice.sequence, &notice.kind);
        let words = "a webhook refuses a message, again and again: it is given up";
        tracing::error!(webhook, kind, sequence, tag = notice.tag, text = notice.text, "{words}");
        self.board.dead.inc();
        Fate::Settled
    }

    /// Nothing is sent any more; what waits is still counted, and stays for a reload.
    async fn rest_in_peace(mut self, mut outbox: Outbox) {
        let webhook = &self.post.name;
        let words = "a webhook wants no more messages (410): nothing is sent until a reload";
        tracing::error!(webhook, "{words}");
        self.board.gone();
        while !*self.leaving.borrow() {
            let _ = outbox.scan().await;
            self.board.wait(&outbox, true);
            self.pause(LEDGER_PAUSE).await;
        }
    }
}

impl Board {
    pub(super) fn new(metrics: &NotifyMetrics, name: &str) -> Self {
        let count = |outcome| metrics.deliveries.with_label_values(&[name, outcome]);
        Self {
            state: Mutex::new(WebhookState { name: name.to_owned(), ..WebhookState::default() }),
            pending: metrics.pending.with_label_values(&[name]),
            last_success: metrics.last_success.with_label_values(&[name]),
            delivered: count("delivered"),
            failed: count("failed"),
            dead: count("dead"),
        }
    }

    /// Takes what is counted of this webhook out of the metrics: it is no more.
    pub(super) fn retire(&self, metrics: &NotifyMetrics) {
        let name = self.state().name;
        // What was never counted is not there.
        let _ = metrics.pending.remove_label_values(&[&name]);
        let _ = metrics.last_success.remove_label_values(&[&name]);
        for outcome in ["delivered", "failed", "dead"] {
            let _ = metrics.deliveries.remove_label_values(&[&name, outcome]);
        }
    }

    pub(super) fn state(&self) -> WebhookState {
        self.change(|state| state.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut WebhookState) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts what waits, and what is under way.
    fn wait(&self, outbox: &Outbox, is_one_taken: bool) {
        let pending = outbox.len() + u64::from(is_one_taken);
        self.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.change(|state| state.pending = pending);
    }

    fn delivered(&self, now_ms: u64) {
        self.delivered.inc();
        self.last_success.set(i64::try_from(now_ms / 1000).unwrap_or(i64::MAX));
        self.change(|state| {
            let (name, pending) = (std::mem::take(&mut state.name), state.pending);
            let last_success_ms = Some(now_ms);
            *state = WebhookState { name, pending, last_success_ms, ..WebhookState::default() };
        });
    }

    /// How many tries failed in a row.
    fn failed(&self, fault: DeliveryFault, now_ms: u64) -> u32 {
        self.failed.inc();
        self.change(|state| {
            state.state = State::Failing;
            state.failures = state.failures.saturating_add(1);
            state.failing_since_ms.get_or_insert(now_ms);
            state.last_error = Some(fault.to_string());
            state.failures
        })
    }

    fn gone(&self) {
        self.change(|state| state.state = State::Gone);
    }
}

#[cfg(test)]
mod tests;
