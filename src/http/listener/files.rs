//! Files that the kernel sends by itself, in an answer that hyper writes.
//!
//! A body gives hyper *marks* in the place of a file's bytes: slices of a region of memory that
//! nobody reads, one byte for each of the file's. The connection's writer knows them by their
//! address, and has the kernel send the bytes that they stand for. What a mark stands for lies in
//! a queue, in the order in which they were given; a mark that is not the next one, or bytes that
//! come before their file while one waits, break the connection. So no mark is ever sent.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::sendfile;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::blob::extent::Extent;

/// The region that marks are cut from. It is never written nor read, so it takes addresses, and no
/// memory.
static MARKS: LazyLock<&'static [u8]> = LazyLock::new(|| vec![0; REGION_SIZE].leak());

const REGION_SIZE: usize = 4 << 20;

/// How much one connection sends before others have their turn, in bytes. On a fast line its socket
/// may never be full, and those that could go on again would stand still meanwhile.
const TURN: usize = 256 << 10;

/// The pieces of files that one connection is to send.
#[derive(Clone, Default)]
pub struct FileQueue(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    next_mark: usize,
}

/// A piece and where its mark begins in the region. Both move on as it is sent.
struct Piece {
    extent: Extent,
    mark: usize,
}

impl FileQueue {
    /// The most that one piece may have, in bytes.
    pub const PIECE_SIZE: u64 = 1 << 20;

    /// Takes a piece, and gives the mark that is to be written in its place.
    pub fn push(&self, extent: Extent) -> Bytes {
        let length = usize::try_from(extent.len()).unwrap_or(REGION_SIZE).min(REGION_SIZE);
        let mut waiting = self.waiting();
        let fits = waiting.next_mark + length <= REGION_SIZE;
        let mark = if fits { waiting.next_mark } else { 0 };
        waiting.next_mark = mark + length;
        if length > 0 {
            waiting.pieces.push_back(Piece { extent, mark });
        }
        Bytes::from_static(&MARKS[mark..mark + length])
    }

    fn is_empty(&self) -> bool {
        self.waiting().pieces.is_empty()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics between two halves of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The piece that a mark stands for, if it is the next one's, and all of it.
    fn piece_of(&mut self, mark: &[u8]) -> io::Result<&mut Piece> {
        let start = mark.as_ptr().addr() - MARKS.as_ptr().addr();
        let is_right =
            |piece: &&mut Piece| piece.mark == start && piece.extent.len() == mark.len() as u64;
        self.pieces.front_mut().filter(is_right).ok_or_else(mismatch)
    }

    fn sent(&mut self, length: usize) {
        let Some(piece) = self.pieces.front_mut() else { return };
        piece.mark += length;
        piece.extent.at += length as u64;
        if piece.extent.is_empty() {
            self.pieces.pop_front();
        }
    }
}

fn is_mark(bytes: &[u8]) -> bool {
    !bytes.is_empty() && MARKS.as_ptr_range().contains(&bytes.as_ptr())
}

fn mismatch() -> io::Error {
    io::Error::other("what is to be written does not agree with the files that wait")
}

/// A connection that sends the files of its queue in the place of their marks.
pub(super) struct SendsFiles {
    stream: TcpStream,
    queue: FileQueue,
    /// What it sent since others had their turn.
    sent: usize,
}

impl SendsFiles {
    pub(super) const fn new(stream: TcpStream, queue: FileQueue) -> Self {
        Self { stream, queue, sent: 0 }
    }

    /// Writes bytes. With `more`, a file follows them at once.
    fn write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        if !more {
            if !self.queue.is_empty() {
                return Poll::Ready(Err(mismatch()));
            }
            return Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        }
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        when_writable(&self.stream, context, || {
            Ok(sendmsg(&self.stream, bytes, &mut SendAncillaryBuffer::default(), flags)?)
        })
    }

    /// Sends of a file what its mark stands for.
    fn send(&mut self, context: &mut Context<'_>, mark: &[u8]) -> Poll<io::Result<usize>> {
        if self.sent >= TURN {
            self.sent = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut waiting = self.queue.waiting();
        let Extent { file, mut at, .. } = waiting.piece_of(mark)?.extent.clone();
        let length = mark.len().min(TURN - self.sent);
        let sent = ready!(when_writable(&self.stream, context, || {
            Ok(sendfile(&self.stream, &file, Some(&mut at), length)?)
        }))?;
        if sent == 0 {
            // The file is shorter than it was: nothing may stand in for what is missing.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        waiting.sent(sent);
        self.sent += sent;
        Poll::Ready(Ok(sent))
    }
}

fn when_writable(
    stream: &TcpStream,
    context: &mut Context<'_>,
    mut write: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match stream.try_io(Interest::WRITABLE, &mut write) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return Poll::Ready(written),
        }
    }
}

impl AsyncRead for SendsFiles {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for SendsFiles {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first_mark = slices.iter().position(|slice| is_mark(slice));
        let (bytes, marks) = slices.split_at(first_mark.unwrap_or(slices.len()));
        match marks.first() {
            Some(mark) if bytes.iter().all(|slice| slice.is_empty()) => self.send(context, mark),
            mark => self.write(context, bytes, mark.is_some()),
        }
    }

    /// If it were false, hyper would copy what it is to write, marks included.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
