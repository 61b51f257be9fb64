//! A TCP proxy that breaks what passes through it, below HTTP and TLS.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// How far apart the bytes of a [`Trouble::Drip`] are.
const DRIP: Duration = Duration::from_millis(100);

/// A fatal alert, `handshake_failure`, as an unprotected record (RFC 8446, 5.1 and 6).
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// What goes wrong on each connection, counted in bytes from the server since its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// After so many bytes and at the end of a TLS record, an alert that the server never sent.
    Alert(usize),
    /// Each breaks with a RST, at a place of its own before `most`, which is `more` with each
    /// connection; the same `seed` gives the same places in the order of the connections. Where
    /// there is more, the first six break before a quarter of `most`: a client that takes many
    /// connections would else meet none that breaks, now and then.
    Chance { seed: u64, most: usize, more: usize },
    /// After so many bytes, one byte now and then.
    Drip(usize),
    /// The byte at this place has one bit flipped.
    Flip(usize),
    /// After so many bytes our side ends with a FIN, and the other stays open.
    HalfClose(usize),
    /// Nothing.
    None,
    /// After so many bytes it breaks with a RST.
    Reset(usize),
    /// After so many bytes nothing more comes.
    Stall(usize),
}

impl Trouble {
    /// What the connection of this number meets.
    fn of(self, number: u64) -> Self {
        let Self::Chance { seed, most, more } = self else { return self };
        let most = match number {
            0..6 if more > 0 => most as u64 / 4,
            _ => most as u64 + more as u64 * number,
        };
        // SplitMix64.
        let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        Self::Reset(usize::try_from(mixed % most).expect("below a usize"))
    }
}

/// A proxy on 127.0.0.1; it ends with its owner, and so do its connections.
pub(crate) struct TcpProxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    to: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    trouble: Trouble,
    is_stopped: bool,
    open: Vec<TcpStream>,
    /// Counts the changes: connections of before end.
    turn: usize,
    accepted: u64,
    /// How many connections broke with a RST.
    cuts: usize,
}

impl TcpProxy {
    /// Starts on a free port, without trouble.
    pub(crate) fn start(to: SocketAddr) -> Self {
        Self::bind(to, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn bind(to: SocketAddr, at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).expect("a port for us");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = State {
            trouble: Trouble::None,
            is_stopped: false,
            open: Vec::new(),
            turn: 0,
            accepted: 0,
            cuts: 0,
        };
        let shared = Arc::new(Shared { to, state: Mutex::new(state), changed: Condvar::new() });
        let serving = shared.clone();
        let accepting = std::thread::spawn(move || serving.accept(&listener));
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Connections from now on meet this; those of before break.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        let mut state = self.shared.lock();
        state.trouble = trouble;
        self.shared.break_all(&mut state);
    }

    /// How many connections it has broken by a RST.
    pub(crate) fn cuts(&self) -> usize {
        self.shared.lock().cuts
    }

    /// Nobody listens at its port any more.
    pub(crate) fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        let mut state = self.shared.lock();
        state.is_stopped = true;
        self.shared.break_all(&mut state);
        drop(state);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        accepting.join().expect("accepting does not panic");
    }

    /// Listens at the same port again.
    pub(crate) fn start_again(&mut self) {
        self.stop();
        *self = Self::bind(self.shared.to, self.address);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }

    fn break_all(&self, state: &mut State) {
        state.turn += 1;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            let mut state = self.lock();
            if state.is_stopped {
                return;
            }
            let Ok(server) = TcpStream::connect(self.to) else { continue };
            for end in [&stream, &server] {
                let _ = end.set_nodelay(true);
                state.open.push(end.try_clone().expect("a socket can be cloned"));
            }
            state.accepted += 1;
            let (trouble, turn) = (state.trouble.of(state.accepted), state.turn);
            let up = [&stream, &server].map(|end| end.try_clone().expect("a socket can be cloned"));
            std::thread::spawn(move || {
                let [mut client, mut server] = up;
                let _ = io::copy(&mut client, &mut server);
                let _ = server.shutdown(Shutdown::Write);
            });
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.down(server, stream, trouble, turn));
        }
    }

    /// Passes on what the server says, with the trouble in it.
    fn down(&self, mut server: TcpStream, mut client: TcpStream, trouble: Trouble, turn: usize) {
        let mut passed = 0;
        let mut records = Records::default();
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            let bytes = &mut buffer[..count];
            let before = match trouble {
                Trouble::None => count,
                Trouble::Alert(at) => records.first_end(bytes, at.saturating_sub(passed)),
                Trouble::Drip(at)
                | Trouble::HalfClose(at)
                | Trouble::Reset(at)
                | Trouble::Stall(at) => at.saturating_sub(passed).min(count),
                Trouble::Chance { .. } => unreachable!("`of` made a RST of it"),
                Trouble::Flip(at) => {
                    if let Some(byte) = at.checked_sub(passed).and_then(|at| bytes.get_mut(at)) {
                        *byte ^= 0x10;
                    }
                    count
                }
            };
            passed += before;
            let (whole, rest) = bytes.split_at(before);
            if client.write_all(whole).is_err() {
                break;
            }
            if !rest.is_empty() && !self.spoil(&mut client, rest, trouble, turn) {
                return;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    }

    /// What comes instead of `rest`; whether anything comes after it.
    fn spoil(&self, client: &mut TcpStream, rest: &[u8], trouble: Trouble, turn: usize) -> bool {
        match trouble {
            Trouble::Alert(_) => {
                let _ = client.write_all(&ALERT);
                self.wait(turn, None);
            }
            Trouble::Drip(_) => {
                return rest
                    .iter()
                    .all(|byte| client.write_all(&[*byte]).is_ok() && self.wait(turn, Some(DRIP)));
            }
            Trouble::HalfClose(_) => {
                let _ = client.shutdown(Shutdown::Write);
                self.wait(turn, None);
            }
            Trouble::Reset(_) => {
                let _ = rustix::net::sockopt::set_socket_linger(&*client, Some(Duration::ZERO));
                self.forget(client);
            }
            Trouble::Stall(_) => {
                self.wait(turn, None);
            }
            Trouble::Chance { .. } | Trouble::Flip(_) | Trouble::None => return true,
        }
        false
    }

    /// Waits for the next change, or for so long; whether there was no change.
    fn wait(&self, turn: usize, time: Option<Duration>) -> bool {
        let time = time.unwrap_or(Duration::from_secs(100));
        let waits = |state: &mut State| state.turn == turn;
        let (state, _) =
            self.changed.wait_timeout_while(self.lock(), time, waits).expect("no thread panics");
        state.turn == turn
    }

    /// Lets go of all clones of a socket: only the last close sends the RST.
    fn forget(&self, client: &TcpStream) {
        let peer = client.peer_addr().ok();
        let mut state = self.lock();
        state.cuts += 1;
        state.open.retain(|open| open.peer_addr().ok() != peer);
        // The other direction's thread has one, too; it ends when nothing can be read any more.
        let _ = client.shutdown(Shutdown::Read);
    }
}

/// Where TLS records end in a stream of them.
#[derive(Default)]
struct Records {
    head: Vec<u8>,
    left: usize,
}

impl Records {
    /// The place of the first end of a record at `from` or later, or the length.
    fn first_end(&mut self, bytes: &[u8], from: usize) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let step = self.left.min(bytes.len() - at);
                self.left -= step;
                at += step;
                if self.left == 0 && at >= from {
                    return at.min(bytes.len());
                }
                continue;
            }
            self.head.push(bytes[at]);
            at += 1;
            if self.head.len() == 5 {
                self.left = usize::from(u16::from_be_bytes([self.head[3], self.head[4]]));
                self.head.clear();
            }
        }
        bytes.len()
    }
}

#[test]
fn records_end_where_their_lengths_say() {
    let stream = [&[23, 3, 3, 0, 2, 0, 0][..], &[23, 3, 3, 0, 3, 0, 0, 0]].concat();
    assert_eq!(Records::default().first_end(&stream, 0), 7);
    assert_eq!(Records::default().first_end(&stream, 8), 15);
    let mut pieces = Records::default();
    assert_eq!(pieces.first_end(&stream[..3], 9), 3);
    assert_eq!(pieces.first_end(&stream[3..], 6), 12);
}
