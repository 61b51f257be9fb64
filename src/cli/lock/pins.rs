//! What the ledger has pinned, as a list to lock.

use anyhow::{Context as _, bail};

use super::super::client::Client;
use super::super::ledger::export::pinned;
use super::merge::Wish;
use crate::decide::{Filter, Reply, Request};

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
            wish.given.insert(reference, (digest, "the ledger"));
        }
    }
    Ok(())
}
