//! From what is written to what is valid, with every problem at once.

mod cache;
mod listeners;
mod lock;
mod rules;
mod secrets;
mod upstreams;
mod webhooks;

use std::path::{Path, PathBuf};

use super::document::{Document, Texts};
use super::load::Sources;
use super::problem::{ConfigError, KeyPath, Problem};
use super::raw::{RawConfig, RawJournal, RawLedger};
use super::resolved::{Config, JournalConfig};

/// The problems so far, and what is needed to say where they are.
pub(super) struct Report<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) texts: &'a Texts,
    pub(super) problems: Vec<Problem>,
    pub(super) file_dir: Option<PathBuf>,
    pub(super) sources: Sources,
}

/// Checks everything and fills in the defaults.
pub(super) fn resolve(raw: RawConfig, mut report: Report<'_>) -> Result<Config, ConfigError> {
    let data_dir = data_dir(raw.data_dir.as_deref(), &mut report);
    let defaults = Config::with_data_dir(data_dir);
    let span = |value: Option<crate::units::Span>, default| value.map_or(default, |span| span.0);
    let upstreams = upstreams::resolve(raw.upstream, &mut report);
    let listeners = listeners::resolve(raw.listener, defaults.listeners, &mut report);
    let admin = listeners::resolve_admin(&raw.admin, defaults.admin.address);
    listeners::check_addresses(&listeners, &admin, &mut report);
    listeners::check_sharing(&listeners, &upstreams, &mut report);
    let config = Config {
        data_dir: defaults.data_dir,
        stale_if_error: span(raw.stale_if_error, defaults.stale_if_error),
        offline: raw.offline.unwrap_or(defaults.offline),
        audit_interval: span(raw.audit.interval, defaults.audit_interval),
        journal: journal(&raw.journal, defaults.journal),
        policy: rules::resolve(raw.rule, raw.builtin_rules.unwrap_or(true), &mut report),
        cache: cache::resolve(&raw.cache, defaults.cache, &mut report),
        ledger: lock::ledger(&raw.ledger, &mut report),
        lock: lock::lock(raw.lock, &mut report),
        expected_ledger: expected_ledger(raw.ledger, &mut report),
        drain: span(raw.drain, defaults.drain),
        webhooks: webhooks::resolve(raw.webhook, &mut report),
        listeners,
        admin,
        upstreams,
    };
    report.finish(config)
}

fn data_dir(written: Option<&Path>, report: &mut Report<'_>) -> PathBuf {
    let key = KeyPath::new("data-dir");
    let found = match (&report.sources.data_dir, written) {
        (Some(option), _) => Some(report.sources.working_dir.join(option)),
        (None, Some(written)) => Some(report.absolute(&key, written)),
        (None, None) => report.sources.default_data_dir(),
    };
    if found.is_none() {
        let message = "there is no home directory to put data in: set data-dir or --data-dir";
        report.add(&key, message);
    }
    found.unwrap_or_default()
}

fn journal(raw: &RawJournal, defaults: JournalConfig) -> JournalConfig {
    JournalConfig {
        keep: raw.keep.map_or(defaults.keep, |span| span.0),
        max_size_bytes: raw.max_size.map_or(defaults.max_size_bytes, |size| size.0),
    }
}

fn expected_ledger(raw: RawLedger, report: &mut Report<'_>) -> Option<String> {
    let id = raw.expect?;
    if id.len() != 32 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        let message = "a ledger's id is 32 hex digits in lower case, as the start banner prints it";
        report.add(&KeyPath::new("ledger").key("expect"), message);
    }
    Some(id)
}

impl Report<'_> {
    /// Adds a problem with the value at `path`, unless one is known already: what follows from a
    /// wrong value would only confuse.
    fn add(&mut self, path: &KeyPath, message: impl Into<String>) {
        let key = path.to_string();
        if self.problems.iter().any(|known| known.key == key) {
            return;
        }
        let place = self.document.offset(path).and_then(|offset| self.texts.place(offset));
        self.problems.push(Problem { place, key, message: message.into() });
    }

    /// Whether the value at `path` is known to be wrong.
    fn knows(&self, path: &KeyPath) -> bool {
        let key = path.to_string();
        self.problems.iter().any(|known| known.key == key)
    }

    /// A path as the configuration means it: from the file's directory, or for environment
    /// variables from the working directory.
    fn absolute(&self, key: &KeyPath, path: &Path) -> PathBuf {
        let base = match &self.file_dir {
            Some(directory) if !self.is_variable(key) => directory,
            _ => &self.sources.working_dir,
        };
        base.join(path)
    }

    /// Whether the value at `path` comes from the environment.
    fn is_variable(&self, path: &KeyPath) -> bool {
        self.document.offset(path).is_some_and(|offset| self.texts.is_variable(offset))
    }

    /// Where the value at `path` is, for a rule's name: `immutag.toml:12`.
    fn short_place(&self, path: &KeyPath) -> Option<String> {
        let place = self.texts.place(self.document.offset(path)?)?;
        let source = Path::new(&place.source).file_name()?.to_string_lossy().into_owned();
        Some(match place.position {
            None => source,
            Some((line, _)) => format!("{source}:{line}"),
        })
    }

    fn finish(mut self, config: Config) -> Result<Config, ConfigError> {
        if self.problems.is_empty() {
            return Ok(config);
        }
        self.problems.sort();
        Err(ConfigError { problems: self.problems })
    }
}
