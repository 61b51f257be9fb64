//! `immutag rules test`: which rule decides for a tag, and what the ledger holds there.

use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, Place};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::table::{Table, age, escape, short};
use super::{Global, parse_key};
use crate::clock::SystemClock;
use crate::decide::{Fault, Filter, Reply, Request, TagEntry};
use crate::oci::Digest;
use crate::pin::PinKey;
use crate::policy::explain::{Explanation, effect, explain};
use crate::policy::{Decision, Policy};

#[derive(Debug, Args)]
pub(super) struct RulesArgs {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// Say which rule decides for tags, and why
    Test(TestArgs),
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Tags: `alpine:3.19`, `ghcr.io/acme/app:1.2.3`
    #[arg(value_name = "REF", value_parser = parse_key, required_unless_present = "ledger")]
    keys: Vec<PinKey>,
    /// Say what this configuration would hold: for these tags, or for all that the ledger has
    #[arg(long)]
    ledger: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// A decision, for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DecisionView<'a> {
    #[serde(flatten)]
    key: &'a PinKey,
    /// What happens on a conflict; `exempt` for what is mutable by specification.
    reaction: &'static str,
    rule: Option<&'a str>,
    effect: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<HeldView>,
}

/// What the ledger has for a tag.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct HeldView {
    digest: Option<Digest>,
    is_pin: bool,
    since_ms: Option<u64>,
    age_seconds: Option<u64>,
}

pub(super) async fn run(global: &Global, args: RulesArgs) -> anyhow::Result<ExitCode> {
    let RulesCommand::Test(args) = args.command;
    let config = global.load()?;
    let mut printer = Printer::new(args.format);
    if args.ledger {
        let client = Place::new(&config, false).open().await?;
        against_ledger(&mut printer, &config.policy, &client, args.keys).await?;
        client.close().await;
    } else {
        for key in &args.keys {
            let explanation = explain(&config.policy, key);
            print(&mut printer, &config.policy, &explanation)?;
        }
    }
    printer.flush()?;
    Ok(Code::Ok.into())
}

fn print(printer: &mut Printer, policy: &Policy, explanation: &Explanation<'_>) -> io::Result<()> {
    let text = explanation.to_string();
    if printer.is_json {
        let mut view = view(policy, &explanation.key);
        view.explanation = Some(text);
        return printer.json(&view);
    }
    text.lines().try_for_each(|line| printer.line(&escape(line)))
}

fn view<'a>(policy: &'a Policy, key: &'a PinKey) -> DecisionView<'a> {
    let (reaction, rule) = match policy.decide(key) {
        Decision::Exempt => ("exempt", None),
        Decision::Unmatched => ("record", None),
        Decision::Ruled(rule) => (rule.reaction.name(), Some(rule)),
    };
    DecisionView {
        key,
        reaction,
        rule: rule.map(|rule| rule.name.as_str()),
        effect: rule.map(|rule| effect(rule)),
        explanation: None,
        held: None,
    }
}

async fn against_ledger(
    printer: &mut Printer,
    policy: &Policy,
    client: &Client,
    keys: Vec<PinKey>,
) -> anyhow::Result<()> {
    let now_ms = SystemClock::shared().wall_ms();
    if printer.is_json {
        return each(client, keys, |key, entry| {
            let held = held(entry, now_ms);
            printer.json(&DecisionView { held: Some(held), ..view(policy, key) })
        })
        .await;
    }
    let mut table = Table::new(printer, &["TAG", "REACTION", "DIGEST", "AGE", "", "RULE"]);
    each(client, keys, |key, entry| table.row(&row(policy, key, entry, now_ms))).await?;
    Ok(table.finish()?)
}

/// Calls `tell` for every tag that was named, else for every tag of the ledger.
async fn each(
    client: &Client,
    keys: Vec<PinKey>,
    mut tell: impl FnMut(&PinKey, Option<&TagEntry>) -> io::Result<()>,
) -> anyhow::Result<()> {
    if keys.is_empty() {
        let mut answer = client.ask(Request::List(Filter::default())).await?;
        while let Some(reply) = answer.next().await? {
            if let Reply::Tag(entry) = reply {
                tell(&entry.key, Some(&entry))?;
            }
        }
    }
    for key in keys {
        let entry = find(client, &key).await?;
        tell(&key, entry.as_deref())?;
    }
    Ok(())
}

/// What the ledger knows of a tag, if anything.
pub(super) async fn find(client: &Client, key: &PinKey) -> anyhow::Result<Option<Box<TagEntry>>> {
    let mut answer = client.ask(Request::Show { key: key.clone() }).await?;
    match answer.next().await {
        Ok(Some(Reply::Tag(entry))) => Ok(Some(entry)),
        Ok(_) => Ok(None),
        Err(error) => match error.downcast_ref() {
            Some(Fault::UnseenTag { .. }) => Ok(None),
            _ => Err(error),
        },
    }
}

fn held(entry: Option<&TagEntry>, now_ms: u64) -> HeldView {
    let standing = entry.and_then(|entry| entry.state.standing());
    HeldView {
        digest: standing.map(|pin| pin.content.digest),
        is_pin: entry.is_some_and(|entry| entry.state.pin.is_some()),
        since_ms: standing.map(|pin| pin.since_ms),
        age_seconds: standing.map(|pin| now_ms.saturating_sub(pin.since_ms) / 1000),
    }
}

fn row(policy: &Policy, key: &PinKey, entry: Option<&TagEntry>, now_ms: u64) -> [String; 6] {
    let view = view(policy, key);
    let held = held(entry, now_ms);
    let state = match (held.digest, held.is_pin) {
        (None, _) => "not seen",
        (Some(_), true) => "pinned",
        (Some(_), false) => "last recorded",
    };
    [
        key.to_string(),
        view.reaction.to_owned(),
        held.digest.map_or_else(|| "-".to_owned(), |digest| short(&digest)),
        held.since_ms.map_or_else(|| "-".to_owned(), |since_ms| age(since_ms, now_ms)),
        state.to_owned(),
        view.rule.unwrap_or("-").to_owned(),
    ]
}
