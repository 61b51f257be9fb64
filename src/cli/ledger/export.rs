//! `immutag ledger export`: everything as JSON lines, only the events, or pins as references.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::super::client::{Answer, Client};
use crate::clock::SystemClock;
use crate::decide::{Filter, Reply, Request, TagEntry};
use crate::ledger::LedgerStatus;
use crate::lockfile::{LOCK_ENTRIES, LockFile, Locked};
use crate::oci::{Digest, Reference};
use crate::pin::PinKey;

/// How an export begins.
pub(super) const FORMAT: &str = "immutag-ledger";

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ExportFormat {
    /// Everything: a header, then each manifest before the event that brought it
    Jsonl,
    /// The events alone, one a line
    Events,
    /// The pins as an `images.lock`
    Lock,
    /// The pins, `image:tag@sha256:…`, in the order of registry, repository and tag
    Tags,
}

/// The first line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Header {
    /// [`FORMAT`].
    pub(super) format: String,
    /// [`VERSION`].
    pub(super) version: u32,
    /// The ledger's id.
    pub(super) ledger: String,
    /// The sequence number of the last event that follows.
    pub(super) sequence: u64,
    /// The hash of the ledger's last batch, hex.
    pub(super) head: String,
    /// When it was exported, in milliseconds since the Unix epoch.
    pub(super) time_ms: u64,
}

/// Writes the ledger to a file, durable when this returns, or to standard output.
///
/// # Errors
/// Whatever broke off; a file has a part then.
pub(super) async fn export(
    client: &Client,
    format: ExportFormat,
    output: Option<&Path>,
) -> anyhow::Result<()> {
    let Some(path) = output else {
        let mut out = BufWriter::new(io::stdout());
        write(client, format, &mut out).await?;
        return Ok(out.flush()?);
    };
    let made = File::create_new(path);
    let file = made.with_context(|| format!("{} cannot be written", path.display()))?;
    let mut out = BufWriter::new(file);
    write(client, format, &mut out).await?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(())
}

async fn write(client: &Client, format: ExportFormat, out: &mut impl Write) -> anyhow::Result<()> {
    match format {
        ExportFormat::Tags => {
            let mut answer = client.ask(Request::List(Filter::default())).await?;
            tags(&mut answer, out).await
        }
        ExportFormat::Lock => {
            let mut answer = client.ask(Request::List(Filter::default())).await?;
            lock(&mut answer, out).await
        }
        ExportFormat::Events | ExportFormat::Jsonl => {
            let mut answer = client.ask(Request::Export).await?;
            lines(&mut answer, format == ExportFormat::Jsonl, out).await
        }
    }
}

async fn lines(answer: &mut Answer, in_full: bool, out: &mut impl Write) -> anyhow::Result<()> {
    while let Some(reply) = answer.next().await? {
        match reply {
            Reply::Event(event) => line(out, &event)?,
            Reply::Manifest(manifest) if in_full => line(out, &manifest)?,
            Reply::Status(status) if in_full => line(out, &header(status))?,
            Reply::Manifest(_) | Reply::Status(_) => {}
            _ => bail!("the server answered what nobody asked for"),
        }
    }
    Ok(())
}

fn header(status: LedgerStatus) -> Header {
    Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        ledger: status.id,
        sequence: status.sequence,
        head: status.head,
        time_ms: SystemClock::shared().wall_ms(),
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

async fn tags(answer: &mut Answer, out: &mut impl Write) -> anyhow::Result<()> {
    while let Some(reply) = answer.next().await? {
        let Reply::Tag(entry) = reply else { bail!("the server answered what nobody asked for") };
        if let Some((reference, digest)) = pinned(*entry) {
            writeln!(out, "{}", Reference { digest: Some(digest), ..reference })?;
        }
    }
    Ok(())
}

async fn lock(answer: &mut Answer, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut lock, mut unconfirmed) = (LockFile::default(), 0u64);
    while let Some(reply) = answer.next().await? {
        let Reply::Tag(entry) = reply else { bail!("the server answered what nobody asked for") };
        unconfirmed += u64::from(entry.state.claim.is_some());
        let Some((reference, digest)) = pinned(*entry) else { continue };
        if lock.images.len() >= LOCK_ENTRIES {
            bail!("the ledger has more than {LOCK_ENTRIES} pins, more than a lock file may have");
        }
        lock.images.insert(reference, Locked { digest, is_immutable: false });
    }
    if unconfirmed > 0 {
        // Standard error is gone: the file is right all the same.
        let _ = writeln!(
            io::stderr(),
            "left out: {unconfirmed} imported tags that no upstream has confirmed yet"
        );
    }
    Ok(write!(out, "{lock}")?)
}

/// A tag and its pin. A pin that was revoked here is nothing to be trusted elsewhere.
pub(in crate::cli) fn pinned(entry: TagEntry) -> Option<(Reference, Digest)> {
    let TagEntry { key, state, revoked } = entry;
    let pin = state.pin.filter(|pin| !revoked.contains(&pin.content.digest))?;
    let PinKey { registry, repository, tag } = key;
    let reference = Reference { registry, repository, tag: Some(tag), digest: None };
    Some((reference, pin.content.digest))
}
