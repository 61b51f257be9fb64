//! The pin is durable before the first byte that reveals it: seen from the kernel's side.
//! `faults.md`, L-01.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::immutag::Immutag;
use crate::support::process::have;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::wait::eventually;

const REGISTRY: &str = "registry.example";

/// The system calls that a process makes while `act` runs, one a line, in the order of their ends.
fn traced(immutag: &Immutag, folder: &Path, act: impl FnOnce()) -> Vec<String> {
    let calls = folder.join("calls");
    let calls_of_interest = "trace=fdatasync,write,writev,pwrite64,pwritev,sendto,sendmsg";
    let strace: Child = Command::new("strace")
        .args(["-f", "-y", "-s", "60", "-e", calls_of_interest, "-o"])
        .arg(&calls)
        .args(["-p", &immutag.id().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("strace is attached to every thread", || is_traced(immutag.id()));
    act();
    let id = Pid::from_child(&strace);
    kill_process(id, Signal::INT).unwrap();
    let mut strace = strace;
    strace.wait().unwrap();
    std::fs::read_to_string(&calls).unwrap().lines().map(str::to_owned).collect()
}

fn is_traced(id: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    tasks.flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}

#[test]
fn the_log_is_synced_before_the_first_byte_of_a_first_sight_is_sent() {
    if !have(&["strace"]) {
        return;
    }
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "1.0.0", "a");
    let mut immutag =
        Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h").start();
    let folder = tempfile::tempdir().unwrap();
    let calls = traced(&immutag, folder.path(), || {
        let first = immutag.manifest(REGISTRY, "app", "1.0.0");
        assert_eq!(first.digest(), image.digest());
    });
    let all = calls.join("\n");
    // A call that blocks is two lines; the second, `resumed`, is its end.
    let writes = |line: &&String| line.contains("/ledger/log/") && line.contains("write");
    let written = calls.iter().position(|line| writes(&line)).expect(&all);
    let synced = calls[written..]
        .iter()
        .position(|line| line.contains("fdatasync") && line.ends_with("= 0"))
        .map_or_else(|| panic!("the log is not synced: {all}"), |at| written + at);
    let sent = calls.iter().position(|line| line.contains("HTTP/1.1 200 OK")).expect(&all);
    assert!(written < synced && synced < sent, "{all}");
    immutag.assert_alive_and_clean();
}
