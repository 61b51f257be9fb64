//! Disks that break under the running program, and data that is taken from it: what is pinned goes
//! on, nothing new is promised, and no tag gets a second first sight. `faults.md`, D-05 and D-06.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::apart::apart;
use crate::support::content::Image;
use crate::support::http::get;
use crate::support::immutag::Immutag;
use crate::support::process::{Ran, have, run};
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::strace::{Fault, Strace, has_struck};

const REGISTRY: &str = "registry.example";

/// A registry, and immutag in front of it with one pin, `1.0.0`.
struct Stage {
    registry: ScriptedRegistry,
    immutag: Immutag,
    pinned: Image,
}

impl Stage {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let registry = ScriptedRegistry::start();
        let pinned = registry.push_image("app", "1.0.0", "a");
        let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
        let immutag = change(setup).start();
        let stage = Self { registry, immutag, pinned };
        stage.assert_pinned();
        stage
    }

    /// The pin is served, whatever the upstream says meanwhile.
    #[track_caller]
    fn assert_pinned(&self) {
        let answer = self.immutag.direct_manifest(REGISTRY, "app", "1.0.0");
        assert_eq!((answer.status, answer.digest()), (200, self.pinned.digest()));
    }

    /// The status of a first sight, and the reason of its refusal.
    fn first_sight(&self, tag: &str) -> (u16, String) {
        self.registry.push_image("app", tag, tag);
        let answer = self.immutag.direct_manifest(REGISTRY, "app", tag);
        let reason = answer.field("immutag-reason").unwrap_or_default().to_owned();
        (answer.status, reason)
    }

    #[track_caller]
    fn assert_takes_nothing_new(&self, tag: &str) {
        assert_eq!(self.first_sight(tag), (503, "LEDGER_UNAVAILABLE".to_owned()));
        // A mirror's clients would go to the real registry for a plain error.
        let mirror = self.immutag.manifest(REGISTRY, "app", tag);
        assert!(mirror.text().contains("application/vnd.immutag.blocked"), "{}", mirror.text());
    }

    #[track_caller]
    fn assert_failed(&self) {
        assert!(self.immutag.metric("immutag_ledger_failed", "") > 0.5, "the metric is red");
        assert_eq!(get(&self.immutag.admin("/readyz")).status, 503);
        assert_eq!(
            get(&self.immutag.admin("/livez")).status,
            200,
            "a restart is a person's choice"
        );
    }

    /// From now on the upstream has something else at every tag: a pin that was lost would show.
    fn move_upstream(&self) {
        self.registry.push_image("app", "1.0.0", "moved");
    }
}

/// The first write, or sync, of the log after this fails, and no other.
fn fails_once(call: &str, fault: Fault) {
    if !have(&["strace"]) {
        return;
    }
    let mut stage = Stage::new();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let out = folder.path().join("calls");
    let strace = Strace::inject(stage.immutag.id(), "ledger-writer", call, fault, 1, &out);
    stage.assert_takes_nothing_new("1.0.1");
    strace.end();
    assert!(has_struck(&out), "nothing failed");
    // The disk is well again, but nobody knows what it has.
    stage.assert_takes_nothing_new("1.0.2");
    stage.assert_failed();
    stage.move_upstream();
    stage.assert_pinned();
    stage.immutag.restart();
    stage.assert_pinned();
    assert_eq!(stage.first_sight("1.0.2").0, 200);
    stage.immutag.cli(&["ledger", "verify"]).ok();
    stage.immutag.assert_alive_and_clean();
}

#[test]
fn one_failed_sync_of_the_log_is_final_until_a_restart_and_pins_go_on() {
    fails_once("fdatasync", Fault::Eio);
}

#[test]
fn one_failed_write_of_the_log_is_final_until_a_restart_and_pins_go_on() {
    fails_once("pwrite64", Fault::Eio);
}

#[test]
fn a_disk_that_can_only_be_read_takes_nothing_new_and_pins_go_on() {
    fails_once("pwrite64", Fault::Erofs);
}

#[test]
fn a_start_on_a_disk_that_can_only_be_read_is_refused_and_forgets_nothing() {
    apart(&a_start_on_a_disk_that_can_only_be_read_is_refused_and_forgets_nothing, &[], || {
        let data = std::env::temp_dir().join("data");
        std::fs::create_dir_all(&data).expect("our own directory");
        mount(&data, &["-t", "tmpfs", "tmpfs"]);
        let mut stage = Stage::with(|setup| setup.data_dir(&data));
        stage.move_upstream();
        stage.immutag.kill9();
        mount(&data, &["-o", "remount,ro"]);
        stage.immutag.refuse_to_start().failed_with("Read-only file system");
        mount(&data, &["-o", "remount,rw"]);
        stage.immutag.restart();
        stage.assert_pinned();
    });
}

fn mount(place: &Path, how: &[&str]) {
    run(Command::new("mount").args(how).arg(place)).ok();
}

#[test]
fn a_ledger_that_may_not_be_read_refuses_the_start_and_forgets_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    if !have(&["setpriv"]) || !rustix::process::geteuid().is_root() {
        return;
    }
    let mut stage = Stage::new();
    stage.move_upstream();
    stage.immutag.kill9();
    let data = stage.immutag.data_dir().to_owned();
    for place in ["ledger/log", "ledger", "anchor"] {
        let place = data.join(place);
        let was = std::fs::metadata(&place).expect("it is there").permissions();
        let denied = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(&place, denied).expect("our own file");
        let refused = start_without_privileges(&stage.immutag);
        std::fs::set_permissions(&place, was).expect("our own file");
        let refused = refused.failed_with("Permission denied");
        assert!(refused.stderr.contains("ledger") || refused.stderr.contains("anchor"));
    }
    stage.immutag.restart();
    stage.assert_pinned();
}

/// Starts it as a root whom modes of files bind.
fn start_without_privileges(immutag: &Immutag) -> Ran {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let config: PathBuf = folder.path().join("immutag.toml");
    std::fs::write(&config, immutag.configuration()).expect("our own file");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    command.args(["--inh-caps", "-dac_override,-dac_read_search"]);
    command.arg(env!("CARGO_BIN_EXE_immutag")).arg("serve").arg("--config").arg(config);
    run(command.arg("--data-dir").arg(immutag.data_dir()))
}

#[test]
fn a_ledger_deleted_under_the_process_takes_nothing_new_and_is_no_new_one_afterwards() {
    let mut stage = Stage::new();
    delete(&stage.immutag.data_dir().join("ledger"));
    stage.assert_takes_nothing_new("1.0.1");
    stage.assert_failed();
    stage.move_upstream();
    stage.assert_pinned();
    let refused = stage.immutag.refuse_to_start();
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
}

#[test]
fn a_data_directory_deleted_under_the_process_makes_no_second_first_sight_while_it_runs() {
    let stage = Stage::new();
    delete(stage.immutag.data_dir());
    stage.move_upstream();
    stage.assert_pinned();
    stage.assert_takes_nothing_new("1.0.1");
    stage.assert_failed();
    stage.assert_pinned();
}

/// Deletes it, also if the process still makes a file meanwhile.
fn delete(place: &Path) {
    while place.exists() {
        let _ = std::fs::remove_dir_all(place);
    }
}
