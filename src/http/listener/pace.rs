//! Whether an HTTP/1.1 client takes what it asked for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What a client must take within the time of an answer that waits for it, in bytes: more than
/// 200 a second. Slower than any line, it is there to keep us busy.
pub(super) const ENOUGH: u64 = 64 << 10;

/// Nothing waits.
const NEVER: u64 = u64::MAX;

/// How a client takes what is written to it.
pub(super) struct Pace {
    begun: Instant,
    stall: Duration,
    /// Since when something waits for the client that has taken less than [`ENOUGH`] of it.
    since_ms: AtomicU64,
    taken: AtomicU64,
}

impl Pace {
    /// A client has `stall` for each [`ENOUGH`] bytes.
    pub(super) fn new(stall: Duration) -> Arc<Self> {
        Arc::new(Self { begun: Instant::now(), stall, since_ms: NEVER.into(), taken: 0.into() })
    }

    /// When to look next: at the end of the client's time, or before the end of any that has not
    /// begun.
    pub(super) fn look(&self) -> Instant {
        self.ends().unwrap_or_else(|| Instant::now() + self.stall)
    }

    /// Whether the client has taken too little for too long.
    pub(super) fn is_over(&self) -> bool {
        self.ends().is_some_and(|ends| ends <= Instant::now())
    }

    fn ends(&self) -> Option<Instant> {
        let since_ms = Some(self.since_ms.load(Ordering::Relaxed)).filter(|it| *it != NEVER)?;
        Some(self.begun + Duration::from_millis(since_ms) + self.stall)
    }

    fn waits(&self, now: Instant) {
        if self.since_ms.load(Ordering::Relaxed) == NEVER {
            let since = now.saturating_duration_since(self.begun);
            let since_ms = u64::try_from(since.as_millis()).unwrap_or(0);
            self.taken.store(0, Ordering::Relaxed);
            self.since_ms.store(since_ms, Ordering::Relaxed);
        }
    }

    fn took(&self, size: usize) {
        if self.since_ms.load(Ordering::Relaxed) != NEVER {
            let before = self.taken.fetch_add(size as u64, Ordering::Relaxed);
            if before + size as u64 >= ENOUGH {
                self.took_all();
            }
        }
    }

    fn took_all(&self) {
        self.since_ms.store(NEVER, Ordering::Relaxed);
    }
}

/// A stream that tells how its client takes what is written.
pub(super) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
}

impl<S> Paced<S> {
    pub(super) const fn new(stream: S, pace: Arc<Pace>) -> Self {
        Self { stream, pace }
    }

    fn tell(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(size)) => self.pace.took(*size),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pace.waits(Instant::now()),
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.tell(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.tell(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Whoever flushes has written all that there is.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.pace.took_all();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::serve::{Ended, Manner, serve};
    use super::*;
    use crate::blob::extent::Extent;
    use crate::http::body::Body;
    use crate::pull::BlobBody;

    const STALL: Duration = Duration::from_mins(5);

    #[test]
    fn a_client_must_take_enough_in_its_time_and_a_little_does_not_count() {
        let pace = Pace::new(STALL);
        let at = |seconds| pace.begun + Duration::from_secs(seconds);
        assert_eq!(pace.ends(), None, "nothing waits");
        pace.waits(at(10));
        for second in 11..300 {
            pace.took(100);
            pace.waits(at(second));
        }
        assert_eq!(pace.ends(), Some(at(10) + STALL));
        pace.took(ENOUGH.try_into().unwrap());
        assert_eq!(pace.ends(), None);
        pace.waits(at(301));
        pace.took(100);
        pace.waits(at(302));
        assert_eq!(pace.ends(), Some(at(301) + STALL), "it counts anew");
    }

    #[tokio::test]
    async fn an_answer_that_was_taken_whole_waits_for_nobody() {
        let pace = Pace::new(STALL);
        let (ours, mut client) = tokio::io::duplex(1000);
        let mut paced = Paced::new(ours, Arc::clone(&pace));
        paced.write_all(&[0; 1000]).await.unwrap();
        assert_eq!(pace.ends(), None, "nothing waits");
        let more = tokio::time::timeout(Duration::ZERO, paced.write_all(&[0; 10])).await;
        assert!(more.is_err() && pace.ends().is_some());
        client.read_exact(&mut [0; 1000]).await.unwrap();
        paced.write_all(&[0; 10]).await.unwrap();
        assert!(pace.ends().is_some(), "there may be more");
        paced.flush().await.unwrap();
        assert_eq!(pace.ends(), None);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client =
            tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let stall = Duration::from_millis(200);
        let manner = Manner { head_timeout: STALL, max_streams: 1, stall, tls: None };
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        let file = Arc::new(file);
        let answer = move |_, _| {
            let extent = Extent { file: Arc::clone(&file), at: 0, end: 1 << 30 };
            let sent = prometheus::IntCounter::new("sent", "sent").unwrap();
            let body = Body::blob(BlobBody::File(extent), Some(1 << 30), sent);
            std::future::ready(hyper::Response::new(body))
        };
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let ended = serve(stream, peer, manner, answer, stopped).await;
        assert!(matches!(ended, Err(Ended::Stalls)), "{ended:?}");
    }
}
