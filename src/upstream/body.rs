//! An answer's body: pulled, bounded in time, and never silently short.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hyper::body::{Body as _, Incoming};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::{Unavailability, UpstreamError};
use super::rate::Flow;

/// A connection's place, and one of those that blobs may take.
pub(crate) type Place = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// The bytes of an answer.
///
/// Nothing is read from the upstream before somebody asks for it. A body that is cut short (the
/// connection closes or breaks before the announced end), stalls for longer than the upstream's
/// `body-idle-timeout` or runs past the ask's deadline ends with an error, never as if it were
/// whole; after an error there is nothing more. Waiting for the upstream's rate is no stall.
pub struct Body {
    incoming: Option<Incoming>,
    idle: Duration,
    deadline: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    is_timing: bool,
    size_hint: Option<u64>,
    flow: Option<Arc<Flow>>,
    /// Nothing is read before, for the rate's sake.
    paused_until: Option<Instant>,
    /// The connection's place among `max-connections`, held until the body is dropped.
    _place: Option<Place>,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, idle: Duration, deadline: Option<Instant>) -> Self {
        Self {
            size_hint: incoming.size_hint().exact(),
            incoming: Some(incoming),
            idle,
            deadline,
            timer: Box::pin(sleep_until(Instant::now())),
            is_timing: false,
            flow: None,
            paused_until: None,
            _place: None,
        }
    }

    /// Keeps a connection's place until the body is dropped.
    pub(crate) fn holding(self, place: Place) -> Self {
        Self { _place: Some(place), ..self }
    }

    /// Counts it in the upstream's flow, and reads no faster than that allows.
    pub(crate) fn in_flow(self, flow: &Arc<Flow>) -> Self {
        let paused_until = flow.begin(Instant::now());
        Self { flow: Some(Arc::clone(flow)), paused_until, ..self }
    }

    /// The next bytes; `None` once all that was announced has come.
    pub async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// All of it, if it is at most `limit` bytes: counted, whatever the header says.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, UpstreamError> {
        let too_large = UpstreamError::TooLarge { limit };
        let announced = self.size_hint.map_or(Some(0), |size| usize::try_from(size).ok());
        let Some(announced) = announced.filter(|size| *size <= limit) else {
            return Err(too_large);
        };
        let mut all = BytesMut::with_capacity(announced);
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if chunk.len() > limit - all.len() {
                return Err(too_large);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_timing {
            let idle = Instant::now() + self.idle;
            let until = self.deadline.map_or(idle, |deadline| deadline.min(idle));
            self.timer.as_mut().reset(until);
            self.is_timing = true;
        }
        self.timer.as_mut().poll(context)
    }

    /// Whether the deadline came, once the pause is over.
    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if let Some(until) = self.paused_until {
            if !self.is_timing {
                let until = self.deadline.map_or(until, |deadline| deadline.min(until));
                self.timer.as_mut().reset(until);
                self.is_timing = true;
            }
            ready!(self.timer.as_mut().poll(context));
            (self.is_timing, self.paused_until) = (false, None);
            return Poll::Ready(self.deadline.is_some_and(|deadline| deadline <= Instant::now()));
        }
        Poll::Ready(false)
    }

    fn count(&mut self, bytes: usize) {
        if let Some(flow) = &self.flow {
            self.paused_until = flow.take(bytes, Instant::now());
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = &mut *self;
        if ready!(body.poll_pause(context)) && body.incoming.take().is_some() {
            return Poll::Ready(Some(Err(UpstreamError::Timeout)));
        }
        loop {
            let Some(incoming) = &mut body.incoming else { return Poll::Ready(None) };
            let frame = match Pin::new(incoming).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(body.poll_timer(context));
                    body.incoming = None;
                    return Poll::Ready(Some(Err(UpstreamError::Timeout)));
                }
            };
            body.is_timing = false;
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => {
                        body.count(data.len());
                        return Poll::Ready(Some(Ok(data)));
                    }
                    Ok(_) | Err(_) => {}
                },
                Some(Err(error)) => {
                    body.incoming = None;
                    return Poll::Ready(Some(Err(read_fault(&error))));
                }
                None => {
                    body.incoming = None;
                    return Poll::Ready(None);
                }
            }
        }
    }
}

fn read_fault(error: &hyper::Error) -> UpstreamError {
    if error.is_parse() {
        UpstreamError::Invalid("its body is not framed as HTTP frames bodies")
    } else {
        UpstreamError::unavailable(Unavailability::CutShort)
    }
}
