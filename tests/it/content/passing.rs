//! A cache that takes nothing: blobs pass through, verified all the same.

use super::Stage;
use super::blobs::without_ranges;
use crate::support::content::noise;
use crate::support::fault::Fault;
use crate::support::gate::Gate;
use crate::support::http::Call;
use crate::support::server::Ending;

const SIZE: usize = 300_000;

fn stage() -> Stage {
    Stage::with(|setup| setup.tables("[cache]\nmax-size = \"1B\"\n"))
}

#[test]
fn two_clients_at_once_both_get_a_blob_that_passes_through() {
    let stage = stage();
    let blob = stage.blob("two", SIZE);
    let gate = Gate::closed();
    stage.registry.fault("GET blobs/", Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let answer = stage.pull(&blob.digest);
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(answer.body, blob.bytes);
            });
        }
        gate.wait_for(1);
        gate.open();
    });
    assert_eq!(stage.cached(), Vec::<String>::new());
    stage.immutag.wait_for_metric("immutag_fills_total", "uncached", 5.0);
    stage.finish();
}

#[test]
fn wrong_cut_and_endless_bytes_break_the_connection_also_when_they_pass_through() {
    let stage = stage();
    for (number, size) in [20_000, SIZE].into_iter().enumerate() {
        let blob = stage.blob(&format!("broken {number}"), size);
        let request = format!("GET blobs/{}", blob.digest);
        let faults = [
            Fault::Body(noise("wrong", size).into()),
            Fault::Body(blob.bytes.slice(..size - 1)),
            Fault::Cut(size / 2, Ending::Fin),
            Fault::Cut(size - 1, Ending::Reset),
        ];
        for fault in faults {
            stage.registry.fault(&request, without_ranges(&blob));
            stage.registry.fault(&request, fault);
            stage.assert_broken(&blob.digest);
            stage.registry.clear_faults();
            assert_eq!(stage.pull(&blob.digest).body, blob.bytes);
        }
    }
    stage.finish();
}

#[test]
fn a_part_of_what_passes_through_is_exact_and_its_end_is_verified() {
    let stage = stage();
    let blob = stage.blob("part", SIZE);
    let part = |range: &str| {
        Call::new("GET", &stage.blob_url(&blob.digest)).field("Range", range).try_send()
    };
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=100000-", 100_000, SIZE - 1),
        ("bytes=-5", SIZE - 5, SIZE - 1),
        ("bytes=70000-80000", 70_000, 80_000),
    ] {
        let answer = part(range).unwrap();
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.body, blob.bytes[first..=last], "{range}");
        let expected = format!("bytes {first}-{last}/{SIZE}");
        assert_eq!(answer.field("content-range"), Some(&*expected));
    }
    assert_eq!(part("bytes=300000-").unwrap().status, 416);
    stage.registry.fault("GET blobs/", Fault::Body(noise("wrong", SIZE).into()));
    for range in ["bytes=100000-", "bytes=-5"] {
        if let Ok(answer) = part(range) {
            assert!(!answer.whole, "{range}: {answer:?}");
        }
    }
    stage.finish();
}
