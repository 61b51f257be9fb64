//! `immutag verify-image`: the gate at a container runtime's side, by the contract of containerd's
//! `image-verifier.v1.bindir`: exit code 0 lets an image in, every other keeps it out, and the
//! reason stands on standard output.
//!
//! It fails closed: without an answer of the running server in its time, for whatever cause, the
//! answer is no. The descriptor on standard input is left unread: name and digest say all of it, and
//! what is not read cannot block or be too large.

mod flags;
mod name;

pub(super) use flags::{is_gate, translated};

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::Global;
use super::client::{ask_server, is_nobody, next_line};
use super::exit::Code;
use crate::admin::socket::{JudgeRequest, Line};
use crate::gate::Judgement;
use crate::oci::{Digest, Registry};
use crate::printable::escape_within;
use crate::units::Span;

/// The longest reason that is printed, in characters. containerd takes 32 KiB.
const REASON: usize = 2000;

/// The longest name that is looked at, in bytes.
const NAME: usize = 4096;

#[derive(Debug, Args)]
pub(super) struct VerifyImageArgs {
    /// The name that the image was asked for by
    #[arg(long)]
    name: String,
    /// What it was resolved to
    #[arg(long)]
    digest: String,
    /// The media type of what stands on standard input, which is not read
    #[arg(long, value_name = "TYPE")]
    stdin_media_type: Option<String>,
    /// What the runtime is about to do: the answer is the same for all
    #[arg(long)]
    operation: Option<String>,
    /// How long the answer may take; then it is no
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: Span,
    /// A name that clients have for this proxy, as in PROXY/docker.io/library/alpine; the direct
    /// listeners' addresses are known
    #[arg(long, value_name = "HOST[:PORT]")]
    proxy: Vec<Registry>,
}

/// Whether the image may run. Whatever hangs, this does not: the answer is looked for in a thread
/// that ends with the process.
pub(super) fn run(global: &Global, args: VerifyImageArgs) -> ExitCode {
    let (limit, global) = (args.timeout.0, global.clone());
    let (to, answer) = mpsc::channel();
    let asking = std::thread::Builder::new().spawn(move || {
        // Nobody waits any more: the answer was no.
        let _ = to.send(ask(&global, &args));
    });
    let judged = match asking {
        Ok(_) => answer.recv_timeout(limit),
        Err(error) => Ok(Err(error.into())),
    };
    match judged {
        Ok(Ok(Judgement { is_accepted, reason, .. })) => tell(is_accepted, &reason),
        Ok(Err(error)) => tell(false, &format!("{error:#}")),
        Err(_) => tell(false, &format!("no answer within {}", humane(limit))),
    }
}

/// Says no to arguments that are not understood.
pub(super) fn misused(error: &clap::Error) -> ExitCode {
    tell(false, &format!("the arguments are not understood: {error}"))
}

fn tell(is_accepted: bool, reason: &str) -> ExitCode {
    let verdict = if is_accepted { "accepted" } else { "refused" };
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    // Nobody reads it: the exit code says it all the same.
    let _ = writeln!(io::stdout(), "immutag: {verdict}: {}", escape_within(&reason, REASON));
    if is_accepted { Code::Ok } else { Code::Failure }.into()
}

#[tokio::main(flavor = "current_thread")]
async fn ask(global: &Global, args: &VerifyImageArgs) -> anyhow::Result<Judgement> {
    if args.name.len() > NAME {
        bail!("the name has more than {NAME} bytes");
    }
    let digest: Digest = args.digest.parse().context("the digest is not usable")?;
    let config = global.load()?;
    let reference = name::read(&args.name, &config.listeners, &args.proxy)?;
    let data_dir = &config.data_dir;
    let request = JudgeRequest { name: reference.to_string(), digest, is_question: false };
    let asked = ask_server(data_dir, &json!({ "judge": request })).await;
    let mut lines = asked.map_err(|error| unserved(error, data_dir))?;
    match next_line(&mut lines).await? {
        Line::Judged(judgement) => Ok(judgement),
        Line::Failed(fault) => Err(fault.into()),
        _ => bail!("the server answered what nobody asked for"),
    }
}

/// The command takes no lock and reads no ledger: a gate that did would keep a server from starting.
fn unserved(error: anyhow::Error, data_dir: &Path) -> anyhow::Error {
    match error.downcast_ref::<io::Error>() {
        Some(cause) if is_nobody(cause) => anyhow!(
            "no server runs on {}, and only a running one is asked: start `immutag serve`, or name \
             its configuration or data directory",
            data_dir.display()
        ),
        _ => error,
    }
}

fn humane(limit: Duration) -> String {
    humantime::format_duration(limit).to_string()
}
