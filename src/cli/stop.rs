//! `immutag stop`: ends the server of a data directory, and waits until it is gone.
//!
//! Which process that is, the kernel says of the server's socket; a file with a number could name
//! anybody. From there on it is held by a descriptor, so no other process that got its number is
//! ever sent a signal.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Global;
use super::client::{is_nobody, refused};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use crate::admin::socket;
use crate::ledger::Lock;
use crate::units::Span;

/// Between two looks at a server that starts, or ends.
const PAUSE: Duration = Duration::from_millis(20);

/// How often a server whose time is over is sent the signal at which it ends without waiting, and
/// how long it is waited for each time.
const LAST_SIGNALS: u32 = 20;
const LAST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    /// How long running pulls may take to end; then they are cut off
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: Span,
    #[command(flatten)]
    format: FormatArgs,
}

/// What became of it, for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Stopped {
    /// The process; `None`: it was ending already.
    pid: Option<i32>,
    /// Whether everything that ran came to its end.
    is_clean: bool,
}

/// A process that serves a data directory.
struct Server {
    pid: Pid,
    process: OwnedFd,
}

/// What holds a data directory.
enum Holder {
    /// Nothing does, or not any more.
    Nobody {
        /// Something did when it was first looked.
        was_held: bool,
    },
    Server(Server),
}

pub(super) async fn run(global: &Global, args: StopArgs) -> anyhow::Result<ExitCode> {
    let data_dir = global.load()?.data_dir;
    let deadline = Instant::now() + args.timeout.0;
    let turn = Turn::take(&data_dir, deadline).await?;
    let was_stopped = turn.as_ref().is_some_and(|turn| turn.is_late);
    let stopped = match find(&data_dir, deadline).await? {
        Holder::Nobody { was_held } if was_held || was_stopped => {
            Stopped { pid: None, is_clean: true }
        }
        Holder::Nobody { .. } => {
            bail!("no immutag serves {}: there is nothing to stop", data_dir.display())
        }
        Holder::Server(server) => Stopped {
            pid: Some(server.pid.as_raw_nonzero().get()),
            is_clean: server.stop(deadline)?,
        },
    };
    let mut printer = Printer::new(args.format);
    if printer.is_json {
        printer.json(&stopped)?;
    } else {
        let who = stopped.pid.map_or_else(|| "immutag".to_owned(), |pid| format!("process {pid}"));
        let how = if stopped.is_clean { "" } else { "; what still ran was cut off" };
        printer.line(&format!("{who} has ended{how}"))?;
    }
    printer.flush()?;
    drop(turn);
    Ok(Code::Ok.into())
}

/// One `stop` at a time: a second signal would cut off what the first lets end.
struct Turn {
    _data_dir: File,
    /// Another one had it before.
    is_late: bool,
}

impl Turn {
    /// Waits for it until `deadline`; `None` if there is no data directory.
    async fn take(path: &Path, deadline: Instant) -> anyhow::Result<Option<Self>> {
        let data_dir = match File::open(path) {
            Ok(data_dir) => data_dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(path, error)),
        };
        let mut is_late = false;
        while flock(&data_dir, FlockOperation::NonBlockingLockExclusive).is_err() {
            is_late = true;
            if Instant::now() >= deadline {
                bail!("another `immutag stop` waits for the server of {}", path.display());
            }
            sleep(PAUSE).await;
        }
        Ok(Some(Self { _data_dir: data_dir, is_late }))
    }
}

/// Finds the server. One that starts is waited for, and one that ends, until `deadline`: both hold
/// the data directory and have no socket.
async fn find(data_dir: &Path, deadline: Instant) -> anyhow::Result<Holder> {
    let mut was_held = false;
    loop {
        match peer(data_dir).await {
            Ok(pid) => {
                if let Some(server) = Server::open(pid, data_dir).await? {
                    return Ok(Holder::Server(server));
                }
                was_held = true;
            }
            Err(error) if is_nobody(&error) => {
                if !Lock::is_held(data_dir) {
                    return Ok(Holder::Nobody { was_held });
                }
                was_held = true;
            }
            Err(error) => return Err(refused(data_dir, error)),
        }
        if Instant::now() >= deadline {
            bail!("{} is held by a process that neither serves nor ends", data_dir.display());
        }
        sleep(PAUSE).await;
    }
}

/// The process that listens at the data directory's socket.
async fn peer(data_dir: &Path) -> io::Result<Option<Pid>> {
    let stream = socket::connect(data_dir).await?;
    Ok(stream.peer_cred()?.pid().and_then(Pid::from_raw))
}

impl Server {
    /// Takes hold of the process; `None` if it has ended meanwhile.
    async fn open(pid: Option<Pid>, data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let Some(pid) = pid else {
            bail!("the server of {} runs in another container: stop it there", data_dir.display());
        };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error).context("the system does not let go to a process"),
        };
        // It listens still: so it is the one that is held, not one that got its number since.
        if peer(data_dir).await.ok().flatten() != Some(pid) {
            return Ok(None);
        }
        Ok(Some(Self { pid, process }))
    }

    /// Asks it to end, and waits; from `deadline` on it may not wait for what runs. Returns whether
    /// it did not come to that.
    fn stop(&self, deadline: Instant) -> anyhow::Result<bool> {
        self.signal()?;
        if self.ends_within(deadline.saturating_duration_since(Instant::now()))? {
            return Ok(true);
        }
        // More than one: those that come close together count as one.
        for _ in 0..LAST_SIGNALS {
            self.signal()?;
            if self.ends_within(LAST_PAUSE)? {
                return Ok(false);
            }
        }
        bail!("process {} does not end; its log says what it does", self.pid.as_raw_nonzero())
    }

    /// Whether it ends within that time, which is rounded to what the system counts.
    fn ends_within(&self, time: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut end = [PollFd::new(&self.process, PollFlags::IN)];
            match poll(&mut end, Some(&left)) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(ended) => return Ok(ended > 0),
            }
        }
    }

    fn signal(&self) -> anyhow::Result<()> {
        match pidfd_send_signal(&self.process, Signal::TERM) {
            // It ended by itself.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(Errno::PERM) => bail!(
                "process {} is another user's: run this as that user, or as root",
                self.pid.as_raw_nonzero()
            ),
            Err(error) => Err(error).context("the process cannot be sent a signal"),
        }
    }
}
