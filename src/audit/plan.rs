//! Looking through the ledger for what is due next, page by page, slowly.

use std::cmp::Reverse;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Audit;
use super::schedule::{Moment, is_watched, period};
use crate::ledger::LedgerError;
use crate::pin::{PinKey, TagState};

/// How many tags are read from the ledger at once.
pub(super) const PAGE: usize = 200;

/// So many tags are planned at most; of more, so many at random, and the others come later.
const PLANNED: usize = 50_000;

/// After each page it rests so many times as long as it took.
const REST: u32 = 4;

/// A tag and when it is due.
pub(super) struct Planned {
    pub(super) at: Duration,
    pub(super) period: Duration,
    pub(super) key: PinKey,
}

/// What is planned, with a bound.
#[derive(Default)]
struct Plan {
    planned: Vec<Planned>,
    found: usize,
    watched: i64,
    random: RandomState,
}

impl Audit {
    /// What is due in `span`, the last first.
    pub(super) async fn plan(
        self: &Arc<Self>,
        interval: Duration,
        span: Range<Duration>,
    ) -> Result<Vec<Planned>, LedgerError> {
        let mut plan = Plan::default();
        let mut after: Option<PinKey> = None;
        loop {
            let begun = Instant::now();
            let page = self.pull.edges().ledger.list(after.as_ref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, state) in page {
                self.consider(&mut plan, (key, &state), interval, &span);
            }
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
        self.pull.edges().metrics.audit.watched.set(plan.watched);
        for _ in plan.planned.len()..plan.found {
            self.count("late");
        }
        plan.planned.sort_unstable_by_key(|planned| Reverse(planned.at));
        Ok(plan.planned)
    }

    fn consider(
        &self,
        plan: &mut Plan,
        (key, state): (PinKey, &TagState),
        interval: Duration,
        span: &Range<Duration>,
    ) {
        if !is_watched(state) {
            return;
        }
        plan.watched += 1;
        let (rule, now) = (self.pull.covering_rule(&key), self.now());
        let period = period(interval, state, rule.as_deref(), now);
        let tag = (&key, state);
        let Moment { at, period } =
            self.schedule.due(tag, rule.as_deref(), period, span.start, now);
        if at < span.end {
            plan.add(Planned { at, period, key });
        }
    }
}

impl Plan {
    fn add(&mut self, planned: Planned) {
        self.found += 1;
        if self.planned.len() < PLANNED {
            return self.planned.push(planned);
        }
        // Each that was found has the same chance to stay.
        let place = self.random.hash_one(self.found) % self.found as u64;
        if let Some(place) = usize::try_from(place).ok().filter(|place| *place < PLANNED) {
            self.planned[place] = planned;
        }
    }
}
