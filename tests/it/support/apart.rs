//! A world of a test's own: network, mounts and processes that end with the test.
//!
//! The test program runs itself again, for one test, in new namespaces. There it is process 1: when
//! it ends, however it ends, the kernel ends every process in it and gives back every mount.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{have, run, run_within};

/// Set for the program inside.
const INSIDE: &str = "TEST_PLAYS_APART";

/// How long a test in a world of its own may take.
const PATIENCE: Duration = Duration::from_mins(4);

/// Where programs keep things on a machine: empty ones inside.
const FRESH: [&str; 4] = ["/opt", "/run", "/var/lib", "/var/tmp"];

/// The programs that make a world.
const MAKERS: [&str; 4] = ["ip", "mount", "setpriv", "unshare"];

/// Plays `body` as the test `test` in a world where `hosts` are `(address, names)` of this machine
/// and of nobody else.
///
/// Needs root, and says what is skipped without it; in CI that is an error.
#[track_caller]
#[expect(clippy::print_stdout, reason = "what the test inside prints is this test's")]
pub(crate) fn apart<T: Fn()>(test: &T, hosts: &[(&str, &[&str])], body: impl FnOnce()) {
    let name = name_of(test);
    if is_inside() {
        furnish(hosts);
        return body();
    }
    if !have(&MAKERS) || !may_make_worlds(name) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let program = std::env::current_exe().expect("this program is a file");
    let mut command = world();
    command.arg(program).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(INSIDE, "1").env("TMPDIR", folder.path());
    let ran = run_within(&mut command, PATIENCE);
    println!("{}", ran.stdout);
    assert!(ran.status.success(), "{} inside: {}", ran.status, ran.stderr);
    assert!(ran.stdout.contains("1 passed"), "{name} did not run inside");
}

/// Whether this is the program inside.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// `unshare`, which is killed with this test, and its namespaces with it.
fn world() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc"]);
    command
}

/// The test's name as the harness has it: its path without the crate.
fn name_of<T>(_: &T) -> &'static str {
    let path = std::any::type_name::<T>();
    path.split_once("::").map_or(path, |(_, name)| name)
}

#[expect(clippy::print_stderr, reason = "what is skipped is told to the person who runs the tests")]
fn may_make_worlds(name: &str) -> bool {
    let ran = run(world().arg("true"));
    if ran.status.success() {
        return true;
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "CI must be root and may make namespaces: {}", ran.stderr);
    eprintln!("SKIPPED {name}: no namespaces without root: {}", ran.stderr.trim());
    false
}

/// Everything that a program writes inside stays inside, and every name leads to us.
fn furnish(hosts: &[(&str, &[&str])]) {
    let made = std::env::temp_dir();
    cover(&made);
    for place in FRESH {
        let program = std::env::current_exe().expect("this program is a file");
        if Path::new(place).is_dir() && !program.starts_with(place) {
            cover(Path::new(place));
        }
    }
    let etc: PathBuf = made.join("etc");
    does(&["cp", "-a", "/etc", &etc.display().to_string()]);
    does(&["ip", "link", "set", "lo", "up"]);
    let mut table = "127.0.0.1 localhost\n".to_owned();
    for (address, names) in hosts {
        does(&["ip", "address", "add", &format!("{address}/32"), "dev", "lo"]);
        table.extend([address, " ", &names.join(" "), "\n"]);
    }
    std::fs::write(etc.join("hosts"), table).expect("a file of our own");
    does(&["mount", "--bind", &etc.display().to_string(), "/etc"]);
}

fn cover(place: &Path) {
    does(&["mount", "-t", "tmpfs", "tmpfs", &place.display().to_string()]);
}

#[track_caller]
fn does(command: &[&str]) {
    run(Command::new(command[0]).args(&command[1..])).ok();
}
