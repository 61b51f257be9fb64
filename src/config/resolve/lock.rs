//! The ledger's kind and the lock file: the command line goes before what is written.

use super::super::problem::KeyPath;
use super::super::raw::{RawLedger, RawLock};
use super::super::resolved::{LedgerKind, LockConfig};
use super::Report;

pub(super) fn ledger(raw: &RawLedger, report: &mut Report<'_>) -> LedgerKind {
    let kind = report.sources.ledger.or(raw.store).unwrap_or(LedgerKind::File);
    if kind == LedgerKind::Memory && raw.expect.is_some() {
        let message = "a ledger in memory has a new id at each start: remove ledger.expect, or keep \
                       the ledger in a file";
        report.add(&KeyPath::new("ledger").key("expect"), message);
    }
    kind
}

pub(super) fn lock(raw: RawLock, report: &mut Report<'_>) -> Option<LockConfig> {
    let key = KeyPath::new("lock").key("file");
    let file = match (&report.sources.lock, raw.file) {
        (Some(option), _) => Some(report.sources.working_dir.join(option)),
        (None, Some(written)) => Some(report.absolute(&key, &written)),
        (None, None) => None,
    };
    let is_locked = report.sources.is_locked || raw.locked.unwrap_or(false);
    if is_locked && file.is_none() {
        let message = "locked mode refuses what is not in the lock file, and none is named: set \
                       lock.file, or --lock images.lock";
        report.add(&KeyPath::new("lock").key("locked"), message);
    }
    file.map(|file| LockConfig { file, is_locked })
}
