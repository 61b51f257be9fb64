//! Fills: one writer that hashes while it writes, readers that follow the staged file.
//!
//! The last [`HOLD_BACK`] bytes leave only after the digest agreed, so a client sees the whole,
//! right blob or a broken connection, never a whole, wrong one. The writer never waits for a
//! reader; but a fill that nobody reads may be stopped.

mod audience;
mod reader;
mod rest;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::watch;

use self::audience::{Audience, Seat};
use self::rest::{Remainder, Rest};
use super::fs::Staged;

pub use reader::{FillReader, Piece};
pub use verify::Verify;
pub use writer::{FillError, Filler};

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
    /// The store failed; what it has not got is in [`Rest`], for one reader.
    Unstored,
    Verified,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    written: u64,
    state: State,
}

/// A running or finished fill, as a reader sees it: while one of these is kept, somebody reads.
#[derive(Clone)]
pub struct Fill {
    running: RunningFill,
    _seat: Arc<Seat>,
    /// The length that the upstream announced, in bytes.
    pub size_bytes: Option<u64>,
}

/// A fill as those know it who do not read it.
#[derive(Clone)]
pub struct RunningFill(Arc<Shared>);

struct Shared {
    file: Arc<File>,
    size_bytes: Option<u64>,
    progress: watch::Receiver<Progress>,
    audience: Audience,
    rest: Mutex<Option<Rest>>,
}

impl Fill {
    /// A fill that will write into `staged`, and its writer.
    pub fn begin(staged: Staged, size_bytes: Option<u64>) -> io::Result<(Self, Filler)> {
        let (sender, progress) = watch::channel(Progress { written: 0, state: State::Running });
        let running = RunningFill(Arc::new(Shared {
            file: Arc::new(staged.reader()?),
            size_bytes,
            progress,
            audience: Audience::default(),
            rest: Mutex::default(),
        }));
        let fill = running.join().expect("a fill that just began is open");
        Ok((fill, Filler::new(staged, sender, running)))
    }

    /// Follows the fill from byte `first` for `length` bytes, or to the end.
    pub fn read(&self, first: u64, length: Option<u64>) -> FillReader {
        let end = length.map(|length| first + length);
        FillReader::new(self.clone(), first, end)
    }

    /// Waits until the writer is gone: whether the content agreed with its digest, and by then is
    /// stored or never will be.
    pub async fn settled(&self) -> bool {
        self.running.settling().await
    }

    /// The fill without this reader.
    pub const fn running(&self) -> &RunningFill {
        &self.running
    }

    fn progress(&self) -> watch::Receiver<Progress> {
        self.running.0.progress.clone()
    }

    /// What the store could not take, from byte `at` on, for whoever asks first.
    fn take_rest(&self, at: u64, end: Option<u64>) -> Option<io::Result<Remainder>> {
        let Shared { file, rest, .. } = &*self.running.0;
        let rest = rest.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(rest.read(file, at, end))
    }
}

impl RunningFill {
    /// Reads it, too; `None` if it failed, was stopped, or its writer died: nobody should join it
    /// any more.
    pub fn join(&self) -> Option<Fill> {
        let Shared { size_bytes, audience, progress, .. } = &*self.0;
        let seat = Arc::new(audience.sit()?);
        let is_sound = match progress.borrow().state {
            State::Running => progress.has_changed().is_ok(),
            State::Verified => true,
            State::Broken | State::Unstored => false,
        };
        let running = self.clone();
        is_sound.then_some(Fill { running, _seat: seat, size_bytes: *size_bytes })
    }

    /// Waits until nobody has read it for a few seconds, and less than `finish_from` bytes of it
    /// are there; nobody can join it any more then. Never returns if its length is unknown.
    pub async fn deserted(&self, finish_from: impl Fn(u64) -> u64) {
        let Shared { size_bytes, audience, progress, .. } = &*self.0;
        let written = || progress.borrow().written;
        let least = size_bytes.map(finish_from);
        audience.leave(|| least.is_some_and(|least| written() < least)).await;
    }

    /// Waits until the writer is gone, like [`Fill::settled`], without reading.
    pub fn settling(&self) -> impl Future<Output = bool> + Send + use<> {
        let mut progress = self.0.progress.clone();
        async move {
            while progress.changed().await.is_ok() {}
            let state = progress.borrow().state;
            state == State::Verified
        }
    }

    /// How many bytes are here.
    pub fn written(&self) -> u64 {
        self.0.progress.borrow().written
    }

    /// Whether both follow the same writer.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
