//! Reading a blob while it is filled.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::{Broken, Fill, HOLD_BACK, Progress, Remainder, State};

/// How much a reader takes from the file at once, in bytes.
const READ_SIZE: u64 = 256 << 10;

/// One reader of a fill.
pub struct FillReader {
    pub(super) fill: Fill,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) at: u64,
    pub(super) end: Option<u64>,
    /// Where the bytes come from once the store failed.
    pub(super) rest: Option<Remainder>,
}

impl FillReader {
    /// The next bytes, as soon as they may leave; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        if let Some(rest) = &mut self.rest {
            return rest.next().await;
        }
        loop {
            let progress = *self.progress.borrow_and_update();
            let end = self.end.unwrap_or(u64::MAX);
            let visible = self.visible(progress).min(end);
            if visible > self.at {
                let chunk =
                    read_chunk(&self.fill.running.0.file, self.at, visible).map_err(|_| Broken);
                self.at += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                return Some(chunk);
            }
            match progress.state {
                _ if self.at >= end => return None,
                State::Verified => return None,
                State::Broken => return Some(Err(Broken)),
                State::Unstored => {
                    let Some(Ok(rest)) = self.fill.take_rest(self.at, self.end) else {
                        return Some(Err(Broken));
                    };
                    return self.rest.insert(rest).next().await;
                }
                State::Running if self.progress.changed().await.is_err() => {
                    // The writer is gone: it said how it ended, or it was dropped.
                    if self.progress.borrow().state == State::Running {
                        return Some(Err(Broken));
                    }
                }
                State::Running => {}
            }
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

/// Reads from `at`, at most to `end` and at most [`READ_SIZE`] bytes; the bytes must be there.
pub fn read_chunk(file: &File, at: u64, end: u64) -> io::Result<Bytes> {
    let length = usize::try_from((end - at).min(READ_SIZE)).unwrap_or(usize::MAX);
    let mut buffer = BytesMut::zeroed(length);
    file.read_exact_at(&mut buffer, at)?;
    Ok(buffer.freeze())
}
