//! `immutag check REF[@DIGEST]…`: what upstreams answer now, beside what the ledger holds.

pub(super) mod ask;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, Place};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::rules::find;
use super::table::escape;
use super::{Global, key_of};
use crate::decide::TagEntry;
use crate::oci::{ComputedDigest, Digest, Reference};
use crate::upstream::Upstreams;
use ask::{Heard, ask};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Tags, each with the digest it should have, if you know one: `alpine:3.19@sha256:…`
    #[arg(value_name = "REF[@DIGEST]", required = true)]
    references: Vec<Reference>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What came of one reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Found {
    /// The upstream answers something else than the ledger's pin.
    Conflict,
    /// The upstream says that there is no such tag, though it was expected.
    Gone,
    /// The upstream's answer breaks a rule.
    Invalid,
    /// The upstream answers what is expected.
    Match,
    /// The upstream answers something else than the digest that was given.
    Mismatch,
    /// The ledger has no pin, and no digest was given: nothing to compare with.
    NoPin,
    /// The upstream, or this configuration, does not know it.
    Unknown,
    /// The upstream could not be asked.
    Unreachable,
}

/// One line of the answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Finding {
    reference: String,
    found: Found,
    observed: Option<Digest>,
    expected: Option<Digest>,
    remark: Option<String>,
}

impl Found {
    const fn code(self) -> Code {
        match self {
            Self::Conflict | Self::Gone | Self::Invalid | Self::Mismatch => Code::Finding,
            Self::Match | Self::NoPin => Code::Ok,
            Self::Unknown => Code::Failure,
            Self::Unreachable => Code::Unreachable,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Conflict => "CONFLICT",
            Self::Gone => "GONE",
            Self::Invalid => "INVALID",
            Self::Match => "match",
            Self::Mismatch => "MISMATCH",
            Self::NoPin => "no pin",
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
        }
    }
}

pub(super) async fn run(global: &Global, args: CheckArgs) -> anyhow::Result<ExitCode> {
    let config = global.load()?;
    if config.offline {
        anyhow::bail!("offline = true: no upstream is asked; set it to false to check");
    }
    let upstreams = Upstreams::new(&config.upstreams)?;
    let place = Place::new(&config, false);
    // Without a ledger there is nothing to compare with but the digests that were given.
    let client = if place.exists() { Some(place.open().await?) } else { None };
    if client.is_none() {
        let dir = config.data_dir.display();
        // Standard error is gone: the finding still says `no pin`.
        let _ = writeln!(
            io::stderr(),
            "there is no ledger in {dir}: only given digests are compared (see --data-dir)"
        );
    }
    let mut printer = Printer::new(args.format);
    let mut findings = Vec::new();
    for reference in &args.references {
        let finding = check(reference, &upstreams, client.as_ref()).await?;
        print(&mut printer, &finding)?;
        findings.push(finding.found);
    }
    if let Some(client) = client {
        client.close().await;
    }
    Ok(worst(&findings).into())
}

/// A finding outweighs an upstream that is down, and that a plain failure.
fn worst(findings: &[Found]) -> Code {
    let codes: Vec<_> = findings.iter().map(|found| found.code()).collect();
    [Code::Finding, Code::Unreachable, Code::Failure]
        .into_iter()
        .find(|code| codes.contains(code))
        .unwrap_or(Code::Ok)
}

async fn check(
    reference: &Reference,
    upstreams: &Upstreams,
    client: Option<&Client>,
) -> anyhow::Result<Finding> {
    let is_by_digest = reference.tag.is_none() && reference.digest.is_some();
    let entry = match client {
        Some(client) if !is_by_digest => find(client, &key_of(reference)).await?,
        _ => None,
    };
    let heard = ask(reference, upstreams).await;
    Ok(judge(reference, entry.as_deref(), heard))
}

/// Compares what was heard with the digest that was given, then with the pin.
fn judge(reference: &Reference, entry: Option<&TagEntry>, heard: Heard) -> Finding {
    let pin = entry.and_then(|entry| entry.state.pin.as_ref()).map(|pin| pin.content.digest);
    let (found, observed, remark) = match heard {
        Heard::Answer(computed) => {
            let found = compare(&computed, reference.digest, pin);
            (found, Some(computed.digest()), remark(entry, &computed.digest()))
        }
        Heard::Nothing if reference.digest.or(pin).is_some() => (Found::Gone, None, None),
        Heard::Nothing => (Found::Unknown, None, Some("the upstream has no such tag".to_owned())),
        Heard::Invalid(why) => (Found::Invalid, None, Some(why)),
        Heard::Unknown => {
            let words = "no such upstream: add [upstream.\"…\"] for it to the configuration";
            (Found::Unknown, None, Some(words.to_owned()))
        }
        Heard::Unreachable(why) => (Found::Unreachable, None, Some(why)),
    };
    let expected = match found {
        Found::Conflict => pin,
        _ => reference.digest.or(pin),
    };
    Finding { reference: reference.to_string(), found, observed, expected, remark }
}

fn compare(computed: &ComputedDigest, given: Option<Digest>, pin: Option<Digest>) -> Found {
    if given.is_some_and(|given| !computed.supports(&given)) {
        return Found::Mismatch;
    }
    match (given, pin) {
        (_, Some(pin)) if !computed.supports(&pin) => Found::Conflict,
        (None, None) => Found::NoPin,
        _ => Found::Match,
    }
}

/// What people said of a digest.
fn remark(entry: Option<&TagEntry>, digest: &Digest) -> Option<String> {
    let entry = entry?;
    let is_revoked = entry.revoked.contains(digest);
    let is_rejected = entry.state.rejected.contains(digest);
    is_revoked
        .then_some("the digest is revoked")
        .or(is_rejected.then_some("the digest is rejected for this tag"))
        .map(str::to_owned)
}

fn print(printer: &mut Printer, finding: &Finding) -> io::Result<()> {
    if printer.is_json {
        printer.json(finding)?;
        return printer.flush();
    }
    let Finding { reference, found, observed, expected, remark } = finding;
    let mut parts = vec![format!("{:<11}  {reference}", found.words())];
    parts.extend(observed.map(|observed| observed.to_string()));
    let missed = expected.filter(|expected| Some(*expected) != *observed);
    parts.extend(missed.map(|expected| format!("expected {expected}")));
    parts.extend(remark.as_ref().map(|remark| format!("({})", escape(remark))));
    printer.line(&parts.join("  "))?;
    printer.flush()
}

#[cfg(test)]
mod tests;
