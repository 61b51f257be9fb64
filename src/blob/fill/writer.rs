//! The writing side of a fill: bytes are taken from the network while those before them are
//! written and hashed, on a thread that may wait for the disk.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use futures_util::stream::{self, StreamExt as _};
use futures_util::{Stream, TryStreamExt as _};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Broken, Progress, Rest, RunningFill, State};
use crate::blob::BlobError;
use crate::blob::fs::Staged;

/// So much is taken from the network, in bytes and a chunk more, while the same is being written.
const BATCH_BYTES: usize = 256 << 10;

/// The least that is, and what all fills take together while that allows it.
const LEAST_BATCH_BYTES: usize = 64 << 10;
const ALL_BATCHES_BYTES: usize = 8 << 20;

/// The writing side of a fill. Dropped before its end it breaks the readers and leaves nothing.
pub struct Filler {
    staged: Option<Staged>,
    progress: Arc<watch::Sender<Progress>>,
    running: RunningFill,
}

/// Bytes that came and are not written yet.
#[derive(Default)]
struct Batch {
    chunks: VecDeque<Bytes>,
    size_bytes: usize,
}

/// What became of a batch, and what of it is not written.
struct Written {
    staged: Staged,
    left: Batch,
    result: Result<(), BlobError>,
}

impl Filler {
    pub(super) fn new(
        staged: Staged,
        progress: watch::Sender<Progress>,
        running: RunningFill,
    ) -> Self {
        Self { staged: Some(staged), progress: Arc::new(progress), running }
    }

    /// Writes `body` until it ends, verifies, tells the readers and commits.
    ///
    /// The readers learn that the digest agreed before the content is synced and renamed: a
    /// crash between leaves only a staged file, and they read from their open one. If the store
    /// fails, one reader gets what is left of the body, still hashed.
    pub async fn run<S, E>(mut self, body: S) -> Result<(), FillError<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Send + 'static,
    {
        let result = self.write(body).await;
        let state = if result.is_ok() { State::Verified } else { State::Broken };
        self.progress.send_modify(|progress| {
            if progress.state == State::Running {
                progress.state = state;
            }
        });
        let staged = result?;
        spawn_blocking(move || staged.commit())
            .await
            .map_err(|_| stopping())?
            .map_err(FillError::Store)
    }

    async fn write<S, E>(&mut self, body: S) -> Result<Staged, FillError<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Send + 'static,
    {
        let mut body = body.fuse();
        let mut intake = Intake::new(self.running.0.size_bytes);
        let mut writing: Option<JoinHandle<Written>> = None;
        loop {
            if let Some(staged) = self.staged.take_if(|_| !intake.batch.is_empty()) {
                intake.share_with(staged.crowd());
                writing = Some(self.write_batch(staged, std::mem::take(&mut intake.batch)));
            }
            if intake.is_over && writing.is_none() {
                break;
            }
            tokio::select! {
                chunk = body.next(), if intake.has_room() => intake.take(chunk)?,
                Some(done) = OptionFuture::from(writing.as_mut()) => {
                    writing = None;
                    let Written { staged, left, result } = done.map_err(|_| stopping())?;
                    if let Err(error) = result {
                        let came = left.chunks.into_iter().chain(intake.batch.chunks);
                        self.hand_over(&staged, came, body);
                        return Err(FillError::Store(error));
                    }
                    self.staged = Some(staged);
                }
            }
        }
        self.verified()
    }

    fn verified<E>(&mut self) -> Result<Staged, FillError<E>> {
        let staged = self.staged.take().expect("nothing is being written");
        let written = self.progress.borrow().written;
        if self.running.0.size_bytes.is_some_and(|size_bytes| size_bytes != written) {
            return Err(FillError::Misses);
        }
        staged.verify().map_err(FillError::Store)?;
        Ok(staged)
    }

    /// Writes and hashes a batch where it may take its time, and shows it to the readers.
    fn write_batch(&self, mut staged: Staged, mut batch: Batch) -> JoinHandle<Written> {
        let progress = Arc::clone(&self.progress);
        spawn_blocking(move || {
            let mut result = Ok(());
            let mut written = 0;
            while let Some(chunk) = batch.chunks.front()
                && result.is_ok()
            {
                result = staged.write(chunk);
                if result.is_ok() {
                    written += chunk.len() as u64;
                    batch.chunks.pop_front();
                }
            }
            progress.send_modify(|progress| progress.written += written);
            Written { staged, left: batch, result }
        })
    }

    /// Leaves what the store does not take to a reader. A body of unknown length may have no end:
    /// then nobody gets it.
    fn hand_over<S, E>(&self, staged: &Staged, came: impl Iterator<Item = Bytes>, body: S)
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    {
        if self.running.0.size_bytes.is_none() {
            return;
        }
        let came: Vec<_> = came.map(Ok).collect();
        let rest = Rest {
            body: stream::iter(came).chain(body.map_err(|_| Broken)).boxed(),
            hasher: staged.hasher(),
            claimed: staged.claimed(),
            from: self.progress.borrow().written,
        };
        *self.running.0.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
        self.progress.send_modify(|progress| progress.state = State::Unstored);
    }
}

/// What comes from the network.
struct Intake {
    batch: Batch,
    /// So much may wait in `batch`, in bytes.
    room: usize,
    came: u64,
    most: u64,
    is_over: bool,
}

impl Intake {
    fn new(size_bytes: Option<u64>) -> Self {
        let most = size_bytes.unwrap_or(u64::MAX);
        Self { batch: Batch::default(), room: BATCH_BYTES, came: 0, most, is_over: false }
    }

    fn has_room(&self) -> bool {
        !self.is_over && self.batch.size_bytes < self.room
    }

    /// So many fills share the memory.
    fn share_with(&mut self, fills: usize) {
        self.room = (ALL_BATCHES_BYTES / fills.max(1)).clamp(LEAST_BATCH_BYTES, BATCH_BYTES);
    }

    fn take<E>(&mut self, chunk: Option<Result<Bytes, E>>) -> Result<(), FillError<E>> {
        let Some(chunk) = chunk else {
            self.is_over = true;
            return Ok(());
        };
        let chunk = chunk.map_err(FillError::Body)?;
        self.came += chunk.len() as u64;
        if self.came > self.most {
            return Err(FillError::Misses);
        }
        self.batch.push(chunk);
        Ok(())
    }
}

impl Batch {
    fn push(&mut self, chunk: Bytes) {
        self.size_bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

const fn stopping<E>() -> FillError<E> {
    FillError::Store(BlobError::Full("the process is stopping"))
}

/// Why a fill failed. Nothing was stored.
#[derive(Debug, Error)]
pub enum FillError<E> {
    /// The upstream's body failed.
    #[error("the upstream's body failed")]
    Body(#[source] E),
    /// The body misses its announced length.
    #[error("the upstream's body is not as long as it announced")]
    Misses,
    /// The store failed, or the bytes were wrong.
    #[error("the blob was not stored")]
    Store(#[source] BlobError),
}

impl<E> FillError<E> {
    /// Whether the body was at fault, not the store.
    pub const fn is_theirs(&self) -> bool {
        matches!(self, Self::Body(_) | Self::Misses | Self::Store(BlobError::Mismatch { .. }))
    }
}
