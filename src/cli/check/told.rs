//! What the ledger and the lock file say of a tag and the digest that it should have.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use crate::admin::socket::{JudgeRequest, Line};
use crate::cli::client::{Client, ask_server, next_line};
use crate::cli::key_of;
use crate::config::read_lock;
use crate::decide::{Reply, Request, TagEntry};
use crate::event::Event;
use crate::lockfile::LockFile;
use crate::oci::{Digest, Reference};

/// What the ledger says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Ledgered {
    pub(super) pin: Option<Digest>,
    pub(super) pin_since_ms: Option<u64>,
    /// What the tag stood for when it was last asked for, where it has no pin.
    pub(super) recorded: Option<Digest>,
    /// What the upstream answered instead of the pin, and since when.
    pub(super) conflict: Option<Digest>,
    pub(super) conflict_since_ms: Option<u64>,
    /// When the tag was first seen at the given digest, and until when.
    pub(super) digest_first_ms: Option<u64>,
    pub(super) digest_until_ms: Option<u64>,
    pub(super) digest_was_served: bool,
}

/// Reads what the ledger knows of the tag, and of the digest at it.
pub(super) async fn ledgered(
    client: &Client,
    entry: &TagEntry,
    digest: Digest,
) -> anyhow::Result<Ledgered> {
    let state = &entry.state;
    let seen = state.seen(&digest);
    let mut events = Vec::new();
    if seen.is_some() {
        let mut answer = client.ask(Request::History { key: entry.key.clone() }).await?;
        while let Some(reply) = answer.next().await? {
            if let Reply::Event(event) = reply {
                events.push(*event);
            }
        }
    }
    Ok(Ledgered {
        pin: state.pin.as_ref().map(|pin| pin.content.digest),
        pin_since_ms: state.pin.as_ref().map(|pin| pin.since_ms),
        recorded: state.recorded.as_ref().map(|last| last.content.digest),
        conflict: state.conflict.as_ref().map(|open| open.observed),
        conflict_since_ms: state.conflict.as_ref().map(|open| open.since_ms),
        digest_first_ms: seen.map(|seen| seen.first_ms),
        digest_until_ms: until(&events, digest),
        digest_was_served: seen.is_some_and(|seen| seen.was_served),
    })
}

/// When the tag was last seen to leave the digest; `None` if it was not.
pub(super) fn until(events: &[Event], digest: Digest) -> Option<u64> {
    let (mut is_there, mut left_ms) = (false, None);
    for event in events {
        match event.observed_digest() {
            Some(observed) if observed == digest => (is_there, left_ms) = (true, None),
            Some(_) if is_there => (is_there, left_ms) = (false, Some(event.time_ms)),
            _ => {}
        }
    }
    left_ms
}

/// Where a lock file is looked at.
pub(super) enum Locks {
    /// In a file.
    File(LockFile),
    /// At the server, if one runs and has one.
    Server,
}

impl Locks {
    pub(super) fn of(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = file else { return Ok(Self::Server) };
        let file = read_lock(path).with_context(|| path.display().to_string())?;
        Ok(Self::File(file))
    }

    /// What it has for the tag; where it names the given digest alone, that.
    pub(super) async fn find(
        &self,
        reference: &Reference,
        client: Option<&Client>,
    ) -> anyhow::Result<Option<Digest>> {
        match (self, client) {
            (Self::File(file), _) => Ok(in_file(file, reference)),
            (Self::Server, Some(Client::Server(data_dir))) => {
                // Only what its lock file has is of interest, whatever the digest.
                let digest = reference.digest.unwrap_or_else(|| Digest::sha256([0; 32]));
                let name = reference.to_string();
                let judge = JudgeRequest { name, digest, is_question: true };
                let mut lines = ask_server(data_dir, &json!({ "judge": judge })).await?;
                Ok(match next_line(&mut lines).await? {
                    Line::Judged(judgement) => judgement.locked,
                    _ => None,
                })
            }
            _ => Ok(None),
        }
    }
}

fn in_file(file: &LockFile, reference: &Reference) -> Option<Digest> {
    let by_digest = Reference { tag: None, ..reference.clone() };
    let key = key_of(reference);
    let by_tag = Reference { tag: Some(key.tag), digest: None, ..reference.clone() };
    let exact = reference.digest.and_then(|_| file.images.get(&by_digest));
    exact.or_else(|| file.images.get(&by_tag)).map(|locked| locked.digest)
}
