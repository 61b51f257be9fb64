//! What the ledger has pinned, and what the running server gave, as lists to lock.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::super::client::Client;
use super::super::key_of;
use super::super::ledger::export::pinned;
use super::super::report::fetch;
use super::super::rules::find;
use super::merge::{Answer, Wish};
use crate::admin::socket::ReportRequest;
use crate::decide::{Filter, Reply, Request, TagEntry};
use crate::report::{Report, Row, Status};

/// Takes the pins of the ledger into what the lock file should have.
///
/// # Errors
/// There is no ledger, or it does not answer.
pub(super) async fn take(
    client: Option<&Client>,
    glob: &str,
    wish: &mut Wish,
) -> anyhow::Result<()> {
    let client = client.context("--from-ledger: there is no ledger here; --data-dir names one")?;
    let glob = Some(glob.to_owned()).filter(|glob| !glob.is_empty());
    let filter = Filter { glob, ..Filter::default() };
    let mut answer = client.ask(Request::List(filter)).await?;
    while let Some(reply) = answer.next().await? {
        let Reply::Tag(entry) = reply else { bail!("the ledger answered what nobody asked for") };
        if let Some((reference, digest)) = pinned(*entry) {
            let remark = Some("from the ledger".to_owned());
            wish.given.insert(reference, Answer { digest, remark, conflict: None });
        }
    }
    Ok(())
}

/// Takes in what the running server gave since it started.
///
/// # Errors
/// No server runs, or its record of what it gave is not whole: the lock file would lack something.
pub(super) async fn take_seen(
    client: Option<&Client>,
    data_dir: &Path,
    wish: &mut Wish,
) -> anyhow::Result<()> {
    let Report { head, rows } = fetch(data_dir, ReportRequest::default()).await?;
    if !head.gaps.is_empty() {
        bail!("--seen: the record of what was pulled is not whole: {}", head.gaps.join("; "));
    }
    let client = client.context("--seen: the server has ended")?;
    for row in rows {
        let is_by_digest = row.reference.digest.is_some();
        let entry = match row.status {
            Status::Refused => continue,
            _ if is_by_digest => None,
            _ => find(client, &key_of(&row.reference)).await?,
        };
        if is_by_digest {
            wish.wanted.entry(row.reference).or_default();
        } else if let Some(answer) = seen(&row, entry.as_deref()) {
            wish.given.insert(row.reference, answer);
        }
    }
    Ok(())
}

/// What a tag that was pulled stands for: its pin, else what was last recorded for it. The row's
/// own digests would not do: a client may have got one platform of what the tag stands for.
fn seen(row: &Row, entry: Option<&TagEntry>) -> Option<Answer> {
    let entry = entry?;
    let standing = entry.state.standing()?.content.digest;
    if entry.revoked.contains(&standing) {
        return None;
    }
    let moved = entry.state.pin.is_none() && row.digests.len() > 1;
    let conflict = match (&entry.state.conflict, moved) {
        (Some(open), _) => Some(format!("it was served, the upstream says {}", open.observed)),
        (None, true) => Some("clients got several digests for it; this is the last".to_owned()),
        (None, false) => None,
    };
    Some(Answer { digest: standing, remark: Some("as it was served".to_owned()), conflict })
}
