//! What the store does by itself: counting, making room, writing last uses down, scrubbing.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::FsStore;
use super::boot::Reach;
use crate::blob::links::Links;

/// Between two steps of the scrub.
const STEP: Duration = Duration::from_secs(1);

/// Between two looks at the disk's free space, in steps.
const ROOM_EACH: u64 = 10;

/// Between two times of writing last uses down, in steps.
const WRITE_EACH: u64 = 300;

impl FsStore {
    /// Counts what is stored, then keeps it in order until `stop` turns true. Nobody waits for it.
    pub async fn keep(self: Arc<Self>, links: Arc<Links>, mut stop: watch::Receiver<bool>) {
        let (store, all_links) = (Arc::clone(&self), Arc::clone(&links));
        let counting = blocking("stored content could not be counted", move || {
            if store.shared.scan()? {
                store.shared.keep_room()?;
                all_links.trim()?;
            }
            Ok(())
        });
        tokio::select! {
            () = counting => {}
            _ = stop.wait_for(|stop| *stop) => {
                self.shared.is_stopping.store(true, Ordering::Release);
                return;
            }
        }
        for step in 1_u64.. {
            let stopped = stop.wait_for(|stop| *stop);
            if tokio::time::timeout(STEP, stopped).await.is_ok() {
                return;
            }
            let (store, links) = (Arc::clone(&self), Arc::clone(&links));
            blocking("the store could not be kept in order", move || {
                store.scrub()?;
                if step % ROOM_EACH == 0 {
                    store.shared.keep_room()?;
                }
                if step % WRITE_EACH == 0 {
                    store.write_down()?;
                    links.trim()?;
                }
                Ok(())
            })
            .await;
        }
    }

    /// Hashes as much of what is stored again as is due.
    pub fn scrub(&self) -> io::Result<()> {
        let shared = &self.shared;
        let (now, now_ms) = (shared.clock.monotonic(), shared.clock.wall_ms());
        let mut scrub = shared.scrub.lock().unwrap_or_else(PoisonError::into_inner);
        scrub.step(shared, now, now_ms)?;
        drop(scrub);
        let is_clear = shared.is_scanned.load(Ordering::Acquire)
            && shared.suspect() != Reach::Nothing
            && shared.usage.totals().suspects == 0;
        if is_clear {
            shared.boot.lock().unwrap_or_else(PoisonError::into_inner).clear()?;
            tracing::info!("all content that the machine may have lost was hashed");
        }
        Ok(())
    }

    /// Writes down what is only in memory: last uses, and how far the scrub is.
    pub fn write_down(&self) -> io::Result<()> {
        let shared = &self.shared;
        shared.usage.take_touched(|digest, used_ms| {
            if let Err(error) = shared.places.set_used(&digest, used_ms) {
                tracing::debug!(%digest, %error, "a last use could not be written down");
            }
        });
        shared.scrub.lock().unwrap_or_else(PoisonError::into_inner).save()
    }

    /// Ends in good order: last uses are written down and everything is synced, so that nothing
    /// is suspect at the next start. Nothing is stored after this.
    pub fn close(&self) -> io::Result<()> {
        let shared = &self.shared;
        shared.is_closed.store(true, Ordering::Release);
        shared.places.settle();
        self.write_down()?;
        let has_stored = shared.has_stored.load(Ordering::Acquire);
        shared.boot.lock().unwrap_or_else(PoisonError::into_inner).end(has_stored)
    }

    /// Takes over into the metrics how much is stored, right before a scrape.
    pub fn observe(&self) {
        let (totals, metrics) = (self.shared.totals(), &self.shared.metrics);
        let clamp = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.bytes.set(clamp(totals.bytes));
        metrics.blobs.set(clamp(totals.blobs));
        metrics.held_bytes.set(clamp(totals.held_bytes));
        metrics.suspects.set(clamp(totals.suspects));
        if let Ok(bounds) = self.shared.bounds() {
            metrics.max_bytes.set(clamp(bounds.max_bytes));
        }
    }
}

async fn blocking(what: &'static str, work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "{what}"),
        Err(error) => tracing::error!(%error, "{what}"),
    }
}
