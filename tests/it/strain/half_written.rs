//! Writes that fail in the middle, which no look at the free space foresaw. D-04 and D-09.

use super::full::{fill, on};
use crate::support::apart::apart;
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::wait::eventually;

#[test]
fn a_full_cache_volume_stops_no_blob_and_no_pin() {
    apart(&a_full_cache_volume_stops_no_blob_and_no_pin, &[], || {
        let mut stage = on("cache", "size=16m");
        stage.assert_blobs_go_on("cache", 24, 1 << 20);
        for number in 0..20 {
            assert_eq!(stage.pin(&format!("2.0.{number}")).status, 200);
        }
        stage.finish();
    });
}

#[test]
fn a_write_that_fails_in_the_middle_costs_the_client_nothing_and_leaves_nothing() {
    apart(
        &a_write_that_fails_in_the_middle_costs_the_client_nothing_and_leaves_nothing,
        &[],
        || {
            let mut stage = on("cache", "size=16m");
            let blob = stage.blob("half", 8 << 20);
            let gate = Gate::closed();
            stage.registry.fault("GET blobs/", Fault::HoldBody(1 << 20, gate.clone()));
            let filler = std::thread::scope(|scope| {
                let client = scope.spawn(|| stage.assert_pulls(&blob));
                gate.wait_for(1);
                // There was room when it began, and is none now.
                let filler = fill(&stage.immutag.data_dir().join("cache"), 512 << 10);
                gate.open();
                client.join().expect("the blob comes whole");
                filler
            });
            eventually("nothing staged", || stage.staged().is_empty());
            assert_eq!(stage.cached(), Vec::<String>::new());
            stage.registry.clear_faults();
            std::fs::remove_file(filler).expect("our own file");
            let blob = stage.blob("later", 4 << 20);
            stage.assert_pulls(&blob);
            eventually("the blob in the cache", || !stage.cached().is_empty());
            stage.finish();
        },
    );
}
