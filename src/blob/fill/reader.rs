//! Reading a blob while it is filled.

use std::sync::Arc;
use std::time::Duration;

use super::{Broken, Fill, HOLD_BACK, Progress, State};
use crate::blob::extent::Extent;

/// How long a reader that has all there is waits before it looks again, at least and at most:
/// bytes come in small pieces, and a wake for each costs more than moving them.
const PACES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(8)];

/// One reader of a fill.
pub struct FillReader {
    fill: Fill,
    at: u64,
    end: Option<u64>,
    /// How long to wait before looking again; nothing before the first bytes.
    pace: Duration,
}

impl FillReader {
    pub(super) const fn new(fill: Fill, at: u64, end: Option<u64>) -> Self {
        Self { fill, at, end, pace: Duration::ZERO }
    }

    /// What may leave next, as soon as something may; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Extent, Broken>> {
        loop {
            let progress = *self.fill.progress.borrow_and_update();
            let end = self.end.unwrap_or(u64::MAX);
            let visible = self.visible(progress).min(end);
            if visible > self.at {
                let extent =
                    Extent { file: Arc::clone(&self.fill.file), at: self.at, end: visible };
                self.at = visible;
                self.pace = (self.pace * 2).clamp(PACES[0], PACES[1]);
                return Some(Ok(extent));
            }
            match progress.state {
                _ if self.at >= end => return None,
                State::Verified => return None,
                State::Broken => return Some(Err(Broken)),
                State::Running => {
                    if let Err(broken) = self.wait().await {
                        return Some(Err(broken));
                    }
                }
            }
        }
    }

    /// Waits for news. The writer says how it ends; one that is gone without was dropped.
    async fn wait(&mut self) -> Result<(), Broken> {
        if self.pace > Duration::ZERO {
            tokio::time::sleep(self.pace).await;
        }
        match self.fill.progress.changed().await {
            Err(_) if self.fill.progress.borrow().state == State::Running => Err(Broken),
            _ => Ok(()),
        }
    }

    fn visible(&self, progress: Progress) -> u64 {
        match (progress.state, self.fill.size_bytes) {
            (State::Verified, _) => progress.written,
            (_, Some(size_bytes)) => progress.written.min(size_bytes.saturating_sub(HOLD_BACK)),
            (_, None) => progress.written.saturating_sub(HOLD_BACK),
        }
    }
}
