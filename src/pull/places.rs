//! Places for fills: so many at once, more wait their turn, and too many are turned away.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::metrics::FillMetrics;

/// For each fill that runs so many may wait; who comes then is turned away at once.
const WAITING_PER_PLACE: usize = 16;

/// The places of all fills. First come, first served.
pub(super) struct Places {
    all: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    background: Arc<Semaphore>,
}

/// A fill's place, until it is dropped.
pub(super) struct Place {
    _leave: OwnedSemaphorePermit,
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

/// A place among the fills that no client waits for.
pub(super) struct BackgroundPlace(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// All places are taken, and stayed so.
#[derive(Debug)]
pub(super) struct Crowded;

impl Places {
    /// `max_fills` places.
    pub(super) fn new(max_fills: usize) -> Self {
        let places = max_fills.clamp(1, Semaphore::MAX_PERMITS / WAITING_PER_PLACE);
        Self {
            all: Arc::new(Semaphore::new(places)),
            queue: Arc::new(Semaphore::new(places * WAITING_PER_PLACE)),
            background: Arc::new(Semaphore::new(places.div_ceil(2))),
        }
    }

    /// Takes a place once its upstream gives `leave`, or waits for both for at most `patience`.
    /// Whoever waits for leave has no place: an upstream that hangs takes none from others.
    pub(super) async fn take(
        &self,
        leave: impl Future<Output = OwnedSemaphorePermit>,
        patience: Duration,
        metrics: &FillMetrics,
    ) -> Result<Place, Crowded> {
        let mut both = pin!(async { (leave.await, Arc::clone(&self.all).acquire_owned().await) });
        let (leave, permit) = if let Some(both) = both.as_mut().now_or_never() {
            both
        } else {
            let _queued = self.queue.try_acquire().map_err(|_| Crowded)?;
            let _waiting = Counted::new(&metrics.waiting);
            timeout(patience, both).await.map_err(|_| Crowded)?
        };
        let permit = permit.map_err(|_| Crowded)?;
        Ok(Place { _leave: leave, _permit: permit, _counted: Counted::new(&metrics.running) })
    }

    /// Waits for a place among the fills that no client waits for: they never take more than half
    /// of the places (rounded up), so that clients find one.
    pub(super) async fn background(&self) -> BackgroundPlace {
        let permit = Arc::clone(&self.background).acquire_owned().await;
        BackgroundPlace(permit.expect("it is never closed"))
    }
}

/// One more, until it is dropped.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::metrics::Metrics;

    const PATIENCE: Duration = Duration::from_mins(1);

    /// Leave of an upstream that gives so much.
    fn leave(upstream: &Arc<Semaphore>) -> impl Future<Output = OwnedSemaphorePermit> + use<> {
        let leave = Arc::clone(upstream).acquire_owned();
        async { leave.await.unwrap() }
    }

    fn upstream(fills: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(fills))
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn who_waits_gets_the_next_place_and_too_many_are_turned_away_at_once() {
        let (places, metrics) = (Places::new(1), Metrics::new().fills);
        let calm = upstream(100);
        let first = places.take(leave(&calm), PATIENCE, &metrics).await.ok();
        let mut second = pin!(places.take(leave(&calm), PATIENCE, &metrics));
        assert!(poll(second.as_mut()).is_pending());
        let mut others: Vec<_> = (1..WAITING_PER_PLACE)
            .map(|_| Box::pin(places.take(leave(&calm), PATIENCE, &metrics)))
            .collect();
        for other in &mut others {
            assert!(poll(other.as_mut()).is_pending());
        }
        assert!(places.take(leave(&calm), PATIENCE, &metrics).await.is_err(), "the queue is full");
        assert_eq!((metrics.running.get(), metrics.waiting.get()), (1, 16));
        drop(first);
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
        drop(others);
        assert_eq!((metrics.running.get(), metrics.waiting.get()), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_so() {
        let (places, metrics) = (Places::new(1), Metrics::new().fills);
        let calm = upstream(100);
        let _first = places.take(leave(&calm), PATIENCE, &metrics).await;
        assert!(places.take(leave(&calm), Duration::ZERO, &metrics).await.is_err());
        assert_eq!(metrics.waiting.get(), 0);
    }

    #[tokio::test]
    async fn an_upstream_that_hangs_takes_no_place_from_others() {
        let (places, metrics) = (Places::new(3), Metrics::new().fills);
        let (hangs, calm) = (upstream(2), upstream(2));
        let take = |upstream| places.take(leave(upstream), PATIENCE, &metrics);
        let _taken = [take(&hangs).await.unwrap(), take(&hangs).await.unwrap()];
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(take(&hangs))).collect();
        assert!(waits.iter_mut().all(|waits| poll(waits.as_mut()).is_pending()));
        assert!(matches!(poll(pin!(take(&calm))), Poll::Ready(Ok(_))));
    }

    #[tokio::test]
    async fn what_no_client_waits_for_takes_half_of_the_places() {
        let places = Places::new(4);
        let _held = [places.background().await, places.background().await];
        assert!(poll(pin!(places.background())).is_pending());
    }
}
