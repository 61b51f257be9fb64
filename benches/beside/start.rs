//! Start-up with a full cache: how long until it is ready and has given its first cached blob,
//! and what is resident then and when what it does after the start is done.

use std::time::{Duration, Instant};

use crate::client::{fetch, fetch_small};
use crate::measure::{heading, in_turn, peak_mib, ratio, resident_mib, rounds, row};
use crate::origin::{Content, Stored, blob_path};
use crate::peers::{NAMES, NGINX, Peer};

const BLOBS: usize = 100_000;

/// docker-registry fetches a few hundred a second, and does not look at them when it starts.
const BLOBS_OF_DOCKER: usize = 1_000;

const FETCHERS: usize = 8;

/// What the peers do in the background after a start is given so long.
const SETTLING: Duration = Duration::from_secs(3);

/// All three with their caches full.
pub(crate) fn run() {
    let content = Content::new();
    let blobs: Vec<_> = (0..BLOBS).map(|number| content.add(&format!("{number}"), 256)).collect();
    let origin = content.serve(None);
    let mut peers = Peer::all(&origin.url(), None);
    for peer in &peers {
        let count = if peer.name == "docker-registry" { BLOBS_OF_DOCKER } else { BLOBS };
        fill(peer, &blobs[..count]);
    }
    heading(
        &format!("start with {BLOBS} cached blobs (docker-registry: {BLOBS_OF_DOCKER})"),
        &["ready ms", "blob ms", "MiB then", "peak MiB"],
    );
    let path = blob_path(&blobs[0].digest);
    let medians = in_turn(peers.len(), rounds(), |index| start(&mut peers[index], &path));
    for (name, figures) in NAMES.iter().zip(&medians) {
        let note = format!("{} x nginx's time", ratio(figures[1], medians[NGINX][1]));
        row("", name, figures, [0, 0, 1, 1], &note);
    }
}

fn fill(peer: &Peer, blobs: &[Stored]) {
    let paths: Vec<_> = blobs.iter().map(|blob| blob_path(&blob.digest)).collect();
    std::thread::scope(|scope| {
        for share in paths.chunks(paths.len().div_ceil(FETCHERS)) {
            scope.spawn(|| fetch_small(&peer.place(), share).expect("the blobs come"));
        }
    });
}

fn start(peer: &mut Peer, path: &str) -> [f64; 4] {
    peer.stop();
    let begun = Instant::now();
    peer.start_again();
    let ready = begun.elapsed();
    fetch(&peer.place(), path, &mut |_| ()).expect("a cached blob comes");
    let first = begun.elapsed();
    let resident = resident_mib(peer.id());
    std::thread::sleep(SETTLING);
    let [ready, first] = [ready, first].map(|time| time.as_secs_f64() * 1000.0);
    [ready, first, resident, peak_mib(peer.id())]
}
