//! What is kept, noted and looked at: ledger, lock file, journal, audit.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use serde::Serialize;

use super::super::output::Printer;
use super::super::table::escape;
use super::ProblemView;
use crate::app::{StartError, read_lock};
use crate::config::{Config, LedgerKind};
use crate::units::Span;

/// It, for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Keeping {
    /// `file`, `memory`.
    ledger: &'static str,
    lock: Option<LockView>,
    audit: AuditView,
    journal: JournalView,
}

/// The lock file, read whole.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct LockView {
    file: String,
    references: usize,
    /// Whether what is not in it is refused.
    is_locked: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct AuditView {
    /// 0: nobody asks for tags that are not pulled.
    interval_seconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct JournalView {
    /// 0: none is written.
    keep_seconds: u64,
    max_size_bytes: u64,
}

impl Keeping {
    /// # Errors
    /// The lock file cannot be used.
    pub(super) fn of(config: &Config) -> Result<Self, StartError> {
        let lock = config.lock.as_ref().map(|lock| {
            let read = read_lock(lock)?;
            Ok::<_, StartError>(LockView {
                file: lock.file.display().to_string(),
                references: read.file.images.len(),
                is_locked: lock.is_locked,
            })
        });
        Ok(Self {
            ledger: match config.ledger {
                LedgerKind::File => "file",
                LedgerKind::Memory => "memory",
            },
            lock: lock.transpose()?,
            audit: AuditView { interval_seconds: config.audit_interval.as_secs() },
            journal: JournalView {
                keep_seconds: config.journal.keep.as_secs(),
                max_size_bytes: config.journal.max_size_bytes,
            },
        })
    }

    pub(super) fn print(&self, printer: &mut Printer) -> io::Result<()> {
        let ledger = match self.ledger {
            "memory" => "in memory: it ends with the process",
            _ => "in the data directory",
        };
        printer.line(&format!("ledger          {ledger}"))?;
        if let Some(LockView { file, references, is_locked }) = &self.lock {
            let others = if *is_locked {
                "what is not in it is refused"
            } else {
                "the rules decide for the rest"
            };
            let file = escape(file);
            printer.line(&format!("lock file       {file}: {references} references; {others}"))?;
        }
        let audit = match self.audit.interval_seconds {
            0 => "off: tags are asked for when they are pulled".to_owned(),
            seconds => format!("each tag every {}", Span(Duration::from_secs(seconds))),
        };
        printer.line(&format!("audit           {audit}"))?;
        let journal = match self.journal.keep_seconds {
            0 => "off: pulls are not noted".to_owned(),
            seconds => format!("pulls are noted for {}", Span(Duration::from_secs(seconds))),
        };
        printer.line(&format!("journal         {journal}"))
    }
}

/// A lock file that cannot be used, for programs.
pub(super) fn problem(printer: &mut Printer, error: &StartError) -> io::Result<()> {
    let why = error.source().map_or_else(String::new, |source| format!(": {source}"));
    printer.json(&ProblemView {
        problem: format!("{error}{why}"),
        key: "lock.file".to_owned(),
        place: None,
    })?;
    printer.flush()
}
