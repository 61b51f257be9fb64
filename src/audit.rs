//! Watching: every pin, and every tag with an open question, is asked for again though nobody pulls
//! it.
//!
//! [`schedule`] says when, and remembers nothing. [`Audit::run`] looks through the ledger a few
//! minutes ahead ([`plan`]), and hands each tag, when it is due, to the [`lane`] of its upstream,
//! where it waits for room. A look is the pull path's own ([`Pull::audit_tag`]): same judgement, same
//! event. [`now`] is for a person who does not want to wait.

mod lane;
pub mod now;
mod plan;
mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinSet;

use crate::ledger::{LedgerError, RETRY_AFTER};
use crate::oci::Registry;
use crate::pin::PinKey;
use crate::pull::Pull;
use lane::LANE;
use plan::Planned;
use schedule::{Now, Schedule};

/// How often the clock, the settings and what is due are looked at, at least.
const BEAT: Duration = Duration::from_secs(1);

/// So long, or for `audit.interval` if that is longer, a tag may wait until the log says so.
const LATE: Duration = Duration::from_hours(1);

/// Who watches.
pub struct Audit {
    pull: Arc<Pull>,
    schedule: Schedule,
    /// How many tags wait, by when they were due.
    waiting: Mutex<BTreeMap<Duration, usize>>,
}

/// A tag that is due.
struct Due {
    at: Duration,
    period: Duration,
    key: PinKey,
    audit: Arc<Audit>,
}

/// What one run has in hand.
struct Run {
    audit: Arc<Audit>,
    interval: Duration,
    /// Until when it is planned.
    until: Duration,
    /// What is due until then, the last first.
    planned: Vec<Planned>,
    lanes: HashMap<Registry, Sender<Due>>,
    running: JoinSet<()>,
    /// Whether the log says that tags wait for long.
    is_late: bool,
}

impl Audit {
    /// A watch over what the ledger of `pull` has.
    pub fn new(pull: Arc<Pull>) -> Arc<Self> {
        let waiting = Mutex::default();
        Arc::new(Self { pull, schedule: Schedule::new(), waiting })
    }

    /// Watches until it is dropped. A new `audit.interval` counts from the next second on.
    pub async fn run(self: Arc<Self>) {
        let mut run = Run {
            interval: Duration::ZERO,
            until: self.now().monotonic,
            planned: Vec::new(),
            lanes: HashMap::new(),
            running: JoinSet::new(),
            is_late: false,
            audit: self,
        };
        loop {
            let pause = run.step().await;
            tokio::time::sleep(pause).await;
        }
    }

    fn now(&self) -> Now {
        let clock = &self.pull.edges().clock;
        Now { monotonic: clock.monotonic(), wall_ms: clock.wall_ms() }
    }

    fn count(&self, outcome: &str) {
        self.pull.edges().metrics.audit.asks.with_label_values(&[outcome]).inc();
    }

    /// How long the tag has waited that waits longest.
    fn show_waiting(&self) -> Duration {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.values().sum::<usize>();
        let oldest = waiting.keys().next().copied();
        drop(waiting);
        let late = oldest.map_or(Duration::ZERO, |at| self.now().monotonic.saturating_sub(at));
        let metrics = &self.pull.edges().metrics.audit;
        metrics.overdue.set(i64::try_from(count).unwrap_or(i64::MAX));
        metrics.oldest_due_seconds.set(i64::try_from(late.as_secs()).unwrap_or(i64::MAX));
        late
    }
}

impl Run {
    /// Does what is due now; until when to rest.
    async fn step(&mut self) -> Duration {
        let settings = self.audit.pull.settings();
        let now = self.audit.now();
        if settings.audit_interval != self.interval {
            self.interval = settings.audit_interval;
            (self.until, self.planned) = (now.monotonic, Vec::new());
        }
        if self.interval.is_zero() {
            self.until = now.monotonic;
            return BEAT;
        }
        if now.monotonic >= self.until
            && let Err(error) = self.look_ahead(now).await
        {
            if !matches!(error, LedgerError::Rebuilding) {
                tracing::warn!(%error, "the ledger gives no list of what is to be watched");
            }
            return RETRY_AFTER;
        }
        while let Some(next) = self.planned.pop_if(|next| next.at <= now.monotonic) {
            self.hand_over(next);
        }
        let late = self.audit.show_waiting();
        self.tell_late(late);
        let next = self.planned.last().map_or(self.until, |next| next.at.min(self.until));
        next.saturating_sub(now.monotonic).clamp(Duration::from_millis(1), BEAT)
    }

    /// Says once when tags wait for longer than they may, and once when they no longer do.
    fn tell_late(&mut self, late: Duration) {
        let is_late = late > self.interval.max(LATE);
        if std::mem::replace(&mut self.is_late, is_late) == is_late {
            return;
        }
        if is_late {
            let late_s = late.as_secs();
            tracing::error!(
                late_s,
                "tags wait to be asked for: an upstream hangs, fails or limits us; \
                 nobody notices if they move"
            );
        } else {
            tracing::info!("tags are asked for in time again");
        }
    }

    /// Finds what is due from where the last look ended.
    async fn look_ahead(&mut self, now: Now) -> Result<(), LedgerError> {
        let settings = self.audit.pull.settings();
        let rules = settings.policy.rules.iter().map(AsRef::as_ref);
        let until = now.monotonic + schedule::reach(self.interval, rules);
        self.planned = self.audit.plan(self.interval, self.until..until).await?;
        self.until = until;
        self.audit.pull.edges().metrics.audit.rounds.inc();
        // Lanes that have nothing to do end; what they still ask for goes on.
        self.lanes.retain(|_, lane| lane.capacity() < LANE);
        while self.running.try_join_next().is_some() {}
        Ok(())
    }

    fn hand_over(&mut self, Planned { at, period, key }: Planned) {
        let lane = self.lanes.entry(key.registry.clone()).or_insert_with(|| {
            let (to, due) = channel(LANE);
            self.running.spawn(lane::run(due));
            to
        });
        let audit = Arc::clone(&self.audit);
        if lane.try_send(Due::new(audit, at, period, key)).is_err() {
            self.audit.count("late");
        }
    }
}

impl Due {
    fn new(audit: Arc<Audit>, at: Duration, period: Duration, key: PinKey) -> Self {
        let mut waiting = audit.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting.entry(at).or_default() += 1;
        drop(waiting);
        Self { at, period, key, audit }
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        let mut waiting = self.audit.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.at);
            }
        }
    }
}
