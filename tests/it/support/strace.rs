//! `strace` on a running immutag: what its threads call, and a fault at one of these calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::eventually;

/// What strikes a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The process is killed when it makes the call.
    Kill,
    /// The call fails, and does nothing: the disk is broken.
    Eio,
    /// The same: the disk is full.
    Enospc,
    /// The same: the disk can only be read.
    Erofs,
}

impl Fault {
    /// As `strace` has it.
    const fn expression(self) -> &'static str {
        match self {
            Self::Kill => "signal=SIGKILL",
            Self::Eio => "error=EIO",
            Self::Enospc => "error=ENOSPC",
            Self::Erofs => "error=EROFS",
        }
    }
}

/// What tells that a call is of a thread of its own, or wakes another: no disk and no network
/// fails there, and the kernel has no such error for it.
const WAITS: [&str; 20] = [
    "brk",
    "clock_nanosleep",
    "clone3",
    "epoll_ctl",
    "epoll_wait",
    "exit",
    "fcntl",
    "futex",
    "getrandom",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "restart_syscall",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "sigaltstack",
];

/// A system call that a kind of thread makes, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    /// The threads' name, without a number at its end.
    pub(crate) thread: String,
    pub(crate) name: String,
    /// The most that one thread of the kind called it.
    pub(crate) times: usize,
    /// Whether it may fail: not if it waits, wakes a thread or asks for memory.
    pub(crate) may_fail: bool,
}

/// `strace` attached to a process.
pub(crate) struct Strace(Child);

impl Strace {
    /// Attaches to every thread, those to come included, and writes to `out` all that they call.
    pub(crate) fn record(id: u32, out: &Path) -> Self {
        let id_text = id.to_string();
        let strace = Self::spawn(out, &["-f", "-p", &id_text]);
        eventually("strace is attached to every thread", || {
            threads(id).iter().all(|(thread, _)| is_traced(id, *thread))
        });
        strace
    }

    /// Attaches to the threads of this name, and does this at the `number`th such call of each.
    pub(crate) fn inject(
        id: u32,
        thread: &str,
        call: &str,
        fault: Fault,
        number: usize,
        out: &Path,
    ) -> Self {
        let these: Vec<u32> =
            threads(id).into_iter().filter(|(_, name)| name == thread).map(|it| it.0).collect();
        assert!(!these.is_empty(), "there is no thread {thread}");
        let inject = format!("inject={call}:{}:when={number}", fault.expression());
        let mut arguments = vec!["-e".to_owned(), format!("trace={call}"), "-e".to_owned(), inject];
        arguments.extend(these.iter().flat_map(|thread| ["-p".to_owned(), thread.to_string()]));
        let strace = Self::spawn(out, &arguments);
        eventually("strace is attached", || these.iter().all(|thread| is_traced(id, *thread)));
        strace
    }

    fn spawn(out: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Self {
        let mut command = Command::new("strace");
        command.args(["-y", "-s", "0", "-o"]).arg(out).args(arguments);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("`have` was asked first"))
    }

    /// Lets the process go, or what is left of it.
    pub(crate) fn end(mut self) {
        // It is gone already if its process is.
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        self.0.wait().expect("a child can be waited for");
    }
}

/// Whether the fault of [`Strace::inject`] came about, by what was written to `out`.
pub(crate) fn has_struck(out: &Path) -> bool {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    text.contains("(INJECTED)") || text.contains("killed by SIGKILL")
}

/// The calls in a recording, by kind of thread; `names` are the threads' names.
pub(crate) fn calls(out: &Path, names: &BTreeMap<u32, String>) -> Vec<Called> {
    let text = std::fs::read_to_string(out).expect("strace writes it");
    let mut counts = BTreeMap::<(String, String), (BTreeMap<u32, usize>, bool)>::new();
    for line in text.lines() {
        let Some((thread, name, rest)) = call_of(line) else { continue };
        let kind = names.get(&thread).cloned().unwrap_or_else(|| "tokio-rt-worker".to_owned());
        let (by_thread, may_fail) = counts.entry((kind, name.to_owned())).or_insert_with(|| {
            let waits = WAITS.contains(&name);
            (BTreeMap::new(), !waits)
        });
        *by_thread.entry(thread).or_default() += 1;
        *may_fail &= !rest.contains("anon_inode:");
    }
    let called = |((thread, name), (by_thread, may_fail)): (_, (BTreeMap<_, usize>, _))| Called {
        thread,
        name,
        times: by_thread.into_values().max().unwrap_or(0),
        may_fail,
    };
    counts.into_iter().map(called).collect()
}

/// Thread, call and arguments of a line that begins a call.
fn call_of(line: &str) -> Option<(u32, &str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, arguments) = rest.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    is_name.then_some((thread.parse().ok()?, name, arguments))
}

/// The process's threads and their names, without a number at the end.
pub(crate) fn threads(id: u32) -> Vec<(u32, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("it runs");
    let thread = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let name = name.trim().trim_end_matches(|end: char| end.is_ascii_digit() || end == '-');
        Some((task.file_name().to_str()?.parse().ok()?, name.to_owned()))
    };
    tasks.flatten().filter_map(thread).collect()
}

fn is_traced(id: u32, thread: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/task/{thread}/status"));
    // A thread that has ended in the meantime needs none.
    let Ok(status) = status else { return true };
    status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
}

#[test]
fn calls_are_counted_by_kind_of_thread_and_resumed_ones_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("calls");
    let text = "7 pwrite64(11</l/1.seg>, \"\"..., 9, 0) = 9\n\
                7 fdatasync(11</l/1.seg> <unfinished ...>\n\
                8 write(4<anon_inode:[eventfd]>, \"\"..., 8) = 8\n\
                7 <... fdatasync resumed>)  = 0\n\
                9 write(5</x>, \"\"..., 8) = 8\n\
                9 write(5</x>, \"\"..., 8) = 8\n\
                7 +++ exited with 0 +++\n";
    std::fs::write(&out, text).unwrap();
    let names = BTreeMap::from([(7, "w".to_owned()), (8, "t".to_owned()), (9, "t".to_owned())]);
    let called = |thread: &str, name: &str, times, may_fail| Called {
        thread: thread.to_owned(),
        name: name.to_owned(),
        times,
        may_fail,
    };
    let expected = [
        called("t", "write", 2, false),
        called("w", "fdatasync", 1, true),
        called("w", "pwrite64", 1, true),
    ];
    assert_eq!(calls(&out, &names), expected);
}
