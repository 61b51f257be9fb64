//! Eyes on a thread that may never come back, and a place for what made it so.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Since when a call has been running.
pub(crate) struct Watch {
    began: Instant,
    /// Milliseconds after `began`, plus one; 0 while no call runs.
    busy_since: AtomicU64,
    abandoned: AtomicBool,
}

/// The call came back after its thread was given up: leave everything alone.
pub(crate) struct Abandoned;

impl Watch {
    /// Eyes on a thread that has not called yet.
    pub(crate) fn new() -> Arc<Self> {
        let (busy_since, abandoned) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { began: Instant::now(), busy_since, abandoned })
    }

    /// Runs a call that may hang.
    pub(crate) fn call<T>(&self, call: impl FnOnce() -> T) -> Result<T, Abandoned> {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.busy_since.store(now + 1, Ordering::SeqCst);
        let value = call();
        self.busy_since.store(0, Ordering::SeqCst);
        if self.is_abandoned() { Err(Abandoned) } else { Ok(value) }
    }

    /// How long the call that is running has been running.
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::SeqCst).checked_sub(1)?;
        Some(self.began.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Gives the thread up.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    /// Whether the thread was given up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }
}

/// Renames `index` in the ledger's directory to `index-damaged-<n>`; the last two of these stay.
pub(crate) fn move_aside(ledger: &Path) -> std::io::Result<()> {
    const PREFIX: &str = "index-damaged-";
    let index = ledger.join("index");
    if !index.exists() {
        return Ok(());
    }
    let mut numbers: Vec<u64> = fs::read_dir(ledger)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last + 1);
    for old in numbers.iter().rev().skip(1) {
        fs::remove_dir_all(ledger.join(format!("{PREFIX}{old}")))?;
    }
    fs::rename(&index, ledger.join(format!("{PREFIX}{next}")))
}
