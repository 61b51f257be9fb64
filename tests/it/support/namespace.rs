//! A network of a test's own, with a loopback device and nothing else, and its own files in /etc.

use std::path::Path;
use std::process::Command;

use super::process::{have, run};

/// Set for the test that runs inside.
const MARK: &str = "TEST_INSIDE_ITS_NETWORK";

/// Runs the calling test again in a network of its own where these files of the system have this
/// content; `true` in there, where the test goes on. Outside it only waits; it skips the test
/// where that cannot be done.
#[track_caller]
pub(crate) fn entered(files: &[(&str, &str)]) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    if !have(&["ip", "mount", "unshare"]) || !is_allowed() {
        return false;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut script = String::from("set -e\nip link set lo up\n");
    for (number, (place, text)) in files.iter().enumerate() {
        let file = folder.path().join(number.to_string());
        std::fs::write(&file, text).expect("our own directory");
        script += &bind(&file, place);
    }
    script += "exec \"$0\" \"$@\"\n";
    let test = std::thread::current().name().expect("a test's thread has its name").to_owned();
    let program = std::env::current_exe().expect("this program");
    let mut command = unshare();
    command.args(["sh", "-c", &script]).arg(program);
    command.args(["--exact", &test, "--nocapture", "--include-ignored"]);
    run(command.env(MARK, "1")).ok();
    false
}

/// Whether this process may have a network of its own. If not: fails in CI, elsewhere says so.
#[track_caller]
#[expect(clippy::print_stderr, reason = "what is skipped is told to the person who runs the tests")]
fn is_allowed() -> bool {
    let tried = run(unshare().arg("true"));
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(tried.status.success() || !ci, "CI must allow namespaces: {tried:?}");
    if !tried.status.success() {
        let test = std::thread::current();
        eprintln!("SKIPPED {}: {}", test.name().unwrap_or("a test"), tried.stderr);
    }
    tried.status.success()
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--map-root-user"]);
    command
}

/// A line that puts `file` in another's place, where there is one.
fn bind(file: &Path, place: &str) -> String {
    format!("mount --bind '{}' \"$(readlink -f {place})\"\n", file.display())
}
