//! Puts journal, ledger and lock file together.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::conflicts::{Moves, conflict_of, explain, key_of, moves_since};
use super::family::{Spot, asked, gather_families, manifest, spot};
use super::tally::{Tallies, Tally};
use super::{Conflict, Counts, Head, PIN_REQUIRED, ROWS, Record, Report, Requests, Row, Status};
use crate::journal::{Filter, Outcome};
use crate::ledger::LedgerError;
use crate::lockfile::{LockFile, Locked};
use crate::oci::{Digest, Reference, Tag};
use crate::pin::{PinKey, Provenance, TagState};
use crate::policy::Decision;
use crate::pull::{Lock, Pull, Settings};

/// The version of the form.
const VERSION: u32 = 1;

/// What rows are made from.
struct Sources<'a> {
    pull: &'a Arc<Pull>,
    settings: &'a Settings,
    moves: Moves,
    asked: HashSet<Spot>,
    since_ms: u64,
}

/// Reports what was pulled since a time, in milliseconds since the Unix epoch, by default since the
/// start of this run. It waits for the disk, and for registries where something moved: 25 s at
/// most.
///
/// # Errors
/// The ledger's, where it does not tell what it knows. What is wrong with the journal is a gap of
/// the report.
pub async fn gather(
    pull: &Arc<Pull>,
    record: &Record,
    since_ms: Option<u64>,
) -> Result<Report, LedgerError> {
    let settings = pull.settings();
    let since_ms = since_ms.unwrap_or_default().max(record.started_ms);
    let none = LockFile::default();
    let lock = settings.lock.as_deref();
    let file = lock.map_or(&none, |lock| &lock.file);
    let (mut tallies, mut gaps) = read_journal(pull, record, since_ms).await;
    let (moves, are_all) = moves_since(pull, record.started_at).await?;
    if !are_all {
        gaps.push(format!("more than {ROWS} tags moved, and the rest was left out"));
    }
    let asked = asked(&tallies);
    gather_families(pull, &mut tallies, file).await;
    let sources = Sources { pull, settings: &settings, moves, asked, since_ms };
    let mut rows = sources.rows(&tallies, file).await?;
    explain(pull, &mut rows).await;
    let status = pull.edges().ledger.status();
    let head = Head {
        version: VERSION,
        since_ms,
        until_ms: pull.edges().clock.wall_ms(),
        lock: record.lock.clone(),
        is_locked: lock.is_some_and(|lock| lock.is_locked),
        entries: file.images.len() as u64,
        ledger: status.id,
        gaps,
        counts: Counts::of(&rows),
    };
    Ok(Report { head, rows })
}

/// What the journal has, and what it has not.
async fn read_journal(pull: &Pull, record: &Record, since_ms: u64) -> (Tallies, Vec<String>) {
    if !record.journal.is_on() {
        let gap = "nobody wrote down what was pulled: the journal is off (journal.keep)";
        return (Tallies::default(), vec![gap.to_owned()]);
    }
    let metrics = pull.edges().metrics.journal.clone();
    let (journal, started_ms) = (Arc::clone(&record.journal), record.started_ms);
    let read = move || -> io::Result<(Tallies, u64, u64)> {
        let (mut tallies, mut found) = (Tallies::default(), 0);
        // All of this run are counted, so that it is known when some are gone.
        let filter = Filter { since_ms: Some(started_ms), ..Filter::default() };
        journal.flush_all();
        let written = metrics.entries.get();
        journal.walk(&filter, |pulled| {
            found += 1;
            if pulled.last_ms >= since_ms {
                tallies.add(pulled);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((tallies, written.saturating_sub(found), metrics.dropped.get()))
    };
    let mut gaps = Vec::new();
    let tallies = match tokio::task::spawn_blocking(read).await {
        Ok(Ok((tallies, missing, dropped))) => {
            let several = [
                (dropped, "requests that the journal lost: no room in memory or on the disk"),
                (missing, "entries of this run that are not in the journal's files any more"),
                (tallies.lost, "requests for more references than a report has rows"),
            ];
            gaps.extend(
                several
                    .iter()
                    .filter(|(count, _)| *count > 0)
                    .map(|(count, what)| format!("{count} {what}")),
            );
            tallies
        }
        Ok(Err(error)) => {
            gaps.push(format!("the journal cannot be read: {error}"));
            Tallies::default()
        }
        Err(_) => {
            gaps.push("reading the journal failed: see the log of immutag".to_owned());
            Tallies::default()
        }
    };
    (tallies, gaps)
}

impl Sources<'_> {
    async fn rows(&self, tallies: &Tallies, file: &LockFile) -> Result<Vec<Row>, LedgerError> {
        let mut rows = Vec::new();
        for (reference, tally) in &tallies.all {
            rows.push(self.row(reference, tally, file).await?);
        }
        for (reference, locked) in &file.images {
            if !tallies.all.contains_key(reference) {
                let row = self.row(reference, &Tally::default(), file).await?;
                // An audit may have found what nobody pulled; and what was asked for by another
                // entry's name is no sign of anything.
                let is_told =
                    row.conflict.is_some() || !self.asked.contains(&spot(reference, locked.digest));
                rows.extend(Some(row).filter(|_| is_told));
            }
        }
        rows.sort_by(|a, b| (a.status, &a.reference).cmp(&(b.status, &b.reference)));
        Ok(rows)
    }

    async fn row(
        &self,
        reference: &Reference,
        tally: &Tally,
        file: &LockFile,
    ) -> Result<Row, LedgerError> {
        let locked = file.images.get(reference).copied();
        let key = key_of(reference);
        let state = match &key {
            Some(key) => self.pull.edges().ledger.state(key).await?,
            None => None,
        };
        let state = state.as_deref();
        let moved = key.as_ref().and_then(|key| self.moves.get(key));
        let known = state.and_then(|state| conflict_of(state, moved));
        let conflict = match locked {
            Some(Locked { digest, .. }) => match self.astray(tally, digest, state).await {
                Some(observed) => Some(self.served_otherwise(digest, observed)),
                None => known,
            },
            None => known,
        };
        let is_new = key.is_some() && tally.was_served() && self.is_new(state, locked);
        let lock = self.settings.lock.as_deref();
        let status = status_of(tally, locked.is_some(), is_new, conflict.as_ref());
        let status = match status {
            Status::New | Status::Ok
                if is_unlocked(reference, lock, locked)
                    && !self.is_attached(reference, tally, file).await =>
            {
                Status::Unlocked
            }
            status => status,
        };
        Ok(Row {
            reference: reference.clone(),
            status,
            digests: tally.digests.clone(),
            locked: locked.map(|locked| locked.digest),
            is_new,
            requests: tally.requests,
            clients: tally.clients.len() as u64,
            outcomes: tally.outcomes.clone(),
            rule: self.rule_of(key.as_ref(), tally),
            conflict,
        })
    }

    /// What was served at a locked reference, or is pinned for it, and is neither what the lock
    /// file says nor a part of it.
    async fn astray(
        &self,
        tally: &Tally,
        locked: Digest,
        state: Option<&TagState>,
    ) -> Option<Digest> {
        let pinned = state.and_then(|state| state.pin.as_ref()).map(|pin| pin.content.digest);
        if let Some(other) = pinned.filter(|digest| *digest != locked) {
            return Some(other);
        }
        if tally.digests.iter().all(|digest| *digest == locked) {
            return None;
        }
        // A client that knows no index gets a child of it.
        let listed = manifest(self.pull, &locked).await.map(|it| it.children).unwrap_or_default();
        let mut given = tally.digests.iter().filter(|digest| **digest != locked);
        given.find(|other| listed.iter().all(|child| child.digest != **other)).copied()
    }

    /// Whether it is a tag that moves by specification, about what the lock file has, and led to
    /// nothing that has an image's layers: anybody may give an image such a tag.
    async fn is_attached(&self, reference: &Reference, tally: &Tally, file: &LockFile) -> bool {
        let Some(subject) = reference.tag.as_ref().and_then(Tag::subject) else { return false };
        let is_here = |name: &&Reference| {
            name.registry == reference.registry && name.repository == reference.repository
        };
        let mut is_about_locked = false;
        for locked in file.images.iter().filter(|(name, _)| is_here(name)).map(|it| it.1.digest) {
            is_about_locked = locked == subject
                || manifest(self.pull, &locked).await.is_some_and(|it| it.names(&subject));
            if is_about_locked {
                break;
            }
        }
        if !is_about_locked {
            return false;
        }
        for digest in &tally.digests {
            let is_known = match manifest(self.pull, digest).await {
                // A list of referrers is none of them.
                Some(given) if given.kind.is_index() => tally.requests.by_digest == 0,
                Some(given) => !given.has_image_layers(),
                // Nobody got more of it than its name.
                None => tally.requests.get + tally.requests.by_digest == 0,
            };
            if !is_known {
                return false;
            }
        }
        true
    }

    fn served_otherwise(&self, locked: Digest, observed: Digest) -> Conflict {
        Conflict {
            pinned: Some(locked),
            observed,
            since_ms: self.since_ms,
            is_open: true,
            severity: None,
            hint: String::new(),
        }
    }

    /// Whether a tag was seen for the first time since then, and nobody had said what it stands for.
    fn is_new(&self, state: Option<&TagState>, locked: Option<Locked>) -> bool {
        let Some(state) = state else { return locked.is_none() };
        let is_imported =
            state.standing().is_some_and(|pin| pin.provenance == Provenance::Imported);
        let first_ms = state.seen.first().map(|seen| seen.first_ms);
        locked.is_none() && !is_imported && first_ms.is_none_or(|first| first >= self.since_ms)
    }

    fn rule_of(&self, key: Option<&PinKey>, tally: &Tally) -> String {
        let decides = |lock: &&Lock| {
            tally.has_reason(PIN_REQUIRED) || key.is_some_and(|key| lock.tag(key).is_some())
        };
        if let Some(lock) = self.settings.lock.as_deref().filter(decides) {
            return lock.rule().name.clone();
        }
        let Some(key) = key else { return String::new() };
        match self.settings.policy.decide(key) {
            Decision::Exempt => "exempt".to_owned(),
            Decision::Ruled(rule) => rule.name.clone(),
            Decision::Unmatched => "none".to_owned(),
        }
    }
}

fn status_of(tally: &Tally, is_locked: bool, is_new: bool, conflict: Option<&Conflict>) -> Status {
    let denies = ["DIGEST_CHANGED", "DIGEST_REVOKED", PIN_REQUIRED];
    if conflict.is_some() {
        Status::Conflict
    } else if tally.requests == Requests::default() {
        Status::Unused
    } else if denies.iter().any(|reason| tally.has_reason(reason))
        || (!tally.was_served() && tally.has(Outcome::Refused))
    {
        Status::Refused
    } else if is_new && !is_locked {
        Status::New
    } else {
        Status::Ok
    }
}

/// Whether something was served that the lock file does not have. A server in locked mode gives by
/// digest, and by tags that move by specification, only what the lock file leads to.
fn is_unlocked(reference: &Reference, lock: Option<&Lock>, locked: Option<Locked>) -> bool {
    let Some(lock) = lock.filter(|_| locked.is_none()) else { return false };
    let is_referrers = reference.tag.as_ref().is_some_and(Tag::is_referrers);
    !(lock.is_locked && (reference.digest.is_some() || is_referrers))
}
