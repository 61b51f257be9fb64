//! The lock file at the start: read whole or not at all, and taken into the ledger.

use std::fmt;
use std::path::Path;

use super::StartError;
use crate::config::{Config, LockConfig, read_lock};
use crate::decide::{Ledger, LockConflict, LockTaken, Reason, take_lock};
use crate::metrics::Metrics;
use crate::printable::escape_within;
use crate::pull::Lock;

/// How many conflicts a start that is refused tells one by one.
const TOLD: usize = 20;

/// How much of a path stands in the ledger and in messages, in characters.
const PATH_CHARACTERS: usize = 300;

/// What lock file and ledger say differently.
#[derive(Debug)]
pub struct LockConflicts(LockTaken);

/// Reads a lock file, all of it or nothing.
pub(crate) fn read(config: &LockConfig) -> Result<Lock, StartError> {
    match read_lock(&config.file) {
        Ok(file) => Ok(Lock::new(file, config.is_locked).named(&name(&config.file))),
        Err(source) => Err(StartError::Lock { path: config.file.clone(), source }),
    }
}

/// Takes it into the ledger, where there is one, before any client is served.
pub(super) async fn take(
    ledger: &dyn Ledger,
    lock: Option<&Lock>,
    config: &Config,
    metrics: &Metrics,
) -> Result<(), StartError> {
    let (Some(lock), Some(config)) = (lock, &config.lock) else { return Ok(()) };
    let path = escape_within(&config.file.to_string_lossy(), PATH_CHARACTERS);
    let reason: Reason = format!("images.lock: {path}").parse().map_err(StartError::LockLedger)?;
    let taken = take_lock(ledger, &lock.file, reason).await.map_err(StartError::LockLedger)?;
    if taken.conflicting > 0 {
        let path = config.file.clone();
        return Err(StartError::LockConflicts { path, conflicts: LockConflicts(taken) });
    }
    let LockTaken { new, known, .. } = taken;
    let references = lock.file.images.len();
    let is_locked = lock.is_locked;
    metrics.lock.show(references, is_locked);
    tracing::info!(lock = path, references, new, known, is_locked, "the lock file is in force");
    Ok(())
}

/// How the file is called to clients, who need not know where it lies.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    escape_within(&name.to_string_lossy(), 100)
}

impl fmt::Display for LockConflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LockTaken { conflicting, conflicts, .. } = &self.0;
        for LockConflict { reference, locked, ledger, why } in conflicts.iter().take(TOLD) {
            write!(f, "\n  {reference}: the lock file has {locked}")?;
            if let Some(ledger) = ledger {
                write!(f, ", the ledger {ledger}")?;
            }
            write!(f, " ({why})")?;
        }
        let more = conflicting.saturating_sub(TOLD as u64);
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        f.write_str(
            "\nIf the lock file is right: immutag ledger approve REF --digest D --reason WHY, or \
             immutag ledger forget REF --reason WHY, with the server down. If the ledger is: \
             immutag lock --update=REF.",
        )
    }
}
