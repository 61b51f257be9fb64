//! Single flight: many ask, one does it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

type Landing<V> = watch::Receiver<Option<V>>;

/// Work in flight by key. Each flight runs in a task of its own, so that a client who leaves ends
/// nothing for the others.
pub(super) struct Flights<K, V> {
    running: Arc<Mutex<HashMap<K, Landing<V>>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the flight of `key`, or starts it. `None` if its task died without a result.
    pub(super) async fn join<F>(&self, key: K, start: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut landing = self.board(key, start);
        landing.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Starts the flight of `key` unless it is in the air.
    pub(super) fn board<F>(&self, key: K, start: impl FnOnce() -> F) -> Landing<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (sender, landing) = watch::channel(None);
        match self.running.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()) {
            Entry::Occupied(flight) => return flight.get().clone(),
            Entry::Vacant(slot) => slot.insert(landing.clone()),
        };
        // The board is free again here: a runtime that ends drops the task, and so the guard, as
        // soon as it is given it.
        let guard = Remove { running: Arc::clone(&self.running), key };
        let flight = start();
        tokio::spawn(async move {
            let result = flight.await;
            // Off the board first: who comes from here on gets an answer that is newer.
            drop(guard);
            sender.send_replace(Some(result));
        });
        landing
    }
}

/// Takes a flight off the board, also when its task panics.
struct Remove<K: Eq + Hash, V> {
    running: Arc<Mutex<HashMap<K, Landing<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Remove<K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_flight_and_the_next_starts_anew() {
        let flights = Flights::<&str, u32>::default();
        let count = Arc::new(AtomicU32::new(0));
        let fly = || {
            let count = Arc::clone(&count);
            async move {
                tokio::task::yield_now().await;
                count.fetch_add(1, Ordering::SeqCst)
            }
        };
        let (a, b) = tokio::join!(flights.join("k", fly), flights.join("k", fly));
        assert_eq!((a, b), (Some(0), Some(0)));
        assert_eq!(flights.join("k", fly).await, Some(1));
    }

    #[tokio::test]
    async fn a_flight_that_panics_leaves_no_one_waiting() {
        let flights = Flights::<&str, u32>::default();
        let crash = || async { panic!("as wanted") };
        assert_eq!(flights.join("k", crash).await, None);
        assert_eq!(flights.join("k", || async { 1 }).await, Some(1));
    }

    #[test]
    fn a_flight_that_begins_while_its_runtime_ends_keeps_nobody_waiting() {
        struct Begins(Flights<&'static str, u32>, tokio::runtime::Handle);
        impl Drop for Begins {
            fn drop(&mut self) {
                let _inside = self.1.enter();
                drop(self.0.board("k", || async { 1 }));
                assert!(self.0.running.lock().unwrap().is_empty(), "it is off the board");
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let begins = Begins(Flights::default(), runtime.handle().clone());
        runtime.spawn(async move {
            let _begins = begins;
            std::future::pending::<()>().await;
        });
        drop(runtime);
    }
}
