//! Fills: one writer that hashes while it writes, readers that follow the staged file.
//!
//! The last [`HOLD_BACK`] bytes leave only after the digest agreed, so a client sees the whole,
//! right blob or a broken connection, never a whole, wrong one.

mod reader;
mod verify;

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use thiserror::Error;
use tokio::sync::watch;

use super::BlobError;
use super::fs::Staged;

pub use reader::FillReader;
pub use verify::Verify;

/// What is held back until the digest agreed, in bytes.
pub const HOLD_BACK: u64 = 64 << 10;

/// A body broke: the client's connection must break too.
#[derive(Clone, Copy, Debug, Error)]
#[error("the upstream's body was wrong, cut or stalled")]
pub struct Broken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Broken,
    Running,
    Verified,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    written: u64,
    state: State,
}

/// A running or finished fill, as its readers see it.
#[derive(Clone)]
pub struct Fill {
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
    /// The length that the upstream announced, in bytes.
    pub size_bytes: Option<u64>,
}

/// The writing side of a fill.
pub struct Filler {
    staged: Staged,
    progress: watch::Sender<Progress>,
    size_bytes: Option<u64>,
}

impl Fill {
    /// A fill that will write into `staged`, and its writer.
    pub fn begin(staged: Staged, size_bytes: Option<u64>) -> io::Result<(Self, Filler)> {
        let file = Arc::new(staged.reader()?);
        let (sender, progress) = watch::channel(Progress { written: 0, state: State::Running });
        let filler = Filler { staged, progress: sender, size_bytes };
        Ok((Self { file, progress, size_bytes }, filler))
    }

    /// Follows the fill from byte `first` for `length` bytes, or to the end.
    pub fn read(&self, first: u64, length: Option<u64>) -> FillReader {
        let end = length.map(|length| first + length);
        FillReader::new(self.clone(), first, end)
    }

    /// Waits until the writer is gone: whether the content agreed with its digest, and by then is
    /// stored or never will be.
    pub async fn settled(&self) -> bool {
        let mut progress = self.progress.clone();
        while progress.changed().await.is_ok() {}
        let state = progress.borrow().state;
        state == State::Verified
    }

    /// Whether it failed: nobody should join it any more.
    pub fn is_broken(&self) -> bool {
        self.progress.borrow().state == State::Broken
    }

    /// Whether both follow the same writer.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Filler {
    /// Writes `body` until it ends, verifies, tells the readers and commits.
    ///
    /// The readers learn that the digest agreed before the content is synced and renamed: a
    /// crash between leaves only a staged file, and they read from their open one.
    pub async fn run<S, E>(mut self, mut body: S) -> Result<(), FillError<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let result = self.write(&mut body).await;
        let state = if result.is_ok() { State::Verified } else { State::Broken };
        self.progress.send_modify(|progress| progress.state = state);
        result?;
        tokio::task::spawn_blocking(move || self.staged.commit())
            .await
            .map_err(|_| FillError::Store(BlobError::Full("the process is stopping")))?
            .map_err(FillError::Store)
    }

    async fn write<S, E>(&mut self, body: &mut S) -> Result<(), FillError<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let mut written = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(FillError::Body)?;
            self.staged.write(&chunk).map_err(FillError::Store)?;
            written += chunk.len() as u64;
            self.progress.send_modify(|progress| progress.written = written);
        }
        if self.size_bytes.is_some_and(|size_bytes| size_bytes != written) {
            return Err(FillError::Cut);
        }
        self.staged.verify().map_err(FillError::Store)
    }
}

/// Why a fill failed. Nothing was stored.
#[derive(Debug, Error)]
pub enum FillError<E> {
    /// The upstream's body failed.
    #[error("the upstream's body failed")]
    Body(#[source] E),
    /// The body ended before its announced length.
    #[error("the upstream's body is shorter than it announced")]
    Cut,
    /// The store failed, or the bytes were wrong.
    #[error("the blob was not stored")]
    Store(#[source] BlobError),
}

impl<E> FillError<E> {
    /// Whether the body was at fault, not the store.
    pub const fn is_theirs(&self) -> bool {
        matches!(self, Self::Body(_) | Self::Cut | Self::Store(BlobError::Mismatch { .. }))
    }
}
