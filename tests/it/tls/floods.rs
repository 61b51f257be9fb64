//! Frames that a client may not send, or not so many of. `faults.md`, H-06.

use std::time::{Duration, Instant};

use super::{REGISTRY, Stage};
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, get_block, header_block,
};
use crate::support::wait::eventually;

/// `ENHANCE_YOUR_CALM` (RFC 9113, 7).
const CALM: u32 = 0xb;

/// Of small frames.
const MANY: u32 = 1_000_000;

/// CANCEL, as the payload of `RST_STREAM`.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

impl Stage {
    fn http2(&self) -> Http2 {
        Http2::connect(self.direct(), &self.authority.client())
    }

    /// The path of the tag's manifest.
    fn path() -> String {
        format!("/v2/{REGISTRY}/app/manifests/1.0.0")
    }

    /// The flood is over: pulls go on, the CPU has nothing to do, nothing is left of it.
    fn survives(self) {
        self.pull();
        let ticks = || cpu_ticks(self.immutag.id());
        let mut window = (Instant::now(), ticks());
        eventually("a CPU without work", || {
            if window.0.elapsed() < Duration::from_millis(500) {
                return false;
            }
            // Of a hundred in a second, on one of the CPUs.
            let calm = ticks() - window.1 < 10;
            window = (Instant::now(), ticks());
            calm
        });
        self.finish();
    }
}

/// CPU time that a process has used, in hundredths of a second.
fn cpu_ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    // After the name, which may contain anything: utime and stime are fields 14 and 15.
    let fields = stat.rsplit(')').next().expect("a name").split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_hundred_thousand_requests_that_are_reset_at_once_do_no_harm() {
    let stage = Stage::new();
    let mut http2 = stage.http2();
    let block = get_block(&Stage::path());
    http2.flood(100_000, |http2| {
        let stream = http2.stream();
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        both.extend(frame(RST_STREAM, 0, stream, &CANCEL));
        both
    });
    drop(http2);
    stage.survives();
}

#[test]
fn resets_that_a_client_provokes_end_its_connection() {
    let stage = Stage::new();
    let mut http2 = stage.http2();
    let block = get_block(&Stage::path());
    let lasts = http2.flood(100_000, |http2| {
        let stream = http2.stream();
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        // The window is as large as any may be: the server answers by a reset of the stream.
        both.extend(frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]));
        both
    });
    assert_eq!((lasts, http2.goodbye), (false, Some(CALM)));
    stage.survives();
}

#[test]
fn a_head_that_never_ends_ends_its_connection() {
    let stage = Stage::new();
    for filler in [header_block(&[("x-filler", &"x".repeat(8000))]), Vec::new()] {
        let mut http2 = stage.http2();
        let stream = http2.stream();
        http2.send(HEADERS, END_STREAM, stream, &get_block(&Stage::path())).unwrap();
        let lasts = http2.flood(MANY, |_| frame(CONTINUATION, 0, stream, &filler));
        assert!(!lasts);
    }
    stage.survives();
}

#[test]
fn a_head_that_is_too_large_is_refused_and_the_next_one_is_not() {
    let stage = Stage::new();
    let mut http2 = stage.http2();
    let value = "x".repeat(70_000);
    let stream = http2.stream();
    let mut block = get_block(&Stage::path());
    block.extend(header_block(&[("x-large", &value)]));
    let (first, rest) = block.split_at(16_000);
    http2.send(HEADERS, END_STREAM, stream, first).unwrap();
    let mut pieces = rest.chunks(16_000).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        http2.send(CONTINUATION, flags, stream, piece).unwrap();
    }
    assert_eq!(http2.reply(stream).status, 431);
    assert_eq!(http2.get(&Stage::path()).status, 200);
    drop(http2);
    stage.survives();
}

#[test]
fn empty_data_without_end_does_no_harm() {
    let stage = Stage::new();
    let mut http2 = stage.http2();
    let block = get_block(&Stage::path());
    let stream = http2.stream();
    http2.send(HEADERS, END_HEADERS, stream, &block).unwrap();
    http2.flood(MANY, |_| frame(DATA, 0, stream, &[]));
    drop(http2);
    stage.survives();
}

#[test]
fn a_body_is_refused_and_never_read() {
    let stage = Stage::new();
    let mut http2 = stage.http2();
    let stream = http2.stream();
    http2.send(HEADERS, END_HEADERS, stream, &get_block(&Stage::path())).unwrap();
    let reply = http2.reply(stream);
    assert_eq!(reply.status, 413);
    // More than the window: what nobody reads may be sent no further.
    http2.flood(2000, |_| frame(DATA, 0, stream, &[0; 16_000]));
    drop(http2);
    stage.survives();
}

#[test]
fn a_million_settings_do_no_harm() {
    let stage = Stage::new();
    let mut http2 = stage.http2();
    http2.flood(MANY, |_| frame(SETTINGS, 0, 0, &[]));
    drop(http2);
    stage.survives();
}

#[test]
fn pings_do_no_harm_whether_their_answers_are_read_or_not() {
    let stage = Stage::new();
    let mut http2 = stage.http2();
    http2.flood(MANY / 10, |_| frame(PING, 0, 0, b"12345678"));
    http2.flood(MANY / 10, |_| frame(PING, ACK, 0, b"12345678"));
    drop(http2);
    let mut unread = stage.http2();
    unread.hurry();
    let pings = frame(PING, 0, 0, b"12345678").repeat(4000);
    // It stops reading when its answers are not taken.
    let stops = (0..MANY / 4000).any(|_| unread.raw(&pings).is_err());
    assert!(stops);
    drop(unread);
    stage.survives();
}

#[test]
fn clients_that_take_nothing_of_their_answers_hold_little() {
    let stage = Stage::new();
    let large = stage.blob(4_000_000);
    let block = get_block(&format!("/v2/{REGISTRY}/app/blobs/{}", large.digest));
    let clients: Vec<Http2> = (0..8)
        .map(|_| {
            let mut http2 = Http2::connect_with(stage.direct(), &stage.authority.client(), 0);
            for _ in 0..200 {
                let stream = http2.stream();
                let _ = http2.send(HEADERS, END_HEADERS | END_STREAM, stream, &block);
            }
            http2
        })
        .collect();
    // 32 streams each; the others were refused.
    stage.immutag.wait_for_metric("immutag_requests_total", "status=\"200\"", 8.0 * 32.0);
    let resident = stage.immutag.resident_kib();
    assert!(resident <= 128 << 10, "{resident} KiB are resident");
    stage.pull();
    drop(clients);
    stage.survives();
}

#[test]
fn what_is_no_http_2_ends_its_connection() {
    let stage = Stage::new();
    let settings_of_a_stream = frame(SETTINGS, 0, 1, &[]);
    let too_large = frame(DATA, 0, 1, &vec![0; 17_000]);
    let own_number_even = frame(HEADERS, END_HEADERS, 2, &get_block("/v2/"));
    let spoilt_block = frame(HEADERS, END_HEADERS, 1, &[0xff; 20]);
    let short_ping = frame(PING, 0, 0, b"1234");
    let window_overflows = frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
    let out_of_order = frame(CONTINUATION, END_HEADERS, 1, &[]);
    for bytes in [
        settings_of_a_stream,
        too_large,
        own_number_even,
        spoilt_block,
        short_ping,
        window_overflows,
        out_of_order,
    ] {
        let mut http2 = stage.http2();
        http2.raw(&bytes).unwrap();
        let code = http2.ending();
        assert!(code.is_some_and(|code| code != 0), "{code:?} {bytes:02x?}");
    }
    stage.survives();
}
