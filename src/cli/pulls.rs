//! `immutag pulls`: which clients pulled what, out of the journal's files, with or without a
//! server.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::Global;
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::table::{Table, short, time};
use crate::config::Config;
use crate::journal::{Filter, Outcome, Pulled, Walked, folder_of, walk};
use crate::oci::{Digest, Reference};
use crate::units::Span;

/// How many clients are told apart: memory stays bounded, whatever is read.
const CLIENTS: usize = 100_000;

#[derive(Debug, Args)]
#[command(
    after_help = "The oldest come first. What was pulled in the last second may be missing, \
                        and so may counts of the last minute. docs/journal.md says what the \
                        journal cannot tell: blobs, clients behind one address, pulls that went \
                        round immutag."
)]
pub(super) struct PullsArgs {
    /// Who was given this digest, by a tag or by itself, or was kept from it; may be given several
    /// times
    #[arg(long, value_name = "DIGEST")]
    digest: Vec<Digest>,
    /// Who asked for this: `alpine:3.19`, `ghcr.io/acme/app@sha256:…`
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<Reference>,
    /// Only since then: `7d`, `2026-04-22T09:13:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// Only of this client
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    #[command(flatten)]
    format: FormatArgs,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Since {
    /// A time, in milliseconds since the Unix epoch.
    At(u64),
    /// So long before now.
    Before(Span),
}

pub(super) fn run(global: &Global, args: PullsArgs) -> anyhow::Result<ExitCode> {
    let config = global.load()?;
    let folder = folder_of(&config.data_dir);
    let mut printer = Printer::new(args.format);
    let since_ms = args.since.map(|since| since.at_ms(now_ms()));
    let filter = Filter {
        digests: args.digest,
        reference: args.reference,
        since_ms,
        client: args.client,
        only_given: false,
        until: None,
    };
    let mut sum = Sum::default();
    let walked = show(&folder, &filter, &mut printer, &mut sum)?;
    if printer.is_json || sum.is_empty() {
        tell(&sum.words())?;
    } else {
        printer.line(&sum.words())?;
        printer.flush()?;
    }
    remark(&config, &folder, walked)?;
    Ok(Code::Ok.into())
}

fn show(
    folder: &Path,
    filter: &Filter,
    printer: &mut Printer,
    sum: &mut Sum,
) -> anyhow::Result<Walked> {
    let unread = || format!("the journal in {} cannot be read", folder.display());
    if printer.is_json {
        let walked = walk(folder, filter, |pulled| {
            sum.add(&pulled);
            printer.json(&pulled)?;
            Ok(ControlFlow::Continue(()))
        });
        printer.flush()?;
        return in_words(walked, unread);
    }
    let headings = ["TIME", "CLIENT", "LISTENER", "METHOD", "REFERENCE", "DIGEST", "OUTCOME", "N"];
    let mut table = Table::new(printer, &headings);
    let walked = walk(folder, filter, |pulled| {
        sum.add(&pulled);
        table.row(&row(&pulled))?;
        Ok(ControlFlow::Continue(()))
    });
    if !sum.is_empty() {
        table.finish()?;
    }
    in_words(walked, unread)
}

/// A closed pipe stays what it is: nobody reads on, which is no failure.
fn in_words<T>(result: io::Result<T>, words: impl FnOnce() -> String) -> anyhow::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(error.into()),
        result => result.with_context(words),
    }
}

fn row(pulled: &Pulled) -> [String; 8] {
    let digest = pulled.digest.or(pulled.kept_from);
    let outcome = match &pulled.reason {
        Some(reason) => format!("{} {reason}", pulled.outcome.name()),
        None => pulled.outcome.name().to_owned(),
    };
    [
        time(pulled.first_ms),
        pulled.client.to_string(),
        pulled.listener.clone(),
        pulled.method.name().to_owned(),
        reference(&pulled.reference),
        digest.map_or_else(|| "-".to_owned(), |digest| short(&digest)),
        outcome,
        pulled.count.to_string(),
    ]
}

/// With the begin of its digest: all of it stands in the JSON.
fn reference(reference: &Reference) -> String {
    match &reference.digest {
        Some(digest) => {
            let name = Reference { digest: None, ..reference.clone() };
            format!("{name}@{}", short(digest))
        }
        None => reference.to_string(),
    }
}

/// What the entries come to.
#[derive(Default)]
struct Sum {
    pulls: u64,
    refused: u64,
    clients: HashSet<IpAddr>,
    has_more_clients: bool,
}

impl Sum {
    fn add(&mut self, pulled: &Pulled) {
        if pulled.outcome == Outcome::Refused {
            self.refused = self.refused.saturating_add(pulled.count);
            return;
        }
        self.pulls = self.pulls.saturating_add(pulled.count);
        if self.clients.len() < CLIENTS {
            self.clients.insert(pulled.client);
        } else if !self.clients.contains(&pulled.client) {
            self.has_more_clients = true;
        }
    }

    const fn is_empty(&self) -> bool {
        self.pulls == 0 && self.refused == 0
    }

    fn words(&self) -> String {
        let count = |number: u64, one: &str| {
            format!("{number} {one}{}", if number == 1 { "" } else { "s" })
        };
        let more = if self.has_more_clients { "more than " } else { "" };
        let clients = count(self.clients.len() as u64, "client");
        let refused = match self.refused {
            0 => String::new(),
            number => format!("; {number} refused"),
        };
        format!("{} by {more}{clients}{refused}", count(self.pulls, "pull"))
    }
}

impl Since {
    pub(super) fn at_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Before(span) => {
                now_ms.saturating_sub(u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }
}

pub(super) fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(span) = text.parse() {
        return Ok(Since::Before(span));
    }
    let stamp = text.parse::<jiff::Timestamp>().map_err(|_| {
        "a time is a duration (7d, 12h) or as in RFC 3339 (2026-04-22T09:13:00Z)".to_owned()
    })?;
    u64::try_from(stamp.as_millisecond()).map(Since::At).map_err(|_| "it is before 1970".to_owned())
}

pub(super) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// What else is to be known of the answer.
fn remark(config: &Config, folder: &Path, walked: Walked) -> anyhow::Result<()> {
    if config.journal.keep.is_zero() {
        tell("the journal is off: journal.keep is 0")?;
    } else if !folder.is_dir() {
        tell(&format!("there is no journal in {}", folder.display()))?;
    }
    if walked.skipped > 0 {
        let count = walked.skipped;
        tell(&format!("lines left out (torn, or none of this version's): {count}"))?;
    }
    Ok(())
}

fn tell(words: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stderr(), "{words}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_duration_or_a_date() {
        let day = 86_400_000;
        for (text, expected) in [
            ("7d", 100 * day - 7 * day),
            ("1h30m", 100 * day - 5_400_000),
            ("1970-01-03T00:00:00Z", 2 * day),
            ("1970-01-03T02:00:00+02:00", 2 * day),
        ] {
            assert_eq!(parse_since(text).unwrap().at_ms(100 * day), expected, "{text}");
        }
        for text in ["", "7", "yesterday", "1969-12-31T00:00:00Z", "2026-04-22", "-7d"] {
            assert!(parse_since(text).is_err(), "{text}");
        }
        assert_eq!(parse_since("200d").unwrap().at_ms(100 * day), 0);
    }
}
