//! What a process in the background tells the one that started it, on its standard output: a line
//! when it stands on its own, and a line when it serves.

use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::config::{ListenerConfig, reachable};

/// A line of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Announced {
    /// It is in a session of its own: it stays when whoever started it goes.
    Began,
    /// Clients are served.
    Serving(Serving),
}

/// Where it serves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Serving {
    /// The process.
    pub(super) pid: u32,
    /// The ledger's id.
    pub(super) ledger: String,
    pub(super) listeners: Vec<Listening>,
    /// Of the admin listener.
    pub(super) admin: String,
}

/// A listener, as a client on this host reaches it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Listening {
    pub(super) kind: String,
    pub(super) url: String,
}

/// Leaves the session of whoever started this process, and says so.
///
/// # Errors
/// The process leads a group: it was started from a shell, not by `--detach`.
pub(super) fn begin() -> anyhow::Result<()> {
    rustix::process::setsid().context("--announce is for `serve --detach` alone")?;
    say(&Announced::Began);
    Ok(())
}

/// Says that clients are served, and lets go of standard output: who reads it to its end need not
/// wait for this process.
pub(super) fn serving(app: &App) {
    let url = |listener: &ListenerConfig| {
        format!("{}://{}", listener.scheme(), reachable(listener.address))
    };
    let listeners = app
        .addresses
        .listeners
        .iter()
        .map(|listener| Listening { kind: listener.kind.name().to_owned(), url: url(listener) });
    say(&Announced::Serving(Serving {
        pid: std::process::id(),
        ledger: app.ledger.status().id,
        listeners: listeners.collect(),
        admin: format!("http://{}", reachable(app.addresses.admin)),
    }));
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null");
    let let_go = nowhere.and_then(|file| rustix::stdio::dup2_stdout(file).map_err(io::Error::from));
    if let Err(error) = let_go {
        tracing::warn!(%error, "standard output stays open");
    }
}

/// Whoever started this process may be gone: without `--wait` it does not hear to the end.
fn say(announced: &Announced) {
    let mut line = serde_json::to_vec(announced).expect("it is plain text and numbers");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}
