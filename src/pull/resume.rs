//! An upstream's body that goes on where it broke off.
//!
//! What has come already was hashed when it came, and the digest of the whole decides in the end:
//! so nothing has to be said about versions (no `If-Range`), and an upstream that answers with the
//! whole instead of the part is read from the start and skipped up to where we were.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::time::sleep;

use crate::upstream::{Unavailability, UpstreamError};

/// How often a body is asked for again without so much more of it coming.
const FRUITLESS: u32 = 3;

/// What counts as more of it, in bytes.
const PROGRESS_BYTES: u64 = 64 << 10;

/// How often a body is asked for again in all.
const MOST: u32 = 64;

/// The longest that is waited before asking again.
const PATIENCE: Duration = Duration::from_secs(2);

/// An upstream's body as it comes.
pub type Arriving = BoxStream<'static, Result<Bytes, UpstreamError>>;

/// What an upstream gave when it was asked for the rest.
pub(super) struct Part {
    pub(super) body: Arriving,
    /// Which byte of the whole its first one is: where it was asked for, or 0.
    pub(super) begins: u64,
}

/// Who can be asked for the rest of a body.
#[async_trait]
pub(super) trait Rest: Send + 'static {
    /// The body from byte `at` on. `is_free` says that much has come since the last time; if not,
    /// it is a retry like any other.
    async fn ask(&mut self, at: u64, is_free: bool) -> Result<Part, UpstreamError>;
}

/// Reads `body`, which has `size_bytes` if that is known, and asks `rest` where it breaks off.
pub(super) fn resuming(body: Arriving, size_bytes: Option<u64>, rest: impl Rest) -> Arriving {
    let reading = Reading { body, size_bytes, rest, at: 0, skipping: 0, tries: Tries::default() };
    let next = |mut reading: Reading<_>| async {
        let next = reading.next().await?;
        Some((next, reading))
    };
    stream::unfold(reading, next).boxed()
}

struct Reading<R> {
    body: Arriving,
    size_bytes: Option<u64>,
    rest: R,
    /// So much has come, in bytes.
    at: u64,
    /// So much of the body came before.
    skipping: u64,
    tries: Tries,
}

impl<R: Rest> Reading<R> {
    async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        loop {
            let broken = match self.body.next().await {
                Some(Ok(mut chunk)) => {
                    let old = self.skipping.min(chunk.len() as u64);
                    self.skipping -= old;
                    chunk.advance(usize::try_from(old).unwrap_or(usize::MAX));
                    if chunk.is_empty() {
                        continue;
                    }
                    self.at += chunk.len() as u64;
                    if self.size_bytes.is_some_and(|size_bytes| self.at > size_bytes) {
                        // A rest is not framed by what was announced with the first body. With
                        // more behind it, its end would leave before the digest agreed.
                        self.end();
                        let why = "it sends more of a blob than it announced";
                        return Some(Err(UpstreamError::Invalid(why)));
                    }
                    return Some(Ok(chunk));
                }
                Some(Err(error)) => error,
                None if self.size_bytes.is_some_and(|size_bytes| self.at < size_bytes) => {
                    UpstreamError::unavailable(Unavailability::CutShort)
                }
                None => return None,
            };
            // Its connection's place must be free before the next is taken.
            self.body = stream::empty().boxed();
            if let Err(error) = self.resume(broken).await {
                self.end();
                return Some(Err(error));
            }
        }
    }

    /// After an error there is nothing more.
    fn end(&mut self) {
        (self.body, self.size_bytes) = (stream::empty().boxed(), None);
    }

    async fn resume(&mut self, mut error: UpstreamError) -> Result<(), UpstreamError> {
        loop {
            let (pause, is_free) = self.tries.next(self.at, &error).ok_or_else(|| error.clone())?;
            sleep(pause).await;
            match self.rest.ask(self.at, is_free).await {
                Ok(part) => {
                    self.skipping = self.at.saturating_sub(part.begins);
                    self.body = part.body;
                    return Ok(());
                }
                Err(next) => error = next,
            }
        }
    }
}

/// How often a body was asked for again.
#[derive(Default)]
struct Tries {
    all: u32,
    fruitless: u32,
    /// Where it was when much had come last.
    at: u64,
}

impl Tries {
    /// How long to wait before the next, and whether it is free; `None`: no more.
    fn next(&mut self, at: u64, error: &UpstreamError) -> Option<(Duration, bool)> {
        let retry_after = match error {
            UpstreamError::Timeout => None,
            UpstreamError::Unavailable { retry_after, .. } => *retry_after,
            _ => return None,
        };
        let is_free = at >= self.at + PROGRESS_BYTES;
        if is_free {
            (self.fruitless, self.at) = (0, at);
        }
        let pause = Duration::from_millis(50) * 2_u32.pow(self.fruitless);
        (self.all, self.fruitless) = (self.all + 1, self.fruitless + 1);
        let pause = pause.max(retry_after.unwrap_or_default());
        let goes_on = self.all <= MOST && self.fruitless <= FRUITLESS && pause <= PATIENCE;
        goes_on.then_some((pause, is_free))
    }
}

#[cfg(test)]
mod tests;
