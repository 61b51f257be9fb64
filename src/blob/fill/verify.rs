//! A body that is hashed on its way and stored nowhere.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::{Broken, HOLD_BACK};
use crate::oci::{Digest, Hasher};

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
        Self::resume(body, Hasher::for_claim(Some(&claimed)), claimed, BytesMut::new())
    }

    /// Wraps what is left of a body: `hasher` has taken all before it, `held` is the end of that,
    /// which has not left yet.
    pub(super) fn resume(body: S, hasher: Hasher, claimed: Digest, held: BytesMut) -> Self {
        Self { body, hasher: Some(hasher), claimed, held, skipped: 0, wanted: u64::MAX }
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
