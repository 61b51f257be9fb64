//! Whether anything goes on over an HTTP/2 connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::pace::ENOUGH;

/// How long an answer may make no progress, because its client takes none of it. Far above what
/// an upstream may be silent for.
pub(super) const STALL: Duration = Duration::from_mins(5);

/// What goes on over one connection.
pub(super) struct Activity {
    begun: Instant,
    last_ms: AtomicU64,
    open: AtomicUsize,
    /// What was written since it last counted.
    written: AtomicU64,
}

/// A request that is being answered; while there is one, the connection is in use.
pub struct InUse(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            last_ms: 0.into(),
            open: 0.into(),
            written: 0.into(),
        })
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> InUse {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.touch();
        InUse(Arc::clone(self))
    }

    /// When the connection has been of no use for too long, unless something happens before:
    /// without a request for `idle`, or without progress of one for [`STALL`].
    pub(super) fn ends(&self, idle: Duration) -> Instant {
        let limit = if self.open.load(Ordering::Relaxed) == 0 { idle } else { STALL };
        self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + limit
    }

    /// The client has taken something. A little at a time is no use while it is to have an answer.
    fn wrote(&self, size: usize) {
        if self.open.load(Ordering::Relaxed) == 0 {
            if size > CHATTER {
                self.touch();
            }
            return;
        }
        let written = self.written.fetch_add(size as u64, Ordering::Relaxed) + size as u64;
        if written >= ENOUGH {
            self.written.store(0, Ordering::Relaxed);
            self.touch();
        }
    }

    fn touch(&self) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.fetch_max(now_ms, Ordering::Relaxed);
    }
}

impl InUse {
    /// The client took a piece of the answer, or the answer made one.
    pub fn touch(&self) {
        self.0.touch();
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The most bytes of a write that says nothing of a client: pings, and what answers them.
const CHATTER: usize = 256;

/// A stream that tells of what it takes: the end of an answer waits here when nobody answers any
/// more, and a client that still takes it is not idle.
pub(super) struct Told<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Told<S> {
    pub(super) const fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(size)) = &written {
            self.activity.wrote(*size);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    #[test]
    fn a_connection_ends_when_it_is_idle_or_when_its_client_takes_nothing() {
        let activity = Activity::new();
        assert_eq!(activity.ends(IDLE), activity.begun + IDLE);
        let (one, other) = (activity.begin(), activity.begin());
        assert!(activity.ends(IDLE) >= activity.begun + STALL);
        drop(one);
        assert!(activity.ends(IDLE) >= activity.begun + STALL);
        other.touch();
        drop(other);
        let ends = activity.ends(IDLE);
        assert!(ends >= activity.begun + IDLE && ends < activity.begun + STALL);
    }

    #[test]
    fn a_client_that_takes_a_few_bytes_now_and_then_makes_no_use_of_its_connection() {
        let activity = Activity::new();
        let touched = |size| {
            activity.last_ms.store(0, Ordering::Relaxed);
            while activity.begun.elapsed() < Duration::from_millis(1) {}
            activity.wrote(size);
            activity.last_ms.load(Ordering::Relaxed) > 0
        };
        assert!(!touched(CHATTER) && touched(CHATTER + 1), "the end of an answer");
        let in_use = activity.begin();
        assert!(!touched(1000) && !touched(64_000) && touched(1000));
        assert!(!touched(64_000));
        drop(in_use);
    }
}
