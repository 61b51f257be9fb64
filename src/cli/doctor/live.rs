//! `doctor --live`: a tag of a built-in test registry moves, and the clients of this host are made
//! to pull it, with the settings that they have.
//!
//! The running immutag puts the canary in the place of one repository that no registry has, so
//! whoever pulls it came through immutag.

mod drive;

use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use self::drive::{Driver, Pulled};
use super::finding::{Finding, Standing};
use crate::admin::socket::canary::CanaryRequest;
use crate::admin::socket::{self, Line};
use crate::cli::clients::ClientKind;
use crate::cli::registry::{Release, TestRegistry};

/// What is made to pull, and of which registry.
pub(super) struct Trial<'a> {
    pub(super) client: ClientKind,
    /// The registry whose name the references carry.
    pub(super) registry: &'a str,
    /// Where containerd's `hosts.toml` files are.
    pub(super) hosts_folder: &'a str,
}

/// A canary in place; it goes when this is dropped.
struct Canary {
    registry: TestRegistry,
    connection: BufReader<UnixStream>,
    repository: String,
}

/// What a client got of one tag, before and after it moved.
struct Seen {
    before: Pulled,
    after: Pulled,
}

/// Lets a client pull, moves the tags, lets it pull again; `None` for a client that cannot be made
/// to pull from here.
///
/// # Errors
/// No immutag runs on this data directory, or it refuses the canary.
pub(super) async fn prove(data_dir: &Path, trial: &Trial<'_>) -> anyhow::Result<Option<Finding>> {
    let Some(driver) = Driver::find(trial) else { return Ok(None) };
    let canary = Canary::place(data_dir).await?;
    let first = Release::unpackable("as it was released");
    let moved = Release::unpackable("as somebody pushed it over");
    let reference = |tag: &str| format!("{}/{}:{tag}", trial.registry, canary.repository);
    let (hold, block) = (reference("hold"), reference("block"));
    canary.push(&first);
    let before = [driver.pull(&hold).await, driver.pull(&block).await];
    canary.push(&moved);
    let after = [driver.pull(&hold).await, driver.pull(&block).await];
    driver.clean(&[hold, block]).await;
    canary.take_away().await?;
    let [before_hold, before_block] = before;
    let [after_hold, after_block] = after;
    let hold = Seen { before: before_hold, after: after_hold };
    let block = Seen { before: before_block, after: after_block };
    let (standing, what, fix) = judge(&first.digest.to_string(), &hold, &block);
    let registry = Some(trial.registry.to_owned());
    let (client, place) = (trial.client, Some(driver.place()));
    Ok(Some(Finding { client, registry, standing, place, what, fix }))
}

/// What the pulls mean: the standing, what was seen, what to do.
fn judge(first: &str, hold: &Seen, block: &Seen) -> (Standing, String, String) {
    let open = |what: String| {
        let fix = "see what else is found of this client; `immutag setup` prints its settings";
        (Standing::Bypassable, what, fix.to_owned())
    };
    for pulled in [&hold.before, &block.before] {
        match pulled {
            Pulled::Got(digest) if digest == first => {}
            Pulled::Got(digest) => return open(format!("live: it got {digest} from elsewhere")),
            Pulled::Stopped(words) => {
                let what = "live: it does not come through immutag, which alone has the canary";
                return open(format!("{what}; it says: {words}"));
            }
        }
    }
    match &hold.after {
        Pulled::Got(digest) if digest == first => {}
        Pulled::Got(_) => return open("live: under hold it got the moved content".to_owned()),
        Pulled::Stopped(words) => {
            return open(format!("live: under hold it got nothing; it says: {words}"));
        }
    }
    match &block.after {
        Pulled::Got(_) => open("live: under block it was not stopped".to_owned()),
        Pulled::Stopped(words) if !words.contains("immutag: ") => {
            open(format!("live: under block it got nothing, but not by immutag's words: {words}"))
        }
        Pulled::Stopped(words) => {
            let what = "live: a tag moved; under hold it got what was recorded, under block it was \
                        stopped and said";
            (Standing::Protected, format!("{what}: {words}"), String::new())
        }
    }
}

impl Canary {
    async fn place(data_dir: &Path) -> anyhow::Result<Self> {
        let registry = TestRegistry::start().await.context("starting the test registry")?;
        let nonce = format!("{:016x}", rand());
        let repository = format!("immutag-canary/{nonce}");
        let stream = socket::connect(data_dir).await.with_context(|| {
            format!(
                "--live needs the immutag that runs on {}: is it another data directory?",
                data_dir.display()
            )
        })?;
        let mut connection = BufReader::new(stream);
        let canary = CanaryRequest { port: registry.address.port(), nonce };
        let request = serde_json::json!({ "canary": canary }).to_string() + "\n";
        connection.write_all(request.as_bytes()).await?;
        match next(&mut connection).await? {
            Line::Placed => Ok(Self { registry, connection, repository }),
            Line::Failed(fault) => Err(fault.into()),
            Line::Done | Line::Cache(_) | Line::Reply(_) => {
                bail!("the server does not know what a canary is")
            }
        }
    }

    fn push(&self, release: &Release) {
        for tag in crate::pull::CANARY_TAGS {
            self.registry.push(&self.repository, tag, release);
        }
    }

    /// Waits until the ledger has forgotten it.
    async fn take_away(mut self) -> anyhow::Result<()> {
        self.connection.shutdown().await?;
        match next(&mut self.connection).await? {
            Line::Failed(fault) => Err(fault.into()),
            Line::Done | Line::Placed | Line::Cache(_) | Line::Reply(_) => Ok(()),
        }
    }
}

async fn next(connection: &mut BufReader<UnixStream>) -> anyhow::Result<Line> {
    let mut line = String::new();
    connection.read_line(&mut line).await.context("the server's answer broke off")?;
    serde_json::from_str(&line).context("the server's answer is not readable")
}

/// A number that no two doctors share.
fn rand() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(digest: &str) -> Pulled {
        Pulled::Got(digest.to_owned())
    }

    fn failed() -> Pulled {
        Pulled::Stopped("no space left on device".to_owned())
    }

    fn stopped() -> Pulled {
        Pulled::Stopped("immutag: it is pinned".to_owned())
    }

    #[test]
    fn only_what_was_held_and_stopped_is_protected() {
        for (hold, block, standing, part) in [
            ([got("a"), got("a")], [got("a"), stopped()], Standing::Protected, "it is pinned"),
            ([stopped(), stopped()], [got("a"), stopped()], Standing::Bypassable, "come through"),
            ([got("a"), got("a")], [stopped(), stopped()], Standing::Bypassable, "come through"),
            ([got("c"), got("a")], [got("a"), stopped()], Standing::Bypassable, "elsewhere"),
            ([got("a"), got("b")], [got("a"), stopped()], Standing::Bypassable, "moved content"),
            ([got("a"), stopped()], [got("a"), stopped()], Standing::Bypassable, "got nothing"),
            ([got("a"), got("a")], [got("a"), got("b")], Standing::Bypassable, "not stopped"),
            ([got("a"), got("a")], [got("a"), failed()], Standing::Bypassable, "no space left"),
            ([got("a"), got("a")], [got("a"), got("a")], Standing::Bypassable, "not stopped"),
        ] {
            let seen = |[before, after]: [Pulled; 2]| Seen { before, after };
            let (found, what, _) = judge("a", &seen(hold), &seen(block));
            assert_eq!(found, standing, "{what}");
            assert!(what.contains(part), "no {part} in {what}");
        }
    }
}
