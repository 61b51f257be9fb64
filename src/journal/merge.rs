//! What was noted and is not written yet: repeats within a minute are one entry with a count.
//!
//! The first request of a kind is written within the second; those that follow in its minute only
//! count, and their count is written when the minute ends. The table is bounded: where it is half
//! full its thread is woken and empties it, and what finds no place is lost, and counted.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use super::subject::Subject;
use crate::clock::Clock;

/// How long repeats are counted together.
pub(super) const WINDOW: Duration = Duration::from_mins(1);

/// Parts with a lock of their own.
const SHARDS: usize = 16;

/// How many entries a part holds at most.
pub(super) const ROOM: usize = 512;

/// What is one entry.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) subject: Arc<Subject>,
    pub(super) client: IpAddr,
    pub(super) is_head: bool,
}

/// Requests that are written as one line: when the first and the last came, in milliseconds since
/// the Unix epoch, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Requests {
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    pub(super) count: u64,
}

/// What leaves the table for the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// All of it.
    All,
    /// What is new, and the counts of those whose minute ended.
    Due,
}

#[derive(Debug)]
struct Merged {
    since: Duration,
    was_written: bool,
    unwritten: Requests,
}

/// The table.
#[derive(Default)]
pub(super) struct Merging {
    shards: [Mutex<HashMap<Key, Merged>>; SHARDS],
    thread: OnceLock<Thread>,
    is_closed: AtomicBool,
}

impl Key {
    pub(super) fn new(subject: Arc<Subject>, client: IpAddr, is_head: bool) -> Self {
        Self { subject, client, is_head }
    }

    fn shard(&self) -> usize {
        let of_client = match self.client {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        usize::from(of_client ^ self.subject.hash.to_le_bytes()[0]) % SHARDS
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let is_same = || Arc::ptr_eq(&self.subject, &other.subject);
        self.client == other.client
            && self.is_head == other.is_head
            && (is_same() || self.subject == other.subject)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.subject.hash.hash(state);
        self.client.hash(state);
        self.is_head.hash(state);
    }
}

impl Merging {
    /// Which thread to wake when much was noted.
    pub(super) fn wakes(&self, thread: Thread) {
        let _ = self.thread.set(thread);
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Takes a request; false if there is no place for it.
    pub(super) fn note(&self, key: Key, clock: &dyn Clock) -> bool {
        let now_ms = clock.wall_ms();
        let shard = &self.shards[key.shard()];
        let mut entries = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(merged) = entries.get_mut(&key) {
            merged.unwritten.add(now_ms);
            return true;
        }
        let count = entries.len();
        if count >= ROOM {
            return false;
        }
        let unwritten = Requests { first_ms: now_ms, last_ms: now_ms, count: 1 };
        let since = clock.monotonic();
        entries.insert(key, Merged { since, was_written: false, unwritten });
        drop(entries);
        if count == ROOM / 2
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        true
    }

    /// Takes out what is to be written.
    pub(super) fn sweep(&self, clock: &dyn Clock, sweep: Sweep) -> Vec<(Key, Requests)> {
        let now = clock.monotonic();
        let mut lines = Vec::new();
        for shard in &self.shards {
            let mut entries = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let all = sweep == Sweep::All || entries.len() > ROOM / 2;
            entries.retain(|key, merged| {
                let is_over = all || now.saturating_sub(merged.since) >= WINDOW;
                if merged.unwritten.count > 0 && (is_over || !merged.was_written) {
                    let key = Key::new(Arc::clone(&key.subject), key.client, key.is_head);
                    lines.push((key, std::mem::take(&mut merged.unwritten)));
                    merged.was_written = true;
                }
                !is_over
            });
        }
        lines.sort_by_key(|(_, requests)| requests.first_ms);
        lines
    }
}

impl Requests {
    fn add(&mut self, now_ms: u64) {
        if self.count == 0 {
            self.first_ms = now_ms;
        }
        self.last_ms = now_ms;
        self.count = self.count.saturating_add(1);
    }
}

#[cfg(test)]
#[path = "merge/tests.rs"]
mod tests;
