//! Who reads a fill: counted, so that one that nobody reads can be stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// How long a fill goes on without a reader before it may be stopped: clients cut their ranges off
/// and open new ones.
pub(super) const GRACE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Default)]
struct Attendance {
    readers: usize,
    /// How many there were.
    visits: u64,
    is_closed: bool,
}

/// The readers of one fill.
#[derive(Clone, Default)]
pub(super) struct Audience(Arc<watch::Sender<Attendance>>);

/// A reader's place in the audience, until it is dropped.
pub(super) struct Seat(Audience);

impl Audience {
    /// Takes a seat, unless the fill was stopped for want of readers.
    pub(super) fn sit(&self) -> Option<Seat> {
        let mut is_open = false;
        self.0.send_if_modified(|now| {
            is_open = !now.is_closed;
            now.readers += usize::from(is_open);
            now.visits += u64::from(is_open);
            is_open && now.readers == 1
        });
        is_open.then(|| Seat(self.clone()))
    }

    /// Waits until nobody has read for [`GRACE`] and `may_stop` says so then; nobody can sit down
    /// any more when it returns. It never does once `may_stop` said no.
    pub(super) async fn leave(&self, may_stop: impl Fn() -> bool) {
        let mut attendance = self.0.subscribe();
        loop {
            // The sender lives in `self`.
            let visits =
                attendance.wait_for(|now| now.readers == 0).await.map_or(0, |now| now.visits);
            tokio::select! {
                _ = attendance.wait_for(|now| now.visits > visits) => continue,
                () = sleep(GRACE) => {}
            }
            if !may_stop() {
                return std::future::pending().await;
            }
            if self.close() {
                return;
            }
        }
    }

    fn close(&self) -> bool {
        self.0.send_if_modified(|now| {
            now.is_closed = now.readers == 0;
            now.is_closed
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|now| {
            now.readers -= 1;
            now.readers == 0
        });
    }
}
