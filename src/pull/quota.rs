//! `max-new-tags-per-hour`: nobody fills the ledger by asking for tags that it does not know.
//!
//! Counted is what is written: a tag that the upstream does not have, or whose answer is not valid,
//! takes no place. An hour begins with its first new tag; a restart begins it anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Pull;
use super::refusal::{Reason, Refusal};
use crate::event::{Draft, EventKind};
use crate::pin::TagState;
use crate::policy::judge::is_within;
use crate::units::Span;
use crate::upstream::Upstream;

const HOUR: Duration = Duration::from_hours(1);

/// How many new tags each upstream brought in its hour: one entry for each name or pattern of the
/// configuration and the built-in list.
#[derive(Default)]
pub(super) struct Quota(Mutex<HashMap<String, Window>>);

#[derive(Clone, Copy, Default)]
struct Window {
    since_ms: u64,
    taken: u32,
    is_told: bool,
}

/// The place of one new tag; given back unless it is kept.
pub(super) struct Taken<'a> {
    quota: &'a Quota,
    name: String,
    is_kept: bool,
}

/// There is no place any more.
#[derive(Debug, PartialEq, Eq)]
struct Full {
    /// Nobody was told so in this hour.
    is_first: bool,
    /// Until the next hour.
    wait: Duration,
}

impl Quota {
    fn take(&self, name: &str, most: u32, now_ms: u64) -> Result<Taken<'_>, Full> {
        let mut windows = self.lock();
        let window = windows.entry(name.to_owned()).or_default();
        if !is_within(window.since_ms, now_ms, HOUR) || window.taken == 0 {
            *window = Window { since_ms: now_ms, ..Window::default() };
        }
        if window.taken >= most {
            let is_first = !std::mem::replace(&mut window.is_told, true);
            let gone = Duration::from_millis(now_ms.saturating_sub(window.since_ms));
            return Err(Full { is_first, wait: HOUR.saturating_sub(gone) });
        }
        window.taken += 1;
        Ok(Taken { quota: self, name: name.to_owned(), is_kept: false })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    /// The tag is written: its place, if it took one, is not given back.
    pub(super) fn keep(taken: Option<Self>) {
        if let Some(mut taken) = taken {
            taken.is_kept = true;
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_kept
            && let Some(window) = self.quota.lock().get_mut(&self.name)
        {
            window.taken = window.taken.saturating_sub(1);
        }
    }
}

impl Pull {
    /// A place for a tag that the ledger has never heard of; `None`: it needs none.
    ///
    /// A refusal says so in words, and that no more come is written down once an hour.
    pub(super) fn take_new(
        self: &Arc<Self>,
        upstream: &Upstream,
        state: &TagState,
    ) -> Result<Option<Taken<'_>>, Refusal> {
        let most = upstream.config.max_new_tags_per_hour;
        if most == 0 || state.sequence != 0 {
            return Ok(None);
        }
        let name = self.settings.load().upstreams.label(&upstream.name).to_owned();
        match self.memory.quota.take(&name, most, self.now_ms()) {
            Ok(taken) => Ok(Some(taken)),
            Err(full) => {
                self.edges.metrics.limits.new_tags_refused.with_label_values(&[&name]).inc();
                if full.is_first {
                    self.tell_flooded(name.clone(), most);
                }
                Err(refusal(&name, most, full.wait))
            }
        }
    }

    fn tell_flooded(self: &Arc<Self>, upstream: String, most: u32) {
        tracing::warn!(
            upstream,
            max_new_tags_per_hour = most,
            "no more new tags are taken in this hour: covered ones are refused, recorded ones \
             served and not written down"
        );
        let pull = Arc::clone(self);
        tokio::spawn(async move {
            let draft = Draft {
                why: format!("{upstream}: max-new-tags-per-hour is {most}"),
                ..Draft::new(EventKind::Flooded, None)
            };
            match pull.edges.ledger.append_global(draft).await {
                Ok(event) => {
                    pull.edges.metrics.events.with_label_values(&[event.kind.name()]).inc();
                }
                Err(error) => tracing::warn!(%error, "a flood could not be written down"),
            }
        });
    }
}

fn refusal(name: &str, most: u32, wait: Duration) -> Refusal {
    let wait = Duration::from_secs(wait.as_secs().max(1));
    Refusal {
        help: format!("to take more: max-new-tags-per-hour in [upstream.{name:?}]"),
        retry_after: Some(wait),
        ..Refusal::new(
            Reason::Overloaded,
            format!(
                "{most} tags of {name} that were never seen were taken within an hour, and no more \
                 are; try again in {}",
                Span(wait)
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn an_hour_takes_so_many_and_tells_once_that_it_is_full() {
        let quota = Quota::default();
        for _ in 0..2 {
            Taken::keep(quota.take("a", 2, 1000).ok());
        }
        let full = |now_ms| quota.take("a", 2, now_ms).err();
        let half = Duration::from_mins(30);
        let wait = |is_first, wait| Some(Full { is_first, wait });
        assert_eq!(full(1000 + HOUR_MS / 2), wait(true, half));
        assert_eq!(full(1000 + HOUR_MS / 2), wait(false, half));
        assert!(quota.take("b", 2, 1000 + HOUR_MS / 2).is_ok(), "another upstream has its own");
        assert!(quota.take("a", 2, 1000 + HOUR_MS).is_ok());
    }

    #[test]
    fn what_was_not_written_takes_no_place() {
        let quota = Quota::default();
        for _ in 0..10 {
            drop(quota.take("a", 1, 1000).unwrap_or_else(|full| panic!("{full:?}")));
        }
        assert!(quota.take("a", 1, 1000).is_ok());
    }
}
