//! Real programs: found or skipped in words, ended for certain.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::wait::{eventually, within};

/// How long a program that ends by itself may run.
const PATIENCE: Duration = Duration::from_secs(100);

/// Whether every program is there. If not: fails in CI, elsewhere says what is skipped.
#[track_caller]
#[expect(clippy::print_stderr, reason = "what is skipped is told to the person who runs the tests")]
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|name| find(name).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "CI must have {missing:?}: see tests/setup.sh");
    let test = std::thread::current();
    eprintln!("SKIPPED {}: no {missing:?} here", test.name().unwrap_or("a test"));
    false
}

/// Where Debian's packages put a program; other ones of that name may come before it in the path.
pub(crate) fn find_debians(program: &str) -> Option<PathBuf> {
    let known = ["/usr/bin", "/usr/sbin"].map(|folder| Path::new(folder).join(program));
    known.into_iter().find(|file| file.is_file()).or_else(|| find(program))
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    known.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The program must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    /// The program must have failed, and said `words` on the way.
    #[track_caller]
    pub(crate) fn failed_with(self, words: &str) -> Self {
        assert!(!self.status.success(), "it succeeded: {self:#?}");
        assert!(self.stderr.contains(words), "no `{words}` in {self:#?}");
        self
    }
}

/// Runs a program to its end, without input; panics when it takes longer than [`PATIENCE`].
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    run_within(command, PATIENCE)
}

/// The same with another patience.
#[track_caller]
pub(crate) fn run_within(command: &mut Command, patience: Duration) -> Ran {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let id = child.id();
    let reader = std::thread::spawn(move || child.wait_with_output());
    if !within(patience, || reader.is_finished()) {
        kill(id, rustix::process::Signal::KILL);
        panic!("still running after {patience:?}: {command:?}");
    }
    let output = reader.join().expect("reading does not panic").expect("a child can be waited for");
    ran(&output)
}

/// What a program that ended left.
pub(crate) fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Sends a signal to a process that this test started.
pub(crate) fn kill(id: u32, signal: rustix::process::Signal) {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    let _ = rustix::process::kill_process(id.expect("a process id"), signal);
}

/// As many open files as the system lets this process have.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit can be raised");
}

/// A program that runs until it is ended; its output goes to a file.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; standard output and error are appended to `log`.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the log's folder");
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().expect("a file can be cloned")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        kill(self.id(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the end of a program", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Waits until `ready` says so; panics with the log when the program ends before.
    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, mut ready: impl FnMut(&Self) -> bool) {
        eventually(what, || {
            assert!(self.is_alive(), "it ended before {what}:\n{}", self.log());
            ready(self)
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
