//! A name server that knows one way to answer at a time. It listens on 127.0.0.1:53, so it is for
//! a network of its own.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

const ADDRESS: &str = "127.0.0.1:53";

/// Types of records.
const A: u16 = 1;
const AAAA: u16 = 28;

/// The most that fits into one answer over UDP.
const UDP_SIZE: usize = 512;

/// What a name server says to every question.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// This error (RFC 1035, 4.1.1).
    Error(u8),
    /// Bytes that are no answer.
    Garbage,
    /// Nothing.
    Silence,
}

impl Says {
    /// There is no such name.
    pub(crate) const NXDOMAIN: Self = Self::Error(3);
    /// The server failed.
    pub(crate) const SERVFAIL: Self = Self::Error(2);
    /// The name is there and has no addresses.
    pub(crate) const EMPTY: Self = Self::Addresses(Vec::new());
}

/// The server; its threads end with the process, which is the test's.
pub(crate) struct NameServer {
    says: Arc<Mutex<(Says, usize)>>,
}

impl NameServer {
    pub(crate) fn start(says: Says) -> Self {
        let shared = Arc::new(Mutex::new((says, 0)));
        let udp = UdpSocket::bind(ADDRESS).expect("a network of our own");
        let tcp = TcpListener::bind(ADDRESS).expect("a network of our own");
        let says = shared.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((size, peer)) = udp.recv_from(&mut buffer) {
                if let Some(mut answer) = answer(&says, &buffer[..size]) {
                    if answer.len() > UDP_SIZE {
                        // Truncated: ask again over TCP.
                        answer.truncate(12 + question(&buffer[..size]).len());
                        answer[2] |= 2;
                        answer[6..8].fill(0);
                    }
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        let says = shared.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut size = [0; 2];
                while stream.read_exact(&mut size).is_ok() {
                    let mut query = vec![0; usize::from(u16::from_be_bytes(size))];
                    if stream.read_exact(&mut query).is_err() {
                        break;
                    }
                    let Some(answer) = answer(&says, &query) else { continue };
                    let size = u16::try_from(answer.len()).expect("below 64 KiB").to_be_bytes();
                    let _ = stream.write_all(&[&size, &answer[..]].concat());
                }
            }
        });
        Self { says: shared }
    }

    /// Answers like this from now on.
    pub(crate) fn say(&self, says: Says) {
        self.says.lock().expect("no thread panics with it").0 = says;
    }

    /// Questions that came.
    pub(crate) fn asked(&self) -> usize {
        self.says.lock().expect("no thread panics with it").1
    }
}

/// The question of a query, as it stands behind the head.
fn question(query: &[u8]) -> &[u8] {
    let rest = query.get(12..).unwrap_or_default();
    let name = rest.iter().position(|byte| *byte == 0).unwrap_or_default();
    &rest[..(name + 5).min(rest.len())]
}

fn answer(shared: &Mutex<(Says, usize)>, query: &[u8]) -> Option<Vec<u8>> {
    let says = {
        let mut shared = shared.lock().expect("no thread panics with it");
        shared.1 += 1;
        shared.0.clone()
    };
    let question = question(query);
    let asked = question.len().checked_sub(4).map(|at| [question[at], question[at + 1]])?;
    let (code, addresses) = match says {
        Says::Addresses(addresses) => (0, addresses),
        Says::Error(code) => (code, Vec::new()),
        Says::Garbage => return Some([&query[..2], &[0xff; 40]].concat()),
        Says::Silence => return None,
    };
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| {
            let (kind, bytes) = match address {
                IpAddr::V4(v4) => (A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
            };
            let size = u16::try_from(bytes.len()).expect("4 or 16").to_be_bytes();
            // The name is the question's; class IN, no time to live.
            let head = [&[0xc0, 12][..], &kind.to_be_bytes(), &[0, 1, 0, 0, 0, 0], &size].concat();
            (asked == kind.to_be_bytes()).then(|| [head, bytes].concat())
        })
        .collect();
    let count = u16::try_from(records.len()).expect("below 65,536").to_be_bytes();
    // An answer; recursion was asked for and is there.
    let head = [query[0], query[1], 0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0];
    Some([&head[..], question, &records.concat()].concat())
}
