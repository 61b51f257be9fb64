//! immutag itself is in trouble, and the tags move: who still gets what.

use std::fs;

use crate::support::http::get;
use crate::support::process::have;
use crate::support::wait::eventually;

use super::client::Client;
use super::settings::Way;
use super::stage::{Outcome, Repository, Stage, play};
use super::trouble::{SmallDisk, fail_ledger, use_up};

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
        let image = &Stage::first(repository).images[0];
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
        let disk = SmallDisk::new();
        let data = disk.data_dir();
        let mut stage =
            Stage::with(|setup| setup.data_dir(&data).tables("[cache]\nmin-free = \"0\"\n"));
        pulled(&stage);
        disk.fill();
        use_up(&stage);
        stage.overwrite(&KNOWN);
        assert_closed_without_a_ledger(&stage);
        disk.clear();
        let ready = stage.immutag.admin("/readyz");
        eventually("it is well again by itself", || get(&ready).status == 200);
        assert_recovered(&stage);
        stage.immutag.assert_alive_and_clean();
    });
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
            stage.hub.delete_blob(repository, &Stage::first(repository).images[0].layers[0].digest);
        }
        for (client, way) in everybody() {
            for (repository, reason) in KNOWN.into_iter().zip(["not to be had", "is pinned to"]) {
                let outcome = stage.pull(client, way, repository);
                let who = format!("{client} {way:?} {repository}");
                match &outcome {
                    // A 404 has one meaning for them, whatever it says.
                    Outcome::Refused(words) if words.contains("1.0.0: not found") => {
                        assert_eq!((way, reason), (Way::Direct, "not to be had"), "{who}");
                        assert!([Client::BuildKit, Client::Containerd].contains(&client), "{who}");
                    }
                    _ => assert_refused(&outcome, reason, &who),
                }
            }
        }
        let layer = &Stage::first("team/hold").images[0].layers[0].digest;
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
