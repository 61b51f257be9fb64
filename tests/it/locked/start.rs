//! The start with a lock file, and a ledger in memory.

use super::{REGISTRY, ask_direct, assert_serves, job, lock, locked, wait_for_pull};
use crate::support::content::sha256;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

#[test]
fn a_lock_file_that_cannot_be_read_whole_refuses_the_start_with_the_line() {
    let cases = [
        ("", "line 1"),
        ("{\"version\": 1, \"images\": {\n\"app:1\": {\"digest\": \"sha256:00\"}}}", "line 2"),
        ("{\"version\": 9, \"images\": {}}", "newer"),
        ("{\"version\": 1, \"images\": {}, \"more\": 1}", "unknown field"),
    ];
    for (text, words) in cases {
        let ran = job(Setup::new(), text).argument("--locked").refuse_to_start();
        assert_eq!(ran.status.code(), Some(2), "{text}: {}", ran.stderr);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("images.lock"), "{}", ran.stderr);
    }
}

#[test]
fn a_lock_file_that_is_a_pipe_or_a_folder_refuses_the_start_at_once() {
    let setup = Setup::new();
    let pipe = setup.file("there", "").with_file_name("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).expect("a pipe");
    let pipe = pipe.to_str().expect("a path of ours").to_owned();
    let ran = setup.argument("--lock").argument(&pipe).refuse_to_start();
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("no regular file"), "{}", ran.stderr);
}

#[test]
fn a_ledger_that_has_other_digests_than_the_lock_file_refuses_the_start() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1.0.0", "a");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "0s");
    let file = setup.file("images.lock", &lock(&[]));
    let path = file.to_str().expect("a path of ours").to_owned();
    let mut immutag = setup.argument("--lock").argument(&path).start();
    let write = |text: String| std::fs::write(&file, text).expect("our own file");
    immutag.manifest(REGISTRY, "app", "1.0.0");
    let other = sha256(b"other");
    let revoked = sha256(b"revoked");
    immutag.cli(&["ledger", "revoke", &revoked, "--reason", "ticket"]).ok();
    immutag.terminate();
    let by_digest = format!("app@{revoked}");
    let entries = [("app:1.0.0", other.as_str()), ("app:2", &revoked), (&by_digest, &revoked)];
    write(lock(&entries));
    let ran = immutag.refuse_to_start();
    assert_eq!(ran.status.code(), Some(3), "{}", ran.stderr);
    for words in
        [app.digest(), &other, &revoked, "pinned to another digest", "revoked", "ledger approve"]
    {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    // Nothing was written: the right file starts, twice, and is a claim once.
    write(lock(&[("app:1.0.0", app.digest()), ("app:3", &other)]));
    immutag.restart();
    immutag.restart();
    let history = immutag.cli(&["ledger", "history", "registry.example/app:3"]).ok().stdout;
    assert_eq!(history.lines().count(), 1, "{history}");
    assert!(history.contains("images.lock: "), "{history}");
    assert_serves(&immutag, "app", "1.0.0", &app);
    immutag.assert_alive_and_clean();
}

#[test]
fn a_ledger_in_memory_ends_with_its_process_and_touches_no_other() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1.0.0", "a");
    let setup = Setup::new().upstream(REGISTRY, &registry.url()).every_tag("hold", "1h");
    let mut immutag = setup.start();
    immutag.manifest(REGISTRY, "app", "1.0.0");
    immutag.terminate();
    let files = |folder: &std::path::Path| {
        let mut names: Vec<_> = walk(&folder.join("ledger"));
        names.extend(walk(&folder.join("anchor")));
        names.sort();
        names
    };
    let before = files(immutag.data_dir());
    let empty = lock(&[("app:1.0.0", app.digest())]);
    let path = immutag.data_dir().to_owned();
    let again = job(Setup::new().upstream(REGISTRY, &registry.url()), &empty).data_dir(&path);
    let mut memory = again.argument("--locked").start();
    assert_serves(&memory, "app", "1.0.0", &app);
    let status = memory.cli(&["ledger", "status", "--json"]).ok().stdout;
    let verified = memory.cli(&["ledger", "verify"]).ok().stdout;
    assert!(!verified.is_empty());
    memory.cli(&["ledger", "export"]).ok();
    let backup = path.join("backup");
    let backup = memory.cli(&["ledger", "backup", backup.to_str().expect("UTF-8")]);
    assert!(!backup.status.success() && backup.stderr.contains("no files"), "{}", backup.stderr);
    let second = job(Setup::new(), &empty).data_dir(&path).refuse_to_start();
    assert!(second.stderr.contains("process"), "{}", second.stderr);
    memory.terminate();
    assert_eq!(files(&path), before);
    memory.restart();
    let anew = memory.cli(&["ledger", "status", "--json"]).ok().stdout;
    assert_ne!(status, anew, "it has another id");
    memory.assert_alive_and_clean();
}

/// Files below a path, with their bytes.
fn walk(path: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    if path.is_file() {
        return vec![(path.to_owned(), std::fs::read(path).expect("our own file"))];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.flat_map(|entry| walk(&entry.path())).collect()
}

#[test]
fn a_job_with_little_disk_still_has_a_record_of_its_pulls() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let setup = Setup::new().upstream(REGISTRY, &registry.url());
    let setup = setup.tables("[cache]\nmin-free = \"100%\"");
    let mut immutag = job(setup, &lock(&[("app:1", app.digest())])).argument("--locked").start();
    assert_eq!(ask_direct(&immutag, "GET", "app/manifests/1").digest(), app.digest());
    wait_for_pull(&immutag, &[app.digest()]);
    immutag.assert_alive_and_clean();
}

#[test]
fn what_a_restarted_job_serves_is_what_the_lock_file_says() {
    let registry = ScriptedRegistry::start();
    let app = registry.push_image("app", "1", "a");
    let mut immutag = locked(&registry, &lock(&[("app:1", app.digest())]));
    assert_serves(&immutag, "app", "1", &app);
    registry.push_image("app", "1", "b");
    immutag.kill9();
    immutag.restart();
    assert_serves(&immutag, "app", "1", &app);
    immutag.assert_alive_and_clean();
}
