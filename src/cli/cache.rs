//! `immutag cache …`: through the server if one runs, on the files themselves if not.

mod view;
mod warm;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tokio::io::{BufReader, Lines};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Global;
use super::client::{self, Place};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use crate::admin::socket;
use crate::admin::socket::cache::{CacheReply, CacheRequest, LIST_LIMIT, execute};
use crate::blob::fs::{Filter, FsStore, Options, Prune};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::metrics::CacheMetrics;
use crate::oci::Digest;
use crate::units::{ByteSize, Span};

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Show how much is stored and held, of how much, and how it is
    Stats,
    /// List what is stored, the last used first
    List {
        /// Only what pins hold
        #[arg(long)]
        held: bool,
        /// What comes first
        #[arg(long, value_enum, default_value_t = Order::Used)]
        sort: Order,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 1000)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=LIST_LIMIT as u64))]
        limit: u64,
    },
    /// Remove what no pin holds; what pins hold, and the ledger, stay
    Prune(PruneArgs),
    /// Pull into the cache, through the server that runs
    Warm(warm::WarmArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// The largest
    Size,
    /// The last used
    Used,
}

#[derive(Debug, Args)]
struct PruneArgs {
    #[command(flatten)]
    what: What,
    /// Tell what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// What was not used for this long: 30d
    #[arg(long, value_name = "TIME")]
    older_than: Option<Span>,
    /// What was used least recently, until so much is stored, held content included: 10GiB
    #[arg(long, value_name = "SIZE")]
    to: Option<ByteSize>,
    /// This content; may be given several times. What pins hold is hashed, and removed if damaged
    #[arg(long, value_name = "DIGEST")]
    digest: Vec<Digest>,
    /// All of it
    #[arg(long)]
    all: bool,
}

/// An answer, piece by piece.
enum Answer {
    /// From this process.
    Own(mpsc::Receiver<CacheReply>, JoinHandle<anyhow::Result<()>>),
    /// From the server.
    Server(Lines<BufReader<UnixStream>>),
}

pub(super) async fn run(global: &Global, args: CacheArgs) -> anyhow::Result<ExitCode> {
    let mut is_dry_run = false;
    let request = match args.command {
        CacheCommand::List { held, sort, limit } => CacheRequest::List(Filter {
            only_held: held,
            by_size: matches!(sort, Order::Size),
            limit: usize::try_from(limit).unwrap_or(LIST_LIMIT),
        }),
        CacheCommand::Prune(PruneArgs { what, dry_run }) => {
            is_dry_run = dry_run;
            CacheRequest::Prune { what: what.prunes(now()), is_dry_run }
        }
        CacheCommand::Stats => CacheRequest::Stats,
        CacheCommand::Warm(warm) => return warm::run(global, warm, args.format).await,
    };
    let config = global.load()?;
    let mut answer = Answer::of(&config, request).await?;
    view::print(&mut Printer::new(args.format), &mut answer, is_dry_run).await?;
    Ok(Code::Ok.into())
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl What {
    fn prunes(self, now: Duration) -> Vec<Prune> {
        let since = |Span(age)| {
            let since = now.saturating_sub(age);
            Prune::UnusedSince(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        };
        let of_one = [
            self.all.then_some(Prune::All),
            self.older_than.map(since),
            self.to.map(|ByteSize(bytes)| Prune::ToBytes(bytes)),
        ];
        let digests = self.digest.into_iter().map(Prune::Digest);
        of_one.into_iter().flatten().chain(digests).collect()
    }
}

impl Answer {
    async fn of(config: &Config, request: CacheRequest) -> anyhow::Result<Self> {
        let data_dir = &config.data_dir;
        if !["cache", "held"].iter().any(|name| data_dir.join(name).exists()) {
            bail!(
                "there is no cache in {}; `immutag serve` makes one, and --data-dir or --config \
                 names another place",
                data_dir.display()
            );
        }
        let Some(lock) = Place::new(config, false).lock().await? else {
            return Self::of_server(data_dir, &request).await;
        };
        let (to, replies) = mpsc::channel(64);
        let options = Options::new(&config.cache, SystemClock::shared(), CacheMetrics::default());
        let data_dir = data_dir.clone();
        let done = tokio::task::spawn_blocking(move || {
            let store = FsStore::open_as(&data_dir, options)?;
            store.scan()?;
            execute(&store, None, request, &to)?;
            store.close()?;
            drop(lock);
            Ok(())
        });
        Ok(Self::Own(replies, done))
    }

    async fn of_server(data_dir: &Path, request: &CacheRequest) -> anyhow::Result<Self> {
        let request = json!({ "cache": request });
        Ok(Self::Server(client::ask_server(data_dir, &request).await?))
    }

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> anyhow::Result<Option<CacheReply>> {
        match self {
            Self::Own(replies, done) => match replies.recv().await {
                Some(reply) => Ok(Some(reply)),
                None => done.await?.map(|()| None),
            },
            Self::Server(lines) => match client::next_line(lines).await? {
                socket::Line::Cache(reply) => Ok(Some(reply)),
                socket::Line::Done => Ok(None),
                socket::Line::Failed(fault) => Err(fault.into()),
                _ => bail!("the server answered what nobody asked for"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pruned_is_what_was_typed() {
        let none = || What { older_than: None, to: None, digest: Vec::new(), all: false };
        let now = Duration::from_secs(100);
        let digests = [Digest::sha256([1; 32]), Digest::sha256([2; 32])];
        for (what, expected) in [
            (What { all: true, ..none() }, vec![Prune::All]),
            (
                What { older_than: Some(Span(Duration::from_secs(40))), ..none() },
                vec![Prune::UnusedSince(60_000)],
            ),
            (
                What { older_than: Some(Span(Duration::from_secs(400))), ..none() },
                vec![Prune::UnusedSince(0)],
            ),
            (What { to: Some(ByteSize(7)), ..none() }, vec![Prune::ToBytes(7)]),
            (What { digest: digests.to_vec(), ..none() }, digests.map(Prune::Digest).to_vec()),
        ] {
            assert_eq!(what.prunes(now), expected);
        }
    }
}
