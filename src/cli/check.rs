//! `immutag check REF[@DIGEST]…`: what upstreams answer now, beside what the ledger holds.

pub(super) mod ask;
mod page;
mod told;
mod whose;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, Place};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::rules::find;
use super::{Global, key_of};
use crate::decide::TagEntry;
use crate::oci::{ComputedDigest, Digest, Reference};
use crate::upstream::Upstreams;
use ask::{Heard, ask};
use told::{Ledgered, Locks, ledgered};
use whose::{DigestIs, Whose, elsewhere, within};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Tags, each with the digest it should have, if you know one: `alpine:3.19@sha256:…`
    #[arg(value_name = "REF[@DIGEST]", required = true)]
    references: Vec<Reference>,
    /// Say also what this lock file has [default: the running server's, if it has one]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
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

/// Where the tag of a `TAG@DIGEST` points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum TagIs {
    /// To something else than the digest.
    Elsewhere,
    /// To the digest.
    There,
    /// Nowhere: the upstream has no such tag.
    Unknown,
}

/// One line of the answer. What is only known of a `TAG@DIGEST`, or of a lock file, is left out
/// elsewhere.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Finding {
    reference: String,
    found: Found,
    observed: Option<Digest>,
    expected: Option<Digest>,
    remark: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_is: Option<TagIs>,
    #[serde(flatten)]
    whose: Option<Whose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<Ledgered>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locked: Option<Digest>,
}

/// What is known of a reference, besides what the upstream answers.
#[derive(Default)]
struct Known<'a> {
    entry: Option<&'a TagEntry>,
    whose: Option<Whose>,
    ledger: Option<Ledgered>,
    locked: Option<Digest>,
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
    let locks = Locks::of(args.lock.as_deref())?;
    if config.offline {
        anyhow::bail!("offline = true: no upstream is asked; set it to false to check");
    }
    let upstreams = Upstreams::new(&config.upstreams)?;
    let place = Place::new(&config, false);
    // Without a ledger there is nothing to compare with but the digests that were given.
    let client = place.find().await?;
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
        let finding = check(reference, &upstreams, client.as_ref(), &locks).await?;
        page::print(&mut printer, &finding)?;
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
    locks: &Locks,
) -> anyhow::Result<Finding> {
    let is_by_digest = reference.tag.is_none() && reference.digest.is_some();
    let entry = match client {
        Some(client) if !is_by_digest => find(client, &key_of(reference)).await?,
        _ => None,
    };
    let (heard, manifest) = ask(reference, upstreams).await;
    let mut known = Known { entry: entry.as_deref(), ..Known::default() };
    known.locked = locks.find(reference, client).await?;
    if let Some(digest) = reference.digest.filter(|_| reference.tag.is_some()) {
        let inside = manifest.and_then(|manifest| within(&manifest, digest));
        known.whose = Some(match (&heard, inside) {
            (Heard::Answer(it), _) if it.supports(&digest) => Whose::plain(DigestIs::ThisTag),
            (_, Some(inside)) => inside,
            (Heard::Unknown | Heard::Unreachable(_), None) => Whose::plain(DigestIs::Unknown),
            (_, None) => elsewhere(reference, digest, upstreams, client).await?,
        });
        if let (Some(client), Some(entry)) = (client, &entry) {
            known.ledger = Some(ledgered(client, entry, digest).await?);
        }
    }
    Ok(judge(reference, known, heard))
}

/// Compares what was heard with the digest that was given, then with the pin, then with the lock.
fn judge(reference: &Reference, known: Known<'_>, heard: Heard) -> Finding {
    let Known { entry, whose, ledger, locked } = known;
    let given = reference.digest;
    let pin = entry.and_then(|entry| entry.state.pin.as_ref()).map(|pin| pin.content.digest);
    let digest_is = whose.as_ref().map(|whose| whose.digest_is);
    let tag_is = whose.as_ref().and_then(|_| tag_is(&heard, given));
    let mut differs_from_lock = false;
    let (found, observed, remark) = match heard {
        Heard::Answer(computed) => {
            // A platform's image is what the tag points to, for who runs that platform.
            let is_inside = digest_is == Some(DigestIs::PlatformOfThisTag);
            let mut found = compare(&computed, given.filter(|_| !is_inside), pin);
            let is_other = |locked: &Digest| !computed.supports(locked) && given != Some(*locked);
            differs_from_lock = locked.as_ref().is_some_and(is_other);
            if is_inside && found == Found::NoPin {
                found = Found::Match;
            }
            if differs_from_lock && matches!(found, Found::Match | Found::NoPin) {
                found = Found::Mismatch;
            }
            (found, Some(computed.digest()), remark(entry, &computed.digest()))
        }
        Heard::Nothing => nothing(reference, pin.or(locked), digest_is),
        Heard::Invalid(why) => (Found::Invalid, None, Some(why)),
        Heard::Unknown => {
            let words = "no such upstream: add [upstream.\"…\"] for it to the configuration";
            (Found::Unknown, None, Some(words.to_owned()))
        }
        Heard::Unreachable(why) => (Found::Unreachable, None, Some(why)),
    };
    let expected = match found {
        Found::Conflict => pin,
        Found::Mismatch if differs_from_lock => locked,
        _ => given.or(pin),
    };
    let reference = reference.to_string();
    Finding { reference, found, observed, expected, remark, tag_is, whose, ledger, locked }
}

/// The upstream has nothing of that name.
fn nothing(
    reference: &Reference,
    expected: Option<Digest>,
    digest_is: Option<DigestIs>,
) -> (Found, Option<Digest>, Option<String>) {
    let is_by_digest = reference.digest.is_some() && reference.tag.is_none();
    if expected.is_some() || is_by_digest {
        return (Found::Gone, None, None);
    }
    let remark = Some("the upstream has no such tag".to_owned());
    match digest_is {
        Some(DigestIs::OtherTag) => (Found::Mismatch, None, remark),
        _ => (Found::Unknown, None, remark),
    }
}

fn tag_is(heard: &Heard, given: Option<Digest>) -> Option<TagIs> {
    match heard {
        Heard::Answer(computed) if given.is_some_and(|it| computed.supports(&it)) => {
            Some(TagIs::There)
        }
        Heard::Answer(_) => Some(TagIs::Elsewhere),
        Heard::Nothing => Some(TagIs::Unknown),
        Heard::Invalid(_) | Heard::Unknown | Heard::Unreachable(_) => None,
    }
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

#[cfg(test)]
mod tests;
