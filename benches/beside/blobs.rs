//! Cached blobs: MiB a second, CPU seconds for each GiB, first byte, memory.

use crate::client::{fetch_all, fetch_right};
use crate::measure::{cpu_of, forget_peak, heading, in_turn, median, peak_mib, ratio, rounds, row};
use crate::origin::{Content, Stored, blob_path};
use crate::peers::{NGINX, Peer, Tls};

const MIB: usize = 1 << 20;
/// As the compiler will not divide a `u64` by it.
const MIB_F: f64 = 1_048_576.0;

/// One blob of 1 GiB, 1 and 8 streams.
pub(crate) fn plain() {
    one_blob(None);
}

/// The same over TLS.
pub(crate) fn tls() {
    one_blob(Some(&Tls::new()));
}

fn one_blob(tls: Option<&Tls>) {
    let content = Content::new();
    let blob = content.add("cached", 1024 * MIB);
    let title =
        if tls.is_some() { "a cached blob of 1 GiB over TLS" } else { "a cached blob of 1 GiB" };
    // One stream twice, for the clock that counts CPU is coarse.
    let cases = [("1 stream", 1, 2), ("8 streams", 8, 1)];
    measure(title, &content, &[blob], tls, &cases);
}

/// 256 pulls of 8 blobs at once.
pub(crate) fn many() {
    let content = Content::new();
    let blobs: Vec<_> = (0..8).map(|n| content.add(&format!("many {n}"), 32 * MIB)).collect();
    measure("cached blobs of 32 MiB", &content, &blobs, None, &[("256 pulls", 256, 1)]);
}

/// Each case is a name, how many streams at once, and how many times that.
fn measure(
    title: &str,
    content: &Content,
    blobs: &[Stored],
    tls: Option<&Tls>,
    cases: &[(&str, usize, usize)],
) {
    let origin = content.serve(None);
    let peers = Peer::all(&origin.url(), tls);
    for peer in &peers {
        for blob in blobs {
            // Twice: what is read while it is fetched, and what was stored.
            fetch_right(&peer.place(), &blob_path(&blob.digest), &blob.digest);
            fetch_right(&peer.place(), &blob_path(&blob.digest), &blob.digest);
        }
    }
    heading(title, &["MiB/s", "CPU s/GiB", "first ms", "peak MiB"]);
    for (what, streams, times) in cases {
        let paths: Vec<_> =
            blobs.iter().cycle().take(*streams).map(|blob| blob_path(&blob.digest)).collect();
        let medians =
            in_turn(peers.len(), rounds(), |index| download(&peers[index], &paths, *times));
        for (peer, figures) in peers.iter().zip(&medians) {
            let [speed, cost, ..] = medians[NGINX];
            let (speed, cost) = (ratio(figures[0], speed), ratio(figures[1], cost));
            let note = format!("{speed} x nginx at {cost} x its CPU");
            row(what, peer.name, figures, [0, 3, 1, 0], &note);
        }
    }
}

fn download(peer: &Peer, paths: &[String], times: usize) -> [f64; 4] {
    forget_peak(peer.id());
    let before = cpu_of(peer.id());
    let (mut bytes, mut seconds, mut firsts) = (0.0, 0.0, Vec::new());
    for _ in 0..times {
        let (fetched, took) = fetch_all(&peer.place(), paths);
        bytes += fetched.iter().map(|one| mib(one.bytes)).sum::<f64>();
        seconds += took.as_secs_f64();
        firsts.extend(fetched.iter().map(|one| one.first.as_secs_f64() * 1000.0));
    }
    let used = cpu_of(peer.id()).saturating_sub(before).as_secs_f64();
    let first = median(firsts.into_iter());
    [bytes / seconds, used / (bytes / 1024.0), first, peak_mib(peer.id())]
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    let kib = u32::try_from(bytes >> 10).expect("less than 4 TiB");
    f64::from(kib) * 1024.0 / MIB_F
}
