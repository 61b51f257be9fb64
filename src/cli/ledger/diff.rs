//! `immutag ledger diff REF`: what changed at a tag. A running server asks the upstream for what is
//! not here; without one, the ledger and what is stored have to do.

mod page;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::super::client::{Client, Place, ask_server, next_line};
use super::super::exit::Code;
use super::super::output::Printer;
use super::TagArg;
use crate::admin::socket::{DiffRequest, Explained, Line};
use crate::blob::fs::read_at_rest;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::decide::Fault;
use crate::ledger::{FileLedger, LedgerStore as _, StoredManifest};
use crate::oci::{ComputedDigest, Digest, MANIFEST_LIMIT};
use crate::pin::TagState;
use crate::policy::judge::is_young;
use crate::triage::{CONFIG_LIMIT, Case, Material, Side, Triage, Wanted, compare, wanted};

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    tag: TagArg,
    /// What it was [default: the pin, or what the pin was before it followed the upstream]
    #[arg(long, value_name = "DIGEST")]
    from: Option<Digest>,
    /// What it became [default: what the upstream answers instead, or the pin]
    #[arg(long, value_name = "DIGEST")]
    to: Option<Digest>,
}

pub(super) async fn run(
    config: &Config,
    place: &Place,
    args: DiffArgs,
    mut printer: Printer,
) -> anyhow::Result<ExitCode> {
    let request = DiffRequest { key: args.tag.key, from: args.from, to: args.to };
    let client = place.open().await?;
    let (explained, is_alone) = match &client {
        Client::Own(ledger) => (alone(&config.data_dir, ledger, request).await?, true),
        Client::Server(data_dir) => (of_server(data_dir, &request).await?, false),
    };
    client.close().await;
    if printer.is_json {
        printer.json(&explained)?;
    } else {
        for line in page::page(&explained, is_alone) {
            printer.line(&line)?;
        }
    }
    printer.flush()?;
    Ok(Code::Ok.into())
}

async fn of_server(data_dir: &Path, request: &DiffRequest) -> anyhow::Result<Explained> {
    let mut lines = ask_server(data_dir, &json!({ "diff": request })).await?;
    match next_line(&mut lines).await? {
        Line::Explained(explained) => Ok(*explained),
        Line::Failed(fault) => Err(fault.into()),
        _ => bail!("the server answered what nobody asked for"),
    }
}

/// From what the ledger and the store have; no upstream is asked.
async fn alone(
    data_dir: &Path,
    ledger: &Arc<FileLedger>,
    request: DiffRequest,
) -> anyhow::Result<Explained> {
    let state = ledger.state(&request.key).await.map_err(Fault::from)?.unwrap_or_default();
    let (before, after) = request.subjects(&state)?;
    let triage = compare_stored(data_dir, ledger, &state, (before, after)).await?;
    Ok(request.explained(&state, (before, after), triage)?)
}

async fn compare_stored(
    data_dir: &Path,
    ledger: &FileLedger,
    state: &TagState,
    (before, after): (Digest, Digest),
) -> anyhow::Result<Option<Triage>> {
    let before = root(data_dir, ledger, state, before).await?;
    let (Some(before), Some(after)) = (before, root(data_dir, ledger, state, after).await?) else {
        return Ok(None);
    };
    let [old, new] = [&before, &after].map(|it| Side { content: &it.content, bytes: &it.bytes });
    let mut material = Material::default();
    // Manifests, then configs.
    for _ in 0..2 {
        for one in wanted(old, new, &material) {
            if let Some(bytes) = stored(data_dir, ledger, &one).await? {
                // What is damaged is not taken, and told as not at hand.
                let _ = material.add(&one, bytes);
            }
        }
    }
    let now_ms = SystemClock::shared().wall_ms();
    let mut pins = state.pin.iter().filter(|pin| pin.content == before.content);
    let is_young = pins.any(|pin| is_young(pin, now_ms));
    let case =
        Case { before: old, after: new, material: &material, signatures: None, is_young, now_ms };
    Ok(Some(compare(&case)))
}

/// A manifest of the tag itself, called as the ledger calls it.
async fn root(
    data_dir: &Path,
    ledger: &FileLedger,
    state: &TagState,
    digest: Digest,
) -> anyhow::Result<Option<StoredManifest>> {
    if let Some(manifest) = ledger.manifest(&digest).await.map_err(Fault::from)? {
        return Ok(Some(manifest));
    }
    // Under `record` the ledger has no bytes: they may be in the cache.
    let content = state.seen(&digest).map(|seen| seen.content.clone());
    let bytes = read_at_rest(data_dir, &digest, MANIFEST_LIMIT as u64)?;
    let is_it = |bytes: &Vec<u8>| ComputedDigest::of(bytes, Some(&digest)).supports(&digest);
    let found = content.zip(bytes.filter(is_it));
    Ok(found.map(|(content, bytes)| StoredManifest { content, bytes: bytes.into() }))
}

async fn stored(
    data_dir: &Path,
    ledger: &FileLedger,
    one: &Wanted,
) -> anyhow::Result<Option<bytes::Bytes>> {
    let limit = if one.is_config { CONFIG_LIMIT } else { MANIFEST_LIMIT as u64 };
    if let Some(bytes) = read_at_rest(data_dir, &one.digest, limit)? {
        return Ok(Some(bytes.into()));
    }
    if one.is_config {
        return Ok(None);
    }
    let manifest = ledger.manifest(&one.digest).await.map_err(Fault::from)?;
    Ok(manifest.map(|manifest| manifest.bytes))
}
