//! Bodies that go to clients.

mod frames;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use prometheus::IntCounter;

use self::frames::{Frames, frames};
use super::listener::{FileQueue, InUse};
use crate::blob::fill::Broken;
use crate::pull::{BlobBody, OnItsWay};

/// The body of an answer: bytes from memory, or a blob's with its length where known.
pub struct Body {
    kind: Kind,
    sent: Option<IntCounter>,
    in_use: Option<InUse>,
    _on_its_way: Option<OnItsWay>,
}

enum Kind {
    Blob { source: Source, left: Option<u64> },
    Bytes(Option<Bytes>),
}

enum Source {
    /// Nobody has asked for a frame yet.
    Fresh(BlobBody, Option<FileQueue>),
    Frames(Frames),
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
        match body {
            BlobBody::Bytes(bytes) => {
                sent.inc_by(bytes.len() as u64);
                Self::full(bytes)
            }
            BlobBody::Empty => Self::empty(),
            body => {
                let source = Source::Fresh(body, None);
                Self::of(Kind::Blob { source, left: length }, Some(sent))
            }
        }
    }

    /// The same body, for a connection that sends files by itself.
    #[must_use]
    pub fn through(mut self, files: &FileQueue) -> Self {
        if let Kind::Blob { source: Source::Fresh(_, queue), .. } = &mut self.kind {
            *queue = Some(files.clone());
        }
        self
    }

    /// The same body, which tells what its connection must know.
    #[must_use]
    pub fn while_in_use(self, in_use: InUse) -> Self {
        Self { in_use: Some(in_use), ..self }
    }

    /// The same body, which tells when it is gone.
    #[must_use]
    pub fn telling(self, on_its_way: Option<OnItsWay>) -> Self {
        Self { _on_its_way: on_its_way, ..self }
    }

    const fn of(kind: Kind, sent: Option<IntCounter>) -> Self {
        Self { kind, sent, in_use: None, _on_its_way: None }
    }
}

impl Source {
    fn frames(&mut self) -> &mut Frames {
        if let Self::Fresh(body, queue) = self {
            let body = std::mem::replace(body, BlobBody::Empty);
            *self = Self::Frames(frames(body, queue.take()));
        }
        let Self::Frames(frames) = self else { unreachable!("it was made just now") };
        frames
    }
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
            Kind::Blob { source, left } => {
                let Some(chunk) = ready!(source.frames().poll_next_unpin(context)) else {
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
            Kind::Blob { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Bytes(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Kind::Blob { left: Some(left), .. } => SizeHint::with_exact(*left),
            Kind::Blob { left: None, .. } => SizeHint::default(),
        }
    }
}
