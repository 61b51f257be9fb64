//! Events that wait to be told to one webhook: order, repeats and bounds, without ledger or time.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::time::Duration;

use super::outbox::Limits;
use crate::event::Event;
use crate::policy::judge::is_within;

/// So many events may have one that stands for them before the rest is told one by one.
const MAX_PASSED: usize = 1000;

/// An event that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) sequence: u64,
    pub(super) time_ms: u64,
    /// Equal for what is told by one message: the same kind, tag and digests.
    subject: u64,
}

/// Events that are not told one by one, since too many waited too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) count: u64,
    pub(super) first: Waiting,
    pub(super) last: Waiting,
}

/// What is to be told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// An event, and the earlier ones that it stands for, oldest first.
    Event(Waiting, Vec<Waiting>),
    /// That some are not told.
    Skipped(Skipped),
}

/// What waits, in order.
pub(super) struct Queue {
    limits: Limits,
    /// Nobody outside can make two events look the same, and so hide one behind another.
    keys: RandomState,
    waiting: VecDeque<Waiting>,
    /// The last event in `waiting` of each subject.
    last: HashMap<u64, u64>,
    passed: Vec<Waiting>,
    skipped: Option<Skipped>,
}

impl Waiting {
    /// A place between events: nothing is the same.
    pub(super) const fn at(sequence: u64, time_ms: u64) -> Self {
        Self { sequence, time_ms, subject: 0 }
    }
}

impl Next {
    /// The last event that is told by it.
    pub(super) const fn last(&self) -> Waiting {
        match self {
            Self::Event(event, _) => *event,
            Self::Skipped(skipped) => skipped.last,
        }
    }
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        let (waiting, last) = (VecDeque::new(), HashMap::new());
        let keys = RandomState::new();
        Self { limits, keys, waiting, last, passed: Vec::new(), skipped: None }
    }

    /// An event as it waits here.
    pub(super) fn waiting(&self, event: &Event) -> Waiting {
        let what = (event.kind, &event.key, event.pinned, event.observed_digest());
        let subject = self.keys.hash_one(what);
        Waiting { sequence: event.sequence, time_ms: event.time_ms, subject }
    }

    /// Adds the next event; the oldest is skipped if too many wait.
    pub(super) fn push(&mut self, event: Waiting) {
        self.last.insert(event.subject, event.sequence);
        self.waiting.push_back(event);
        while self.waiting.len() > self.limits.most {
            self.skip();
        }
    }

    /// Adds an event that a later one stands for.
    pub(super) fn push_passed(&mut self, event: Waiting) {
        self.passed.push(event);
    }

    /// Skips what has waited too long, but for the newest few: a clock that jumps must not silence
    /// them.
    pub(super) fn expire(&mut self, now_ms: u64) {
        let Limits { oldest, always, .. } = self.limits;
        let is_old = |event: &Waiting| !is_within(event.time_ms, now_ms, oldest);
        while self.waiting.len() > always && self.waiting.front().is_some_and(is_old) {
            self.skip();
        }
    }

    /// Takes what is to be told next. An event is not told as long as one that says the same of
    /// the same tag waits behind it: that one will stand for it.
    pub(super) fn take(&mut self) -> Option<Next> {
        if let Some(skipped) = self.skipped.take() {
            return Some(Next::Skipped(skipped));
        }
        if self.waiting.is_empty() {
            // Nothing stands for these any more, as when a reload tells other kinds of events.
            self.waiting = std::mem::take(&mut self.passed).into();
            self.last = self.waiting.iter().map(|event| (event.subject, event.sequence)).collect();
        }
        loop {
            let event = self.pop()?;
            let has_later =
                self.last.get(&event.subject).is_some_and(|last| *last > event.sequence);
            if has_later && self.passed.len() < MAX_PASSED {
                self.passed.push(event);
                continue;
            }
            let same = |other: &mut Waiting| other.subject == event.subject;
            return Some(Next::Event(event, self.passed.extract_if(.., same).collect()));
        }
    }

    /// The events that others stand for, which are not told yet.
    pub(super) fn passed(&self) -> Vec<u64> {
        self.passed.iter().map(|event| event.sequence).collect()
    }

    /// How many events wait.
    pub(super) fn len(&self) -> u64 {
        let skipped = self.skipped.map_or(0, |skipped| skipped.count);
        (self.waiting.len() + self.passed.len()) as u64 + skipped
    }

    fn pop(&mut self) -> Option<Waiting> {
        let event = self.waiting.pop_front()?;
        if self.last.get(&event.subject) == Some(&event.sequence) {
            self.last.remove(&event.subject);
        }
        Some(event)
    }

    /// Gives the oldest up, and those it would have stood for.
    fn skip(&mut self) {
        let Some(event) = self.pop() else { return };
        let has_later = self.last.contains_key(&event.subject);
        let same = |other: &mut Waiting| other.subject == event.subject && !has_later;
        let count = 1 + self.passed.extract_if(.., same).count() as u64;
        let skipped = self.skipped.get_or_insert(Skipped { count: 0, first: event, last: event });
        skipped.count += count;
        skipped.last = event;
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { most: 10_000, oldest: Duration::from_hours(7 * 24), always: 100 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn queue(most: usize, always: usize) -> Queue {
        Queue::new(Limits { most, oldest: Duration::from_hours(24), always })
    }

    /// Event number `sequence` about a subject.
    fn event(sequence: u64, subject: u64) -> Waiting {
        Waiting { sequence, time_ms: sequence, subject }
    }

    /// All that is told, as `last sequence: earlier ones`.
    fn drained(queue: &mut Queue) -> Vec<String> {
        let one = |next: Next| match next {
            Next::Event(event, same) => {
                let same: Vec<_> = same.iter().map(|it| it.sequence).collect();
                format!("{}: {same:?}", event.sequence)
            }
            Next::Skipped(it) => {
                format!("skipped {} in {}..={}", it.count, it.first.sequence, it.last.sequence)
            }
        };
        std::iter::from_fn(|| queue.take()).map(one).collect()
    }

    #[test]
    fn events_are_told_in_order_and_repeats_by_the_last_of_them() {
        let mut queue = queue(10, 10);
        for (at, what) in [(1, 7), (2, 8), (3, 7), (4, 9), (5, 7)] {
            queue.push(event(at, what));
        }
        assert_eq!(queue.len(), 5);
        assert_eq!(drained(&mut queue), ["2: []", "4: []", "5: [1, 3]"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_was_passed_over_is_remembered_until_it_is_told() {
        let mut queue = queue(10, 10);
        for (at, what) in [(1, 7), (2, 8), (3, 7)] {
            queue.push(event(at, what));
        }
        assert_eq!(queue.take(), Some(Next::Event(event(2, 8), vec![])));
        assert_eq!(queue.passed(), [1]);
        let mut again = self::queue(10, 10);
        again.push_passed(event(1, 7));
        again.push(event(3, 7));
        assert_eq!(drained(&mut again), ["3: [1]"]);
        let mut orphan = self::queue(10, 10);
        orphan.push_passed(event(1, 7));
        assert_eq!(drained(&mut orphan), ["1: []"]);
    }

    #[test]
    fn of_too_many_the_oldest_are_told_by_one_message_that_counts_them() {
        let mut queue = queue(3, 3);
        (1..=10).for_each(|at| queue.push(event(at, at % 6)));
        assert_eq!(queue.len(), 10);
        let told = drained(&mut queue);
        assert_eq!(told, ["skipped 7 in 1..=7", "8: []", "9: []", "10: []"]);
    }

    #[test]
    fn what_waited_too_long_is_counted_but_the_newest_are_told_whatever_the_clock_says() {
        let mut queue = queue(100, 2);
        (1..=5).for_each(|at| queue.push(event(at, at)));
        queue.expire(DAY_MS / 2);
        assert_eq!(queue.len(), 5);
        queue.expire(400 * DAY_MS);
        assert_eq!(drained(&mut queue), ["skipped 3 in 1..=3", "4: []", "5: []"]);
    }

    #[test]
    fn a_skipped_event_takes_along_those_that_it_stood_for() {
        let mut queue = queue(2, 0);
        for (at, what) in [(1, 7), (2, 8), (3, 7)] {
            queue.push(event(at, what));
        }
        // 1 was skipped when 3 came, which did not need it.
        assert_eq!(drained(&mut queue), ["skipped 1 in 1..=1", "2: []", "3: []"]);
        queue.push_passed(event(4, 7));
        queue.push(event(5, 7));
        queue.expire(9 * DAY_MS);
        assert_eq!(drained(&mut queue), ["skipped 2 in 5..=5"]);
    }
}
