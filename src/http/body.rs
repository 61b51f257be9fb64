//! Bodies that go to clients.

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use hyper::body::{Frame, SizeHint};
use prometheus::IntCounter;

use super::listener::InUse;
use crate::blob::fill::{Broken, read_chunk};
use crate::pull::BlobBody;

/// The body of an answer: bytes from memory, or a stream with its length where known.
pub struct Body {
    kind: Kind,
    sent: Option<IntCounter>,
    in_use: Option<InUse>,
}

enum Kind {
    Bytes(Option<Bytes>),
    Stream { frames: BoxStream<'static, Result<Bytes, Broken>>, left: Option<u64> },
}

impl Body {
    /// No body.
    pub const fn empty() -> Self {
        Self::of(Kind::Bytes(None), None)
    }

    /// A body from memory.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Kind::Bytes(Some(bytes.into()).filter(|bytes| !bytes.is_empty())), None)
    }

    /// A blob's body; `length` is what the header promises.
    ///
    /// It ends with an error, and so with a broken connection, if the bytes do not come.
    pub fn blob(body: BlobBody, length: Option<u64>, sent: IntCounter) -> Self {
        let frames = match body {
            BlobBody::Bytes(bytes) => {
                sent.inc_by(bytes.len() as u64);
                return Self::full(bytes);
            }
            BlobBody::Empty => return Self::empty(),
            BlobBody::File { file, first, length } => read_file(file, first, length),
            body => unfold(body, |mut body| async move {
                let next = body.next().await?;
                Some((next, body))
            })
            .boxed(),
        };
        Self::of(Kind::Stream { frames, left: length }, Some(sent))
    }

    /// The same body, which tells what its connection must know.
    #[must_use]
    pub fn while_in_use(self, in_use: InUse) -> Self {
        Self { in_use: Some(in_use), ..self }
    }

    const fn of(kind: Kind, sent: Option<IntCounter>) -> Self {
        Self { kind, sent, in_use: None }
    }
}

/// Reads a file in large pieces, off the executor's threads.
fn read_file(
    file: Arc<File>,
    first: u64,
    length: u64,
) -> BoxStream<'static, Result<Bytes, Broken>> {
    let end = first + length;
    unfold(first, move |at| {
        let file = Arc::clone(&file);
        async move {
            if at >= end {
                return None;
            }
            let read = tokio::task::spawn_blocking(move || read_chunk(&file, at, end)).await;
            match read {
                Ok(Ok(chunk)) => {
                    let next = at + chunk.len() as u64;
                    Some((Ok(chunk), next))
                }
                _ => Some((Err(Broken), end)),
            }
        }
    })
    .boxed()
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let body = &mut *self;
        if let Some(in_use) = &body.in_use {
            in_use.touch();
        }
        match &mut body.kind {
            Kind::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream { frames, left } => {
                let Some(chunk) = ready!(frames.poll_next_unpin(context)) else {
                    let short = left.is_some_and(|left| left > 0);
                    return Poll::Ready(short.then_some(Err(Broken)));
                };
                let chunk = chunk?;
                let length = chunk.len() as u64;
                if let Some(left) = left {
                    *left = left.checked_sub(length).ok_or(Broken)?;
                }
                if let Some(sent) = &body.sent {
                    sent.inc_by(length);
                }
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.is_none(),
            // The last frame may still have to be verified: only the stream knows.
            Kind::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Bytes(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Kind::Stream { left: Some(left), .. } => SizeHint::with_exact(*left),
            Kind::Stream { left: None, .. } => SizeHint::default(),
        }
    }
}
