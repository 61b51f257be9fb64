//! Another ledger's whole history, as the beginning of this one.

use std::io::BufRead;

use anyhow::Context as _;

use super::super::super::client::Place;
use super::jsonl::{Export, Taken};
use crate::admin::user;
use crate::clock::SystemClock;
use crate::decide::Reason;
use crate::event::{Draft, EventKind};
use crate::ledger::Adoption;

/// Takes an export over into an empty ledger: all of it, or nothing. Says what it came to.
pub(super) fn import(
    place: &Place,
    input: impl BufRead,
    reason: &Reason,
    is_dry_run: bool,
) -> anyhow::Result<String> {
    let mut export = Export::open(input)?;
    let (id, events) = (export.header.ledger.clone(), export.header.sequence);
    let mut adoption = if is_dry_run {
        None
    } else {
        Some(Adoption::begin(&place.adoption()?, SystemClock::shared())?)
    };
    let mut manifests = 0;
    while let Some(taken) = export.next()? {
        manifests += taken.manifests.len();
        let Taken { event, manifests, line } = taken;
        // The new ledger has a creation of its own.
        if let Some(adoption) = adoption.as_mut().filter(|_| event.kind != EventKind::Created) {
            let took = adoption.take(&event, &manifests);
            took.with_context(|| format!("line {line}"))?;
        }
    }
    let what = format!("{events} events and {manifests} manifests of the ledger {id}");
    let Some(adoption) = adoption else {
        return Ok(format!("{what} would be taken over; nothing was written"));
    };
    let head = &export.header.head;
    let why = format!("{}; {events} events of ledger {id}, head {head}", reason.as_str());
    let who = user::name_of(rustix::process::getuid().as_raw());
    adoption.finish(Draft { who, why, ..Draft::new(EventKind::LedgerImported, None) })?;
    Ok(format!("{what} were taken over: this ledger was empty, and has that history now"))
}
