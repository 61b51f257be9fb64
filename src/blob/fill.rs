//! Fills: one writer that hashes while it writes, readers that follow the staged file.
//!
//! The last [`HOLD_BACK`] bytes leave only after the digest agreed, so a client sees the whole,
//! right blob or a broken connection, never a whole, wrong one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use thiserror::Error;
use tokio::sync::watch;

use super::BlobError;
use super::fs::Staged;
use crate::oci::{Digest, Hasher};

/// What is held back until the digest agreed, in bytes.
pub const HOLD_BACK: u64 = 64 << 10;

/// How much a reader takes from the file at once, in bytes.
const READ_SIZE: u64 = 256 << 10;

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
        FillReader { fill: self.clone(), at: first, end }
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

/// One reader of a fill.
pub struct FillReader {
    fill: Fill,
    at: u64,
    end: Option<u64>,
}

impl FillReader {
    /// The next bytes, as soon as they may leave; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        loop {
            let progress = *self.fill.progress.borrow_and_update();
            let end = self.end.unwrap_or(u64::MAX);
            let visible = self.visible(progress).min(end);
            if visible > self.at {
                let chunk = read_chunk(&self.fill.file, self.at, visible).map_err(|_| Broken);
                self.at += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                return Some(chunk);
            }
            match progress.state {
                _ if self.at >= end => return None,
                State::Verified => return None,
                State::Broken => return Some(Err(Broken)),
                State::Running if self.fill.progress.changed().await.is_err() => {
                    // The writer is gone: it said how it ended, or it was dropped.
                    if self.fill.progress.borrow().state == State::Running {
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

/// Streams `body` without storing it, and never completes unless its bytes hash to `claimed`.
pub struct Verify<S> {
    body: S,
    hasher: Option<Hasher>,
    claimed: Digest,
    held: BytesMut,
    /// How much of what may leave is left out, and how much of the rest is wanted.
    skipped: u64,
    wanted: u64,
}

impl<S, E> Verify<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// Wraps a body.
    pub fn new(body: S, claimed: Digest) -> Self {
        let hasher = Some(Hasher::for_claim(Some(&claimed)));
        Self { body, hasher, claimed, held: BytesMut::new(), skipped: 0, wanted: u64::MAX }
    }

    /// Gives only `length` bytes from byte `first` on; all of them are hashed.
    #[must_use]
    pub fn part(self, first: u64, length: u64) -> Self {
        Self { skipped: first, wanted: length, ..self }
    }

    /// The next bytes that may leave; `None` at the verified end, or at the part's.
    pub async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        while self.wanted > 0 {
            let free = self.free().await?;
            match free.map(|free| self.cut(free)) {
                Ok(free) if free.is_empty() => {}
                result => return Some(result),
            }
        }
        None
    }

    /// The next bytes that no longer have to be held back; `None` after the end and after an error.
    async fn free(&mut self) -> Option<Result<Bytes, Broken>> {
        let hold_back = usize::try_from(HOLD_BACK).unwrap_or(usize::MAX);
        loop {
            let hasher = self.hasher.as_mut()?;
            match self.body.next().await {
                Some(Ok(chunk)) => {
                    hasher.update(&chunk);
                    self.held.extend_from_slice(&chunk);
                    if self.held.len() > hold_back {
                        let free = self.held.len() - hold_back;
                        return Some(Ok(self.held.split_to(free).freeze()));
                    }
                }
                Some(Err(_)) => {
                    self.hasher = None;
                    return Some(Err(Broken));
                }
                None => {
                    let is_right = self.hasher.take()?.finish().supports(&self.claimed);
                    let rest = self.held.split().freeze();
                    return Some(if is_right { Ok(rest) } else { Err(Broken) });
                }
            }
        }
    }

    fn cut(&mut self, mut free: Bytes) -> Bytes {
        let skipped = self.skipped.min(free.len() as u64);
        self.skipped -= skipped;
        let mut free = free.split_off(usize::try_from(skipped).unwrap_or(usize::MAX));
        free.truncate(usize::try_from(self.wanted).unwrap_or(usize::MAX));
        self.wanted -= free.len() as u64;
        free
    }
}
