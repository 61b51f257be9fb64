//! Questions to the index, and its answers.

use tokio::sync::oneshot;

use super::batch::Hash;
use super::index::{Index, IndexError, Listed};
use super::place::Patience;
use super::segment::Position;
use super::shared::Shared;
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
    /// Asks the index, and reads the events where it says they lie.
    pub(crate) fn answer(&self, index: &Index, shared: &Shared) -> Result<Answer, IndexError> {
        match self {
            Self::Events(key) => events(shared, key, &index.events(key)?).map(Answer::Events),
            Self::Place(sha256) => index.place(sha256).map(Answer::Place),
            Self::Tags(after, limit) => {
                let tags = index.tags(after.as_ref(), *limit)?.into_iter();
                let tags = tags.map(|(key, listed)| {
                    let events = events(shared, &key, &listed)?;
                    Ok((key, events))
                });
                tags.collect::<Result<_, _>>().map(Answer::Tags)
            }
        }
    }
}

fn events(shared: &Shared, key: &PinKey, listed: &[Listed]) -> Result<Vec<Event>, IndexError> {
    let read = |&(sequence, place): &Listed| {
        let event = shared.record(sequence, place, Patience::Endless);
        let event = event.map_err(|error| IndexError::Log(error.to_string()))?;
        event
            .filter(|event| event.sequence == sequence && event.key.as_ref() == Some(key))
            .ok_or(IndexError::Spoilt("a wrong place for an event"))
    };
    listed.iter().map(read).collect()
}
