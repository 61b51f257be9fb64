//! `immutag serve --detach`: this program once more, in the background, and what it says of itself.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::super::exit::Code;
use super::super::output::{FormatArgs, Printer};
use super::super::table::escape;
use super::announce::{Announced, Listening, Serving};
use super::log_end::Log;
use crate::config::Config;
use crate::units::Span;

/// The log's name in the data directory.
const LOG_NAME: &str = "immutag.log";

/// The pid file's name there.
const PID_NAME: &str = "immutag.pid";

/// The most that a process says of itself, in bytes.
const ANNOUNCED_LIMIT: u64 = 64 << 10;

/// Without `--wait`: how long a process may take until it stands on its own.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct DetachArgs {
    /// Serve in the background; end it with `immutag stop`
    #[arg(long)]
    detach: bool,
    /// Return when clients are served, and say where; or why they are not
    #[arg(long, requires = "detach")]
    wait: bool,
    /// How long --wait waits; what does not serve by then is ended
    #[arg(long, requires = "wait", value_name = "TIME", default_value = "60s")]
    wait_timeout: Span,
    /// Where the log goes, behind what is there [default: immutag.log in the data directory]
    #[arg(long, requires = "detach", value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// A file with the process's number while it serves [default with --detach: immutag.pid in the
    /// data directory]
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Tell the process that started this one how far it is
    #[arg(long, hide = true)]
    announce: bool,
    #[command(flatten)]
    format: FormatArgs,
}

impl DetachArgs {
    /// Whether another process is to serve.
    pub(super) const fn is_for_another(&self) -> bool {
        self.detach && !self.announce
    }

    /// Whether a process waits to hear of this one.
    pub(super) const fn is_announced(&self) -> bool {
        self.announce
    }

    /// Where the process's number is written.
    pub(super) fn pid_file(&self, data_dir: &Path) -> Option<PathBuf> {
        self.pid_file.clone().or_else(|| self.detach.then(|| data_dir.join(PID_NAME)))
    }
}

/// What a shell step needs to know.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Started {
    pid: u32,
    log: String,
    pid_file: String,
    #[serde(flatten)]
    serving: Option<Whereabouts>,
}

/// Where it serves.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Whereabouts {
    ledger: String,
    listeners: Vec<Listening>,
    admin: String,
}

/// A process in the background.
struct Background {
    child: Child,
    announced: Receiver<Announced>,
    log: Log,
    log_path: PathBuf,
}

/// Starts the program again with the arguments of this process, and waits for what was asked for.
///
/// # Errors
/// It cannot be started, or did not serve in time; then it was ended. The exit code of one that
/// ended by itself is its own.
pub(super) fn detach(config: &Config, args: &DetachArgs) -> anyhow::Result<ExitCode> {
    let log_path = args.log_file.clone().unwrap_or_else(|| config.data_dir.join(LOG_NAME));
    crate::app::make_data_dir(&config.data_dir)?;
    let background = Background::start(&log_path)?;
    let deadline = Instant::now() + if args.wait { args.wait_timeout.0 } else { BEGIN_TIMEOUT };
    let serving = loop {
        match background.announced.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(Announced::Began) if args.wait => {}
            Ok(Announced::Began) => break None,
            Ok(Announced::Serving(serving)) => break Some(serving),
            Err(RecvTimeoutError::Disconnected) => return background.tell_end(),
            Err(RecvTimeoutError::Timeout) => return background.give_up(),
        }
    };
    let pid_file = args.pid_file(&config.data_dir).unwrap_or_default();
    let started = Started {
        pid: background.child.id(),
        log: log_path.display().to_string(),
        pid_file: pid_file.display().to_string(),
        serving: serving.map(|Serving { ledger, listeners, admin, .. }| Whereabouts {
            ledger,
            listeners,
            admin,
        }),
    };
    let mut printer = Printer::new(args.format);
    print(&mut printer, &started)?;
    Ok(Code::Ok.into())
}

impl Background {
    fn start(log_path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("the log file {} cannot be written", log_path.display());
        let log = Log::open(log_path).with_context(cannot)?;
        let program = std::env::current_exe().context("this program cannot be found")?;
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).arg("--announce");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(log.file().with_context(cannot)?);
        let mut child = command.spawn().context("this program cannot be started again")?;
        let stdout = child.stdout.take().context("a process without standard output")?;
        let (to, announced) = mpsc::channel();
        std::thread::spawn(move || hear(stdout, &to));
        Ok(Self { child, announced, log, log_path: log_path.to_owned() })
    }

    /// It ended before it served: it says why, and its exit code is ours.
    fn tell_end(mut self) -> anyhow::Result<ExitCode> {
        let status = self.child.wait()?;
        for line in self.log.end().unwrap_or_default() {
            // Standard error is gone: the exit code is what is left.
            let _ = writeln!(io::stderr(), "{line}");
        }
        let log = self.log_path.display().to_string();
        let how = ended(status);
        let _ =
            writeln!(io::stderr(), "immutag does not serve: {how}; its log is {}", escape(&log));
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(match code {
            // To end well without having served is no success.
            None | Some(0) => Code::Failure.into(),
            Some(code) => ExitCode::from(code),
        })
    }

    /// What a step has given up on must not go on behind it.
    fn give_up(mut self) -> anyhow::Result<ExitCode> {
        self.child.kill()?;
        self.child.wait()?;
        let log = self.log_path.display();
        bail!("immutag did not serve in time, and was ended; its log is {log}")
    }
}

/// Hears what a process says of itself until its end, or until it lets go of its output.
fn hear(stdout: ChildStdout, to: &mpsc::Sender<Announced>) {
    for line in BufReader::new(stdout.take(ANNOUNCED_LIMIT)).lines().map_while(Result::ok) {
        let heard = serde_json::from_str(&line).is_ok_and(|announced| to.send(announced).is_ok());
        if !heard {
            return;
        }
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

fn print(printer: &mut Printer, started: &Started) -> io::Result<()> {
    if printer.is_json {
        printer.json(started)?;
        return printer.flush();
    }
    let Started { pid, log, serving, .. } = started;
    let does = if serving.is_some() { "is serving" } else { "was started" };
    printer.line(&format!("immutag {does}: process {pid}, log {}", escape(log)))?;
    if let Some(Whereabouts { listeners, admin, .. }) = serving {
        for Listening { kind, url } in listeners {
            printer.line(&format!("{kind:<8} {url}"))?;
        }
        printer.line(&format!("{:<8} {admin}", "admin"))?;
    }
    printer.line("end it with `immutag stop`")?;
    printer.flush()
}
