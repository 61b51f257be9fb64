//! Reading a blob while it is filled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::{Broken, Fill, HOLD_BACK, Progress, Remainder, State};
use crate::blob::extent::Extent;

/// How long a reader that has all there is waits before it looks again, at least and at most:
/// bytes come in small pieces, and a wake for each costs more than moving them.
const PACES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(8)];

/// What may leave.
#[derive(Debug)]
pub enum Piece {
    /// Bytes that lie in no file: the store failed.
    Bytes(Bytes),
    /// Bytes of the staged file.
    Extent(Extent),
}

/// One reader of a fill.
pub struct FillReader {
    fill: Fill,
    progress: watch::Receiver<Progress>,
    at: u64,
    end: Option<u64>,
    /// How long to wait before looking again; nothing before the first bytes.
    pace: Duration,
    /// Where the bytes come from once the store failed.
    rest: Option<Remainder>,
}

impl FillReader {
    pub(super) fn new(fill: Fill, at: u64, end: Option<u64>) -> Self {
        let progress = fill.progress();
        Self { fill, progress, at, end, pace: Duration::ZERO, rest: None }
    }

    /// What may leave next, as soon as something may; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Piece, Broken>> {
        if let Some(rest) = &mut self.rest {
            return Some(rest.next().await?.map(Piece::Bytes));
        }
        loop {
            let progress = *self.progress.borrow_and_update();
            let end = self.end.unwrap_or(u64::MAX);
            let visible = self.visible(progress).min(end);
            if visible > self.at {
                let file = Arc::clone(&self.fill.running.0.file);
                let extent = Extent { file, at: self.at, end: visible };
                self.at = visible;
                self.pace = (self.pace * 2).clamp(PACES[0], PACES[1]);
                return Some(Ok(Piece::Extent(extent)));
            }
            match progress.state {
                _ if self.at >= end => return None,
                State::Verified => return None,
                State::Broken => return Some(Err(Broken)),
                State::Unstored => {
                    let Some(Ok(rest)) = self.fill.take_rest(self.at, self.end) else {
                        return Some(Err(Broken));
                    };
                    return Some(self.rest.insert(rest).next().await?.map(Piece::Bytes));
                }
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
        match self.progress.changed().await {
            Err(_) if self.progress.borrow().state == State::Running => Err(Broken),
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

#[cfg(test)]
impl Piece {
    /// The bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        use std::os::unix::fs::FileExt as _;
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Extent(extent) => {
                let mut bytes = vec![0; usize::try_from(extent.len()).expect("it is small")];
                extent.file.read_exact_at(&mut bytes, extent.at).expect("the bytes are there");
                bytes
            }
        }
    }
}
