//! What ledger and metrics say, and how a person ends it.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use hyper::Method;
use tokio::sync::mpsc;

use super::client::ask;
use super::screen::{Ink, Screen, short};
use super::{Story, TWO_MINUTES, key, repository};
use crate::decide::{self, Reply, Request};
use crate::event::{Event, EventKind};
use crate::policy::Reaction;

/// What the metrics must say after the tags were overwritten.
const METRICS: [&str; 6] = [
    "immutag_conflicts_total{reaction=\"alert\"} 1",
    "immutag_conflicts_total{reaction=\"block\"} 1",
    "immutag_conflicts_total{reaction=\"hold\"} 1",
    "immutag_conflicts_open 2",
    "immutag_pins 3",
    "immutag_refusals_total{reason=\"DIGEST_CHANGED\"} 2",
];

impl Story {
    /// The events from sequence `from` on.
    pub(super) async fn show_ledger(
        &self,
        screen: &mut Screen<'_>,
        from: u64,
    ) -> anyhow::Result<()> {
        let events = self.stage.app().ledger.events(from, 100).await?;
        screen.heading(if from == 1 { "3. The ledger" } else { "6. The ledger, since then" })?;
        for event in &events {
            let ink = match event.kind {
                EventKind::Conflict => Ink::Bad,
                EventKind::Approved | EventKind::Rejected => Ink::Good,
                _ => Ink::Plain,
            };
            let (head, tail) = row(event);
            screen.line(&[(ink, &head), (Ink::Plain, &tail)])?;
        }
        let kinds: Vec<_> = events.iter().map(|event| event.kind.name()).collect();
        let kinds = kinds.join(" ");
        let expected = if from == 1 {
            "created observed pinned pinned pinned observed conflict followed conflict conflict"
        } else {
            "rejected conflict approved"
        };
        ensure!(kinds == expected, "the ledger has: {kinds}");
        Ok(())
    }

    pub(super) async fn show_metrics(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        screen.heading("4. The metrics")?;
        let answer = ask(self.stage.app().addresses.admin, Method::GET, "/metrics").await?;
        let text = String::from_utf8(answer.body.to_vec())?;
        for expected in METRICS {
            let name = expected.rsplit_once(' ').map_or(expected, |(name, _)| name);
            let line =
                text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(is, _)| is == name));
            let line = line.with_context(|| format!("no metric {name}"))?;
            screen.say(Ink::Plain, &format!("   {line}"))?;
            ensure!(line == expected, "the metric should be {expected}");
        }
        Ok(())
    }

    /// One digest is rejected, another approved.
    pub(super) async fn decide(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        screen
            .heading("5. A person decides: the thief's is rejected, the publisher's is approved")?;
        let reject = Request::Reject {
            key: key(Reaction::Block)?,
            digest: self.hostile.digest,
            reason: "pushed with a stolen password".parse()?,
        };
        self.execute(screen, reject).await?;
        self.expect(screen, Reaction::Block, &self.released, 0).await?;
        screen.note(
            Ink::Plain,
            3,
            "The publisher repairs hold/scanner; that is held too, until:",
        )?;
        self.stage.registry.push(&repository(Reaction::Hold), super::TAG, &self.rebuilt);
        self.stage.pass(TWO_MINUTES);
        self.expect_held(screen, &self.rebuilt).await?;
        let approve = Request::Approve {
            key: key(Reaction::Hold)?,
            digest: self.rebuilt.digest,
            revoke: None,
            reason: "the publisher's own repair".parse()?,
        };
        self.execute(screen, approve).await?;
        self.expect(screen, Reaction::Hold, &self.rebuilt, 0).await
    }

    /// What was decided holds, also where the registry still has the thief's.
    pub(super) async fn after_the_restart(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        screen.say(Ink::Plain, "   immutag is stopped and started again:")?;
        self.expect(screen, Reaction::Block, &self.released, 0).await?;
        self.expect(screen, Reaction::Hold, &self.rebuilt, 0).await
    }

    async fn execute(&self, screen: &mut Screen<'_>, request: Request) -> anyhow::Result<()> {
        let (to, mut from) = mpsc::channel(1);
        let (command, options) = command(&request)?;
        screen.line(&[(Ink::Plain, "   $ "), (Ink::Heading, &command), (Ink::Plain, " \\")])?;
        screen.note(Ink::Heading, 7, &options)?;
        let ledger = Arc::clone(&self.stage.app().ledger);
        decide::execute(ledger, request, "you", to).await?;
        let Some(Reply::Decided(decided)) = from.recv().await else {
            bail!("a decision is answered by what it came to");
        };
        screen.note(Ink::Faint, 3, &short(&decided.message))?;
        ensure!(decided.changed, "nothing was decided: {}", decided.message);
        Ok(())
    }
}

/// The command that does the same on a running immutag.
fn command(request: &Request) -> anyhow::Result<(String, String)> {
    let (name, key, digest, reason) = match request {
        Request::Approve { key, digest, reason, .. } => ("approve", key, digest, reason),
        Request::Reject { key, digest, reason } => ("reject", key, digest, reason),
        _ => bail!("the demo only approves and rejects"),
    };
    let digest = short(&digest.to_string());
    let reason = reason.as_str();
    let options = format!("--digest {digest} --reason \"{reason}\"");
    Ok((format!("immutag ledger {name} {key}"), options))
}

/// A line of the ledger: place, kind and tag; then digest, and by whom or what.
fn row(event: &Event) -> (String, String) {
    let head = format!("   {:>2}  {:<8}", event.sequence, event.kind);
    let Some(tag) = &event.key else { return (head.trim_end().to_owned(), String::new()) };
    let digest = event.observed_digest().map(|digest| short(&digest.to_string()));
    let by = match (event.who.as_str(), event.rule.as_str()) {
        ("", rule) => rule.to_owned(),
        (who, _) => format!("{who}: {}", event.why),
    };
    let tail = format!("  {:<36}  {:<19}  {by}", tag.to_string(), digest.unwrap_or_default());
    (head, tail)
}
