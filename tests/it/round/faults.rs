//! immutag itself is in trouble, and the tags move: who still gets what.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::content::{Image, Manifest};
use crate::support::http::get;
use crate::support::process::{Daemon, have, run};
use crate::support::wait::eventually;

use super::client::{Client, Way};
use super::stage::{Outcome, Repository, Stage, TAG, play};

/// What clients had before the trouble.
const KNOWN: [Repository; 2] = ["team/hold", "team/block"];
/// What Docker Hub has, and nobody has asked for.
const NEW: [Repository; 2] = ["new/hold", "new/block"];

/// Every client by every way that it has.
fn everybody() -> impl Iterator<Item = (Client, Way)> {
    Client::ALL.into_iter().flat_map(|client| client.ways().iter().map(move |way| (client, *way)))
}

/// The tags are released, and everything of [`KNOWN`] is pinned and held.
fn pulled(stage: &Stage) {
    stage.release(&KNOWN);
    stage.release(&NEW);
    for repository in KNOWN {
        let outcome = stage.pull(Client::Skopeo, Way::Mirror, repository);
        assert_eq!(outcome, Outcome::First, "{repository}");
        let image = Stage::first(repository);
        for blob in image.layers.iter().chain([&image.config]) {
            let hex = blob.digest.trim_start_matches("sha256:");
            let held = stage.immutag.data_dir().join("held/sha256").join(&hex[..2]).join(hex);
            eventually("what was pulled is held", || held.is_file());
        }
    }
}

/// A client is refused, and reads that it was immutag.
#[track_caller]
fn assert_refused(outcome: &Outcome, reason: &str, who: &str) {
    let Outcome::Refused(words) = outcome else { panic!("{who}: {outcome:?}") };
    assert!(words.contains("immutag: ") && words.contains(reason), "{who}: {words}");
}

/// With a ledger that takes nothing, what is pinned goes on, and what is not is refused: the tags
/// have moved, and that cannot be written down.
fn assert_closed_without_a_ledger(stage: &Stage) {
    assert_eq!(get(&stage.immutag.admin("/readyz")).status, 503);
    for (client, way) in everybody() {
        for repository in KNOWN {
            let outcome = stage.pull(client, way, repository);
            assert_eq!(outcome, Outcome::First, "{client} {way:?} {repository}");
        }
        for repository in NEW {
            let outcome = stage.pull(client, way, repository);
            assert_refused(&outcome, "ledger", &format!("{client} {way:?} {repository}"));
        }
    }
    stage.assert_nobody_went_round();
}

/// Well again, it writes the conflicts down, and sees what is new for the first time.
fn assert_recovered(stage: &Stage) {
    let by_mirror = |repository| stage.pull(Client::Docker, Way::Mirror, repository);
    assert_eq!(by_mirror("team/hold"), Outcome::First);
    assert_refused(&by_mirror("team/block"), "DIGEST_CHANGED", "docker");
    for repository in NEW {
        assert_eq!(by_mirror(repository), Outcome::First, "{repository}");
    }
    stage.immutag.wait_for_metric("immutag_conflicts_total", "", 2.0);
    stage.assert_nobody_went_round();
}

#[test]
fn with_a_full_disk_pinned_tags_go_on_and_nobody_gets_round() {
    play(&with_a_full_disk_pinned_tags_go_on_and_nobody_gets_round, &Client::ALL, || {
        let small = tempfile::tempdir().expect("a temporary directory");
        let place = small.path().display().to_string();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs", &place])).ok();
        let data = small.path().join("data");
        let mut stage =
            Stage::with(|setup| setup.data_dir(&data).tables("[cache]\nmin-free = \"0\"\n"));
        pulled(&stage);
        let filler = small.path().join("filler");
        fill(&filler);
        use_up(&stage);
        stage.overwrite(&KNOWN);
        assert_closed_without_a_ledger(&stage);
        fs::remove_file(filler).expect("our own file");
        let ready = stage.immutag.admin("/readyz");
        eventually("it is well again by itself", || get(&ready).status == 200);
        assert_recovered(&stage);
        stage.immutag.assert_alive_and_clean();
    });
}

/// Writes until there is no space left.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("our own directory");
    let mut size = 1 << 20;
    while size > 0 {
        if file.write_all(&vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

/// Uses up the space that the ledger has reserved: with first sights of ever smaller manifests,
/// until it does not take the smallest.
fn use_up(stage: &Stage) {
    for size_bytes in [1 << 20, 128 << 10, 16 << 10, 2 << 10, 0] {
        for n in 0.. {
            let tag = format!("filler-{size_bytes}-{n}");
            let image = padded(&tag, size_bytes);
            stage.hub.push("filler/hold", &tag, &image);
            let answer = stage.immutag.direct_manifest("docker.io", "filler/hold", &tag);
            if answer.status != 200 {
                assert_eq!(answer.field("immutag-reason"), Some("LEDGER_UNAVAILABLE"));
                break;
            }
        }
    }
}

/// A small image whose manifest is at least so large.
fn padded(seed: &str, size_bytes: usize) -> Image {
    let image = Image::new(seed);
    let text = String::from_utf8(image.manifest.blob.bytes.to_vec()).expect("it is JSON");
    let body = text.strip_suffix('}').expect("it is an object");
    let padding = "x".repeat(size_bytes);
    let text = format!(r#"{body},"annotations":{{"padding":"{padding}"}}}}"#);
    Image { manifest: Manifest::new(&image.manifest.media_type, text), ..image }
}

#[test]
fn with_a_failed_ledger_pinned_tags_go_on_and_nobody_gets_round() {
    if !have(&["strace"]) {
        return;
    }
    play(&with_a_failed_ledger_pinned_tags_go_on_and_nobody_gets_round, &Client::ALL, || {
        let mut stage = Stage::new();
        pulled(&stage);
        fail_ledger(&stage);
        stage.overwrite(&KNOWN);
        assert_closed_without_a_ledger(&stage);
        stage.immutag.assert_alive_and_clean();
        stage.immutag.restart();
        assert_recovered(&stage);
    });
}

/// The disk says to one write of the ledger that it was lost: that is final until a restart.
fn fail_ledger(stage: &Stage) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"]);
    command.args(["-p", &stage.immutag.id().to_string()]);
    let mut strace = Daemon::start(&mut command, &folder.path().join("log"));
    strace.wait_until("strace is attached", |strace| strace.log().contains("attached"));
    stage.hub.push("filler/hold", TAG, &Image::new("filler"));
    let answer = stage.immutag.direct_manifest("docker.io", "filler/hold", TAG);
    assert_eq!(answer.field("immutag-reason"), Some("LEDGER_UNAVAILABLE"), "{}", strace.log());
    strace.signal(rustix::process::Signal::INT);
    strace.wait();
}

#[test]
fn with_its_pinned_content_lost_here_and_upstream_nobody_gets_the_new_content() {
    let test = with_its_pinned_content_lost_here_and_upstream_nobody_gets_the_new_content;
    play(&test, &Client::ALL, || {
        let mut stage = Stage::new();
        pulled(&stage);
        stage.overwrite(&KNOWN);
        for folder in ["held", "cache"] {
            fs::remove_dir_all(stage.immutag.data_dir().join(folder)).expect("our own directory");
        }
        for repository in KNOWN {
            stage.hub.delete_blob(repository, &Stage::first(repository).layers[0].digest);
        }
        for (client, way) in everybody() {
            for (repository, reason) in KNOWN.into_iter().zip(["not to be had", "is pinned to"]) {
                let outcome = stage.pull(client, way, repository);
                assert_refused(&outcome, reason, &format!("{client} {way:?} {repository}"));
            }
        }
        let layer = &Stage::first("team/hold").layers[0].digest;
        let lost = get(&stage.immutag.mirror(&format!("team/hold/blobs/{layer}")));
        assert_eq!((lost.status, lost.field("immutag-reason")), (404, Some("BLOB_UNKNOWN")));
        stage.assert_nobody_went_round();
        stage.immutag.assert_alive_and_clean();
    });
}

#[test]
fn with_immutag_down_only_fail_closed_settings_hold() {
    play(&with_immutag_down_only_fail_closed_settings_hold, &Client::ALL, || {
        let mut stage = Stage::new();
        pulled(&stage);
        stage.overwrite(&KNOWN);
        stage.immutag.kill9();
        for (client, way) in everybody().filter(|(_, way)| *way != Way::Mirror) {
            let outcome = stage.pull(client, way, "team/hold");
            let Outcome::Refused(words) = &outcome else {
                panic!("{client} {way:?}: {outcome:?}");
            };
            assert!(words.contains("connection refused"), "{client} {way:?}: {words}");
        }
        assert!(stage.strangers().is_empty(), "{:#?}", stage.strangers());
        // What a mirror cannot help: it is no longer there to be asked. See docs/clients.md.
        for client in Client::ALL {
            let outcome = stage.pull(client, Way::Mirror, "team/hold");
            assert_eq!(outcome, Outcome::Moved, "{client}");
        }
        assert!(!stage.strangers().is_empty());
        stage.immutag.restart();
        assert_eq!(stage.pull(Client::Docker, Way::Mirror, "team/hold"), Outcome::First);
        let blocked = stage.pull(Client::Docker, Way::Mirror, "team/block");
        assert_refused(&blocked, "DIGEST_CHANGED", "docker");
        // Nobody asked it, so nobody can tell it: only Docker Hub's log has them.
        assert!(stage.immutag.metric("immutag_possible_bypass_total", "").abs() < f64::EPSILON);
    });
}
