//! Questions to the index, and its answers.

use tokio::sync::oneshot;

use super::batch::Hash;
use super::index::{Index, IndexError};
use super::segment::Position;
use crate::event::Event;
use crate::pin::PinKey;

/// A question to the index.
pub(crate) enum Query {
    /// The events of a tag.
    Events(PinKey),
    /// Where a manifest lies.
    Place(Hash),
    /// Tags behind one, at most so many.
    Tags(Option<PinKey>, usize),
}

/// An answer of the index.
pub(crate) enum Answer {
    Events(Vec<Event>),
    Place(Option<Position>),
    Tags(Vec<(PinKey, Vec<Event>)>),
}

/// An answer, and up to which sequence number the index had come when it gave it.
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) applied: u64,
}

/// A question that waits.
pub(crate) struct Ask {
    pub(crate) query: Query,
    /// How far the index must have come to answer it.
    pub(crate) at_least: u64,
    /// Whether it waits for that while the index is being rebuilt, too.
    pub(crate) patient: bool,
    pub(crate) reply: oneshot::Sender<Reply>,
}

impl Query {
    /// Asks the index.
    pub(crate) fn answer(&self, index: &Index) -> Result<Answer, IndexError> {
        match self {
            Self::Events(key) => index.events(key).map(Answer::Events),
            Self::Place(sha256) => index.place(sha256).map(Answer::Place),
            Self::Tags(after, limit) => index.tags(after.as_ref(), *limit).map(Answer::Tags),
        }
    }
}
