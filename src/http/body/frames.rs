//! A blob's bytes, in the way that suits its connection.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};

use crate::blob::extent::Extent;
use crate::blob::fill::{Broken, FillReader, Piece};
use crate::http::listener::FileQueue;
use crate::pull::BlobBody;

/// How much is read from a file at once where the kernel cannot send it itself, in bytes. Each
/// answer has one buffer of this size.
const READ_SIZE: u64 = 128 << 10;

/// The frames of a body.
pub(super) type Frames = BoxStream<'static, Result<Bytes, Broken>>;

/// The frames of a blob's body: through the connection's queue of files if it has one, else read.
pub(super) fn frames(body: BlobBody, queue: Option<FileQueue>) -> Frames {
    let (extent, fill) = match body {
        BlobBody::Bytes(bytes) => return futures_util::stream::iter([Ok(bytes)]).boxed(),
        BlobBody::Empty => return futures_util::stream::empty().boxed(),
        BlobBody::File(extent) => (Some(extent), None),
        BlobBody::Fill(reader) => (None, Some(reader)),
        BlobBody::Passing(passing) => {
            return unfold(
                passing,
                |mut passing| async move { Some((passing.next().await?, passing)) },
            )
            .boxed();
        }
    };
    let way = queue.map_or_else(|| Way::Read(Buffer::default()), Way::Queue);
    let pieces = Pieces { extent, fill, way };
    unfold(pieces, |mut pieces| async move { Some((pieces.next().await?, pieces)) }).boxed()
}

/// Pieces of a stored file, or of one that is being filled.
struct Pieces {
    /// What may leave and has not.
    extent: Option<Extent>,
    fill: Option<FillReader>,
    way: Way,
}

enum Way {
    Queue(FileQueue),
    Read(Buffer),
}

impl Pieces {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        let mut extent = match (self.extent.take(), &mut self.fill) {
            (Some(extent), _) => extent,
            (None, Some(fill)) => match fill.next().await? {
                Ok(Piece::Bytes(bytes)) => return Some(Ok(bytes)),
                Ok(Piece::Extent(extent)) => extent,
                Err(broken) => return Some(Err(broken)),
            },
            (None, None) => return None,
        };
        let frame = match &mut self.way {
            Way::Queue(queue) => {
                let piece = extent.take(FileQueue::PIECE_SIZE);
                piece.warm().await;
                Ok(queue.push(piece))
            }
            Way::Read(buffer) => buffer.read(&mut extent).await,
        };
        self.extent = Some(extent).filter(|rest| !rest.is_empty());
        Some(frame)
    }
}

/// The last piece that was read: its memory is used again once nobody needs the bytes. Fresh
/// memory for each piece costs more than reading does.
#[derive(Default)]
struct Buffer(Bytes);

impl Buffer {
    /// Reads the first bytes of an extent, and takes them off.
    async fn read(&mut self, extent: &mut Extent) -> Result<Bytes, Broken> {
        let wanted = usize::try_from(extent.len().min(READ_SIZE)).unwrap_or(usize::MAX);
        let last = std::mem::take(&mut self.0).try_into_mut().ok();
        let buffer = last.filter(|last| last.len() >= wanted);
        let buffer = buffer.unwrap_or_else(|| BytesMut::zeroed(wanted));
        let (buffer, length) = extent.read(buffer).await.map_err(|_| Broken)?;
        extent.at += length as u64;
        self.0 = buffer.freeze();
        Ok(self.0.slice(..length))
    }
}
