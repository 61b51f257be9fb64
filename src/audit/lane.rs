//! The tags of one upstream, one after the other: none that hangs holds up those of another.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::Receiver;

use super::Due;
use crate::pull::{Looked, Pull};

/// How many tags of one upstream may wait.
pub(super) const LANE: usize = 10_000;

/// How many of them are asked for at once: a small part of `max-connections`.
pub(super) const AT_ONCE: usize = 4;

/// The longest that a lane waits for room without looking again: settings may have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Asks for what comes until nothing more does.
pub(super) async fn run(due: Receiver<Due>) {
    let due = stream::unfold(due, |mut due| async { due.recv().await.map(|one| (one, due)) });
    due.for_each_concurrent(AT_ONCE, |due| async move { due.ask().await }).await;
}

impl Due {
    async fn ask(self) {
        let pull = &self.audit.pull;
        while let Some(wait) = self.wait_for_room(pull) {
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
        }
        let settings = pull.settings();
        if settings.offline || settings.audit_interval.is_zero() || self.was_just_asked() {
            return;
        }
        self.audit.count(name(&pull.audit_tag(&self.key).await));
    }

    fn wait_for_room(&self, pull: &Pull) -> Option<Duration> {
        let upstream = pull.audited_upstream(&self.key).ok()?;
        if pull.settings().offline { None } else { upstream.reserved_for() }
    }

    /// Whether somebody asked so lately that the next moment of the tag is soon enough.
    fn was_just_asked(&self) -> bool {
        let Self { period, key, audit, .. } = self;
        let now = audit.now().monotonic;
        let asked = audit.pull.asked_at(key);
        asked.is_some_and(|asked| audit.schedule.is_soon_enough(key, *period, asked, now))
    }
}

/// As metrics and `audit now` call it.
pub(super) const fn name(looked: &Looked) -> &'static str {
    match looked {
        Looked::Conflict { .. } => "conflict",
        Looked::Failed(_) => "error",
        Looked::Gone => "gone",
        Looked::Match => "match",
        Looked::Pending => "pending",
        Looked::Skipped(_) => "skipped",
    }
}
