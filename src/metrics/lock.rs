//! What is told of the lock file.

use prometheus::IntGauge;

use super::Maker;

/// What is told of the lock file.
pub struct LockMetrics {
    /// Whether what is not in it is refused.
    pub enforced: IntGauge,
    /// How much is in it.
    pub references: IntGauge,
}

impl LockMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Self {
        Self {
            enforced: make.gauge("lock_enforced", "1 if what is not in the lock file is refused"),
            references: make.gauge("lock_references", "References of the lock file"),
        }
    }

    /// A lock file of so many references is in force.
    pub fn show(&self, references: usize, is_locked: bool) {
        self.enforced.set(is_locked.into());
        self.references.set(i64::try_from(references).unwrap_or(i64::MAX));
    }
}
