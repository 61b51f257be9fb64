//! `immutag demo`: a tag is overwritten, under each reaction, within seconds and without a network.
//!
//! Registry, client and immutag are real and in this process; every line tells what happened. Each
//! claim is checked where it is printed, and the first that does not hold ends the demo.

mod client;
mod screen;
mod stage;
mod telling;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use hyper::Method;

use self::client::{Answer, Pulled, ask, pull};
use self::screen::{Ink, Screen, short};
use self::stage::{Stage, rule};
use super::exit::Code;
use super::registry::Release;
use crate::config::ListenerKind;
use crate::pin::PinKey;
use crate::policy::Reaction;

const REGISTRY: &str = "registry.demo";
const TAG: &str = "v2.1.20";
const REACTIONS: [Reaction; 4] =
    [Reaction::Record, Reaction::Alert, Reaction::Hold, Reaction::Block];

/// Longer than any rule's `recheck`.
const TWO_MINUTES: Duration = Duration::from_mins(2);
const A_MONTH: Duration = Duration::from_hours(30 * 24);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {}

/// Tells the story on standard output; an error if anything was not as it claims.
pub(super) async fn run(_args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let told = tell(&mut Screen::new(&mut out, screen::wants_colour())).await;
    told.context("the demo is not what it claims to be")?;
    Ok(Code::Ok.into())
}

async fn tell(screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let mut story = Story::begin().await?;
    let told = story.tell(screen).await;
    // Also after what differs: nothing is left behind.
    let closed = story.stage.close().await;
    told.and(closed)
}

/// Who is on stage.
struct Story {
    stage: Stage,
    released: Release,
    hostile: Release,
    rebuilt: Release,
}

impl Story {
    async fn begin() -> anyhow::Result<Self> {
        let mut rules = Vec::new();
        // Hold needs no rule: the built-in ones hold full versions.
        for reaction in [Reaction::Record, Reaction::Alert, Reaction::Block] {
            let name = format!("rule {}", rules.len() + 1);
            rules.push(rule(&name, &repository(reaction), reaction)?);
        }
        let stage = Stage::open(&REGISTRY.parse()?, rules).await?;
        Ok(Self {
            stage,
            released: Release::of("the scanner, as it was released"),
            hostile: Release::of("the scanner, and it sends your secrets away"),
            rebuilt: Release::of("the scanner, built again by its publisher"),
        })
    }

    async fn tell(&mut self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        self.introduce(screen)?;
        self.first_pulls(screen).await?;
        self.overwrite(screen).await?;
        self.show_ledger(screen, 1).await?;
        self.show_metrics(screen).await?;
        let next = self.stage.next_event();
        self.decide(screen).await?;
        self.stage.restart().await?;
        self.after_the_restart(screen).await?;
        self.show_ledger(screen, next).await?;
        screen.heading("All of it was checked against what happened.")?;
        Ok(())
    }

    fn introduce(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        screen.say(Ink::Heading, "immutag demo: somebody overwrites a tag")?;
        let place = format!(
            "A registry on {} and immutag before it (mirror on {}, direct on {}), all in this \
             process, with a ledger in a temporary directory. Digests are cut to 12 digits.",
            self.stage.registry.address,
            self.stage.listener(ListenerKind::Mirror)?,
            self.stage.listener(ListenerKind::Direct)?,
        );
        screen.note(Ink::Faint, 0, &place)?;
        Ok(())
    }

    async fn first_pulls(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        screen.heading(
            "1. A client pulls v2.1.20 from four repositories, each under another reaction",
        )?;
        for reaction in REACTIONS {
            self.stage.registry.push(&repository(reaction), TAG, &self.released);
            self.expect(screen, reaction, &self.released, 0).await?;
            self.stage.until(&key(reaction)?, |state| state.standing().is_some()).await?;
        }
        screen.note(
            Ink::Faint,
            3,
            "All four are in the ledger: record after the reply, the others before it.",
        )?;
        Ok(())
    }

    async fn overwrite(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        screen
            .heading("2. A month later a thief overwrites all four tags; the client pulls again")?;
        for reaction in REACTIONS {
            self.stage.registry.push(&repository(reaction), TAG, &self.hostile);
        }
        self.stage.pass(A_MONTH);
        let hostile = self.hostile.digest;
        self.expect(screen, Reaction::Record, &self.hostile, 0).await?;
        self.stage.until(&key(Reaction::Record)?, |state| state.seen(&hostile).is_some()).await?;
        self.expect(screen, Reaction::Alert, &self.hostile, 1).await?;
        self.expect_held(screen, &self.hostile).await?;
        self.expect_block(screen).await
    }

    /// Hold answers from the pin, asks after the reply, and warns from then on.
    async fn expect_held(&self, screen: &mut Screen<'_>, other: &Release) -> anyhow::Result<()> {
        let now = self.pulled(Reaction::Hold).await?;
        ensure!(now.digest == self.released.digest, "hold gave {}", now.digest);
        let is_open = |state: &crate::pin::TagState| {
            state.conflict.as_ref().is_some_and(|open| open.observed == other.digest)
        };
        self.stage.until(&key(Reaction::Hold)?, is_open).await?;
        self.expect(screen, Reaction::Hold, &self.released, 1).await
    }

    async fn expect_block(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        let Err(refusal) = self.try_pull(Reaction::Block).await? else {
            anyhow::bail!("block let a pull through");
        };
        ensure!(refusal.status == 300, "block answered {}", refusal.status);
        ensure!(refusal.phrase.contains("DIGEST_CHANGED"), "block said {}", refusal.phrase);
        screen.line(&[
            (Ink::Plain, "   block   "),
            (Ink::Bad, "300, and the client stops; it shows:"),
        ])?;
        screen.note(Ink::Warning, 11, &short(&refusal.phrase))?;
        let target = format!("/v2/{REGISTRY}/{}/manifests/{TAG}", repository(Reaction::Block));
        let direct = self.stage.listener(ListenerKind::Direct)?;
        let refusal = ask(direct, Method::GET, &target).await?;
        let envelope: serde_json::Value = serde_json::from_slice(&refusal.body)?;
        let reason = envelope["errors"][0]["detail"]["reason"].as_str().unwrap_or_default();
        ensure!((refusal.status, reason) == (403, "DIGEST_CHANGED"), "direct said {envelope}");
        let plain = format!("           {}, {reason}", refusal.status);
        screen.line(&[(Ink::Bad, &plain), (Ink::Plain, ", on the direct listener")])?;
        Ok(())
    }

    /// Pulls, prints what came, and checks it.
    async fn expect(
        &self,
        screen: &mut Screen<'_>,
        reaction: Reaction,
        release: &Release,
        warnings: usize,
    ) -> anyhow::Result<()> {
        let pulled = self.pulled(reaction).await?;
        let ink = if pulled.digest == self.hostile.digest { Ink::Bad } else { Ink::Good };
        let name = format!("   {:<8}", reaction.name());
        let digest = format!("200  {}  ", short(&pulled.digest.to_string()));
        screen.line(&[(Ink::Plain, &name), (Ink::Plain, &digest), (ink, &pulled.program)])?;
        for warning in &pulled.warnings {
            screen.note(Ink::Warning, 11, &format!("Warning: {}", short(warning)))?;
        }
        let name = reaction.name();
        ensure!(pulled.digest == release.digest, "{name} gave {}", pulled.digest);
        let told = pulled.warnings.len();
        ensure!(told == warnings, "{name} gave {told} warnings instead of {warnings}");
        Ok(())
    }

    async fn pulled(&self, reaction: Reaction) -> anyhow::Result<Pulled> {
        match self.try_pull(reaction).await? {
            Ok(pulled) => Ok(pulled),
            Err(Answer { status, phrase, .. }) => {
                anyhow::bail!("{}: {status} {phrase}", reaction.name())
            }
        }
    }

    async fn try_pull(&self, reaction: Reaction) -> anyhow::Result<Result<Pulled, Answer>> {
        let mirror = self.stage.listener(ListenerKind::Mirror)?;
        pull(mirror, REGISTRY, &repository(reaction), TAG).await
    }
}

fn repository(reaction: Reaction) -> String {
    format!("{}/scanner", reaction.name())
}

fn key(reaction: Reaction) -> anyhow::Result<PinKey> {
    Ok(PinKey {
        registry: REGISTRY.parse()?,
        repository: repository(reaction).parse()?,
        tag: TAG.parse()?,
    })
}

#[cfg(test)]
mod tests;
