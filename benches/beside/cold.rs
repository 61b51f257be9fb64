//! A cold blob of 1 GiB: time to first byte and throughput, beside going to the upstream directly.

use crate::blobs::mib;
use crate::client::{Place, fetch};
use crate::measure::{cpu_of, heading, in_turn, peak_mib, ratio, rounds, row};
use crate::origin::{Content, Origin, Stored, blob_path};
use crate::peers::{NAMES, NGINX, Peer};

/// After the peers: no server between.
const DIRECT: usize = NAMES.len();

/// From a fast upstream, and from one that gives 64 MiB/s.
pub(crate) fn run() {
    let content = Content::new();
    let blob = content.add("cold", 1 << 30);
    let columns = ["MiB/s", "CPU s/GiB", "first ms", "peak MiB"];
    heading("a cold blob of 1 GiB", &columns);
    measure("fast upstream", &content.serve(None), &blob, rounds());
    // 16 s for each: half of the rounds.
    measure("64 MiB/s", &content.serve(Some("64m")), &blob, rounds().div_ceil(2));
}

fn measure(what: &str, origin: &Origin, blob: &Stored, rounds: usize) {
    let medians = in_turn(NAMES.len() + 1, rounds, |index| download(index, origin, blob));
    for (index, figures) in medians.iter().enumerate() {
        let name = NAMES.get(index).unwrap_or(&"direct");
        let direct = medians[DIRECT];
        let note = format!(
            "{} x direct, first byte {:+.1} ms; {} x nginx",
            ratio(figures[0], direct[0]),
            figures[2] - direct[2],
            ratio(figures[0], medians[NGINX][0]),
        );
        row(what, name, figures, [0, 3, 2, 0], &note);
    }
}

/// By a server that starts for it, with nothing in its cache.
fn download(index: usize, origin: &Origin, blob: &Stored) -> [f64; 4] {
    let path = blob_path(&blob.digest);
    if index == DIRECT {
        let host = origin.url().trim_start_matches("http://").to_owned();
        let fetched = fetch(&Place { host, trust: None }, &path, &mut |_| ()).expect("it comes");
        let first = fetched.first.as_secs_f64() * 1000.0;
        return [mib(fetched.bytes) / fetched.whole.as_secs_f64(), f64::NAN, first, f64::NAN];
    }
    let peer = Peer::start(index, &origin.url(), None);
    let before = cpu_of(peer.id());
    let fetched = fetch(&peer.place(), &path, &mut |_| ()).expect("it comes");
    let used = cpu_of(peer.id()).saturating_sub(before).as_secs_f64();
    let speed = mib(fetched.bytes) / fetched.whole.as_secs_f64();
    let cost = used / (mib(fetched.bytes) / 1024.0);
    [speed, cost, fetched.first.as_secs_f64() * 1000.0, peak_mib(peer.id())]
}
