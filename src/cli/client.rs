//! The way to the ledger: through the server if one runs, else by its lock.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::admin::{socket, user};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::decide::{
    Claimed, Fault, ImportOrder, Imported, Ledger, Reply, Request, execute, import,
};
use crate::ledger::{FileLedger, Lock, OpenError, OpenOptions, is_blank};

/// How long a server that holds the lock may take to make its socket.
const START_TRIES: u32 = 20;

/// Between two of those.
const START_PAUSE: Duration = Duration::from_millis(100);

/// Which ledger, and how it is opened if no server runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    data_dir: PathBuf,
    expected_id: Option<String>,
    accept_rollback: bool,
}

/// A ledger that answers.
pub(super) enum Client {
    /// No server runs: this process has the lock.
    Own(Arc<FileLedger>),
    /// A server runs on this data directory.
    Server(PathBuf),
}

/// An answer, piece by piece.
pub(super) enum Answer {
    /// From this process.
    Own(mpsc::Receiver<Reply>, JoinHandle<Result<(), Fault>>),
    /// From the server.
    Server(Lines<BufReader<UnixStream>>),
}

impl Place {
    /// The ledger of a configuration.
    pub(super) fn new(config: &Config, accept_rollback: bool) -> Self {
        Self {
            data_dir: config.data_dir.clone(),
            expected_id: config.expected_ledger.clone(),
            accept_rollback,
        }
    }

    /// Whether there is anything that a ledger would leave.
    pub(super) fn exists(&self) -> bool {
        ["ledger", "anchor"].iter().any(|name| self.data_dir.join(name).exists())
    }

    /// Whether there is no ledger yet, or an empty one, and no server runs on it.
    pub(super) async fn is_blank(&self) -> anyhow::Result<bool> {
        Ok(!self.finds_server().await? && is_blank(&self.data_dir)?)
    }

    /// How a new ledger is made here from another one's events.
    pub(super) fn adoption(&self) -> anyhow::Result<OpenOptions> {
        check_owner(&self.data_dir)?;
        let expected_id = self.expected_id.clone();
        Ok(OpenOptions { expected_id, ..OpenOptions::new(&self.data_dir) })
    }

    /// Finds the server, or takes the lock.
    pub(super) async fn open(&self) -> anyhow::Result<Client> {
        let own = self.unless_served(async || self.open_own().await).await?;
        Ok(match own {
            Some(ledger) => Client::Own(Arc::new(ledger)),
            None => Client::Server(self.data_dir.clone()),
        })
    }

    /// The ledger, if there is one: a server's, or one in the data directory.
    pub(super) async fn find(&self) -> anyhow::Result<Option<Client>> {
        let is_there = self.exists() || self.finds_server().await?;
        Ok(if is_there { Some(self.open().await?) } else { None })
    }

    /// Whether a server runs on it.
    pub(super) async fn is_served(&self) -> anyhow::Result<bool> {
        check_owner(&self.data_dir)?;
        self.finds_server().await
    }

    /// Takes the data directory for this process, ledger unread; `None` if a server runs on it.
    pub(super) async fn lock(&self) -> anyhow::Result<Option<Lock>> {
        let take = async || {
            check_owner(&self.data_dir)?;
            Ok(Lock::take(&self.data_dir)?)
        };
        self.unless_served(take).await
    }

    /// What only one process can have, or `None` if a server has it.
    async fn unless_served<T>(
        &self,
        take: impl AsyncFn() -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        let mut tries = START_TRIES;
        loop {
            if self.finds_server().await? {
                return Ok(None);
            }
            match take().await {
                // A server that starts or stops just now.
                Err(error) if is_locked(&error) && tries > 0 => tries -= 1,
                taken => return taken.map(Some),
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    async fn finds_server(&self) -> anyhow::Result<bool> {
        match socket::connect(&self.data_dir).await {
            Ok(_) => Ok(true),
            Err(error) if is_nobody(&error) => Ok(false),
            Err(error) => Err(refused(&self.data_dir, error)),
        }
    }

    async fn open_own(&self) -> anyhow::Result<FileLedger> {
        let data_dir = self.data_dir.display();
        if !self.exists() {
            bail!(
                "there is no ledger in {data_dir}; `immutag serve` makes one, and --data-dir or \
                 --config names another place"
            );
        }
        check_owner(&self.data_dir)?;
        let options = OpenOptions {
            expected_id: self.expected_id.clone(),
            accept_rollback: self.accept_rollback,
            ..OpenOptions::new(&self.data_dir)
        };
        let open = move || FileLedger::open(&options, SystemClock::shared());
        Ok(tokio::task::spawn_blocking(open).await??)
    }
}

impl Client {
    /// Asks.
    pub(super) async fn ask(&self, request: Request) -> anyhow::Result<Answer> {
        match self {
            Self::Own(ledger) => {
                let (to, replies) = mpsc::channel(64);
                let ledger = Arc::clone(ledger) as Arc<dyn Ledger>;
                let who = user::name_of(rustix::process::getuid().as_raw());
                let done = tokio::spawn(async move { execute(ledger, request, &who, to).await });
                Ok(Answer::Own(replies, done))
            }
            Self::Server(data_dir) => Ok(Answer::Server(ask_server(data_dir, &request).await?)),
        }
    }

    /// Imports a list, all of it or nothing.
    pub(super) async fn import(
        &self,
        order: ImportOrder,
        claims: &[Claimed],
    ) -> anyhow::Result<Imported> {
        match self {
            Self::Own(ledger) => {
                let who = user::name_of(rustix::process::getuid().as_raw());
                Ok(import(&**ledger, claims, order, &who).await?)
            }
            Self::Server(data_dir) => import_by_server(data_dir, order, claims).await,
        }
    }

    /// Lets the ledger go; without this it goes when the process ends.
    pub(super) async fn close(self) {
        if let Self::Own(ledger) = self {
            ledger.close().await;
        }
    }
}

impl Answer {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Reply>> {
        match self {
            Self::Own(replies, done) => match replies.recv().await {
                Some(reply) => Ok(Some(reply)),
                None => Ok(done.await?.map(|()| None)?),
            },
            Self::Server(lines) => match next_line(lines).await? {
                socket::Line::Done => Ok(None),
                socket::Line::Failed(fault) => Err(fault.into()),
                socket::Line::Reply(reply) => Ok(Some(reply)),
                _ => bail!("the server answered what nobody asked for"),
            },
        }
    }
}

async fn import_by_server(
    data_dir: &Path,
    order: ImportOrder,
    claims: &[Claimed],
) -> anyhow::Result<Imported> {
    let request = socket::ImportRequest { order, count: claims.len() };
    let mut lines = ask_server(data_dir, &serde_json::json!({ "import": request })).await?;
    match next_line(&mut lines).await? {
        socket::Line::Ready => {}
        socket::Line::Failed(fault) => return Err(fault.into()),
        _ => bail!("the server answered what nobody asked for"),
    }
    let mut text = Vec::new();
    for claimed in claims {
        serde_json::to_writer(&mut text, claimed)?;
        text.push(b'\n');
    }
    // A server that refuses in the middle says why below.
    let _ = lines.get_mut().get_mut().write_all(&text).await;
    match next_line(&mut lines).await? {
        socket::Line::Reply(Reply::Imported(imported)) => Ok(*imported),
        socket::Line::Failed(fault) => Err(fault.into()),
        _ => bail!("the server answered what nobody asked for"),
    }
}

/// Sends a request to the server of a data directory; its answer, line by line.
pub(super) async fn ask_server(
    data_dir: &Path,
    request: &impl Serialize,
) -> anyhow::Result<Lines<BufReader<UnixStream>>> {
    let stream = socket::connect(data_dir).await;
    let mut stream = stream.map_err(|error| refused(data_dir, error))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // A server that refuses does so without reading: its words come below.
    let _ = stream.write_all(&line).await;
    Ok(BufReader::new(stream).lines())
}

/// The next line of a server's answer.
pub(super) async fn next_line(
    lines: &mut Lines<BufReader<UnixStream>>,
) -> anyhow::Result<socket::Line> {
    let line = lines.next_line().await.context("the server's answer broke off")?;
    let Some(line) = line else {
        bail!("the server ended in the middle of its answer; ask again to see what it did");
    };
    serde_json::from_str(&line).context("the server's answer is not readable")
}

pub(super) fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::Locked { .. }))
}

pub(super) fn refused(data_dir: &Path, error: io::Error) -> anyhow::Error {
    let path = socket::path(data_dir);
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "; run this as the server's user, or as root",
        _ => "",
    };
    let what = format!("the server at {} cannot be asked{hint}", path.display());
    anyhow::Error::new(error).context(what)
}

/// Root would leave files behind that the server's user cannot open.
fn check_owner(data_dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = std::fs::metadata(data_dir) else { return Ok(()) };
    if rustix::process::geteuid().is_root() && metadata.uid() != 0 {
        let owner = user::name_of(metadata.uid());
        bail!(
            "{} belongs to {owner}, and no server runs: run this as {owner} (sudo -u), so that \
             its files stay theirs",
            data_dir.display()
        );
    }
    Ok(())
}
