//! Disks without space: the cache stops first, blobs pass through, pins go on for as long as they
//! can. D-04, each in a world of its own with small file systems.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{REGISTRY, Stage, at_once};
use crate::support::apart::apart;
use crate::support::process::run;
use crate::support::wait::eventually;

/// Nothing is kept free, so that the disk really gets full.
const GREEDY: &str = "[cache]\nmin-free = \"0B\"\n";

const CLIENTS: usize = 8;

/// Mounts a small file system at `place`, for as long as this world stands.
fn mount(place: &Path, options: &str) {
    std::fs::create_dir_all(place).expect("our own directory");
    let mut command = Command::new("mount");
    run(command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(place)).ok();
}

/// An immutag whose data is in a directory where `part` is a small file system.
pub(super) fn on(part: &str, options: &str) -> Stage {
    Stage::with(|setup| {
        let data = std::env::temp_dir().join("data");
        mount(&data.join(part), options);
        setup.data_dir(&data).tables(GREEDY)
    })
}

/// A file that leaves so many bytes of its file system free.
pub(super) fn fill(folder: &Path, leave_bytes: u64) -> PathBuf {
    let path = folder.join("filler");
    let mut file = std::fs::File::create(&path).expect("a file system with an inode");
    let free = || {
        let disk = rustix::fs::statvfs(folder).expect("it is mounted");
        disk.f_bavail * disk.f_frsize
    };
    let mut piece = 1 << 20;
    while piece > 0 {
        let over = usize::try_from(free().saturating_sub(leave_bytes)).unwrap_or(usize::MAX);
        let count = over.min(piece);
        if count == 0 || file.write_all(&vec![1; count]).is_err() {
            piece /= 2;
        }
    }
    path
}

impl Stage {
    pub(super) fn pin(&self, tag: &str) -> crate::support::http::Answer {
        self.registry.push_image("app", tag, tag);
        self.immutag.direct_manifest(REGISTRY, "app", tag)
    }

    /// Pins until the ledger takes nothing more; how many it took. The last pin was refused.
    fn pin_until_full(&self) -> usize {
        const MOST: usize = 50_000;
        for number in 0..MOST {
            let answer = self.pin(&format!("1.0.{number}"));
            if answer.status != 200 {
                assert_eq!(answer.status, 503, "{}", answer.text());
                assert_eq!(answer.field("immutag-reason"), Some("LEDGER_UNAVAILABLE"));
                return number;
            }
        }
        panic!("{MOST} pins fit into a full disk");
    }

    /// Blobs, more than fit, by many clients at once; each comes whole, whatever is kept.
    pub(super) fn assert_blobs_go_on(&self, name: &str, count: usize, size_bytes: usize) {
        let blobs: Vec<_> =
            (0..count).map(|it| self.blob(&format!("{name} {it}"), size_bytes)).collect();
        at_once(CLIENTS, |client| {
            (client..count).step_by(CLIENTS).for_each(|it| self.assert_pulls(&blobs[it]));
        });
        for blob in &blobs {
            self.assert_pulls(blob);
        }
        eventually("nothing staged", || self.staged().is_empty());
        for file in self.cached() {
            let bytes = std::fs::read(&file).expect("our own file");
            let digest = crate::support::content::sha256(&bytes);
            assert!(file.ends_with(&digest[7..]), "{file} has other bytes");
        }
    }
}

#[test]
fn a_cache_volume_without_inodes_stops_no_blob_and_no_pin() {
    apart(&a_cache_volume_without_inodes_stops_no_blob_and_no_pin, &[], || {
        let mut stage = on("cache", "size=64m,nr_inodes=60");
        stage.assert_blobs_go_on("inodes", 100, 2000);
        for number in 0..20 {
            assert_eq!(stage.pin(&format!("2.0.{number}")).status, 200);
        }
        stage.finish();
    });
}

#[test]
fn a_ledger_volume_without_inodes_takes_pins_while_its_segment_lasts() {
    apart(&a_ledger_volume_without_inodes_takes_pins_while_its_segment_lasts, &[], || {
        let mut stage = on("ledger", "size=64m,nr_inodes=60");
        assert_eq!(stage.pin("1.0.0").status, 200);
        let folder = stage.immutag.data_dir().join("ledger");
        let empty = |number: u32| folder.join(format!("filler-{number}"));
        let has_one = |number: &u32| std::fs::File::create(empty(*number)).is_ok();
        let taken = (0..60).take_while(has_one).count();
        assert!(0 < taken && taken < 60, "{taken}");
        for number in 0..20 {
            assert_eq!(stage.pin(&format!("2.0.{number}")).status, 200);
        }
        assert_known_goes_on(&stage);
        stage.finish();
    });
}

#[test]
fn a_full_ledger_volume_refuses_new_pins_alone_and_is_well_again_by_itself() {
    apart(&a_full_ledger_volume_refuses_new_pins_alone_and_is_well_again_by_itself, &[], || {
        let mut stage = on("ledger", "size=48m");
        assert_eq!(stage.pin("1.0.0").status, 200);
        let filler = fill(&stage.immutag.data_dir().join("ledger"), 0);
        let pinned = stage.pin_until_full();
        assert!(pinned >= 1, "what was pinned stays pinned");
        assert_known_goes_on(&stage);
        stage.assert_blobs_go_on("beside", 8, 1 << 20);
        std::fs::remove_file(filler).expect("our own file");
        eventually("the next pin", || stage.pin("3.0.0").status == 200);
        stage.finish();
    });
}

#[test]
fn one_full_volume_for_all_stops_the_cache_before_the_ledger_and_recovers() {
    apart(&one_full_volume_for_all_stops_the_cache_before_the_ledger_and_recovers, &[], || {
        let mut stage = Stage::with(|setup| {
            let data = std::env::temp_dir().join("data");
            mount(&data, "size=64m");
            setup.data_dir(&data).tables("[cache]\nmin-free = \"32MiB\"\n")
        });
        assert_eq!(stage.pin("1.0.0").status, 200);
        // The cache leaves the ledger its space.
        stage.assert_blobs_go_on("all", 40, 1 << 20);
        for number in 0..20 {
            assert_eq!(stage.pin(&format!("2.0.{number}")).status, 200);
        }
        let filler = fill(&stage.immutag.data_dir().join("ledger"), 0);
        stage.pin_until_full();
        assert_known_goes_on(&stage);
        stage.assert_blobs_go_on("full", 8, 1 << 20);
        std::fs::remove_file(filler).expect("our own file");
        eventually("the next pin", || stage.pin("3.0.0").status == 200);
        stage.finish();
    });
}

#[test]
fn a_full_journal_volume_costs_entries_that_are_counted_and_told_once_and_no_pull() {
    apart(
        &a_full_journal_volume_costs_entries_that_are_counted_and_told_once_and_no_pull,
        &[],
        || {
            let mut stage = on("journal", "size=1m");
            let entries = || stage.immutag.metric("immutag_journal_entries_total", "");
            let lost = || stage.immutag.metric("immutag_journal_dropped_total", "");
            let told = |words: &str| stage.immutag.log().matches(words).count();
            assert_eq!(stage.pin("1.0.0").status, 200);
            eventually("an entry", || entries() >= 1.0);
            let journal = stage.immutag.data_dir().join("journal");
            let filler = fill(&journal, 0);
            let mut number = 0;
            let mut pull = || {
                number += 1;
                assert_eq!(stage.pin(&format!("2.0.{number}")).status, 200);
            };
            eventually("entries are lost", || {
                pull();
                lost() >= 50.0
            });
            assert_known_goes_on(&stage);
            assert_eq!(told("the journal of pulls cannot be written"), 1);
            std::fs::remove_file(filler).expect("our own file");
            let before = entries();
            eventually("entries are written again", || {
                pull();
                entries() > before
            });
            stage.immutag.wait_for_log("the journal of pulls is written again");
            assert_eq!(told("the journal of pulls cannot be written"), 1);
            let listed = stage.immutag.cli(&["pulls", "--ref", "registry.example/app:1.0.0"]).ok();
            assert!(!listed.stdout.is_empty());
            assert!(!listed.stderr.contains("left out"), "no line is torn: {}", listed.stderr);
            stage.finish();
        },
    );
}

/// What is pinned is served, by tag and by digest.
fn assert_known_goes_on(stage: &Stage) {
    let known = stage.immutag.direct_manifest(REGISTRY, "app", "1.0.0");
    assert_eq!(known.status, 200, "{}", known.text());
    let by_digest = stage.immutag.direct_manifest(REGISTRY, "app", known.digest());
    assert_eq!(by_digest.body, known.body);
}
