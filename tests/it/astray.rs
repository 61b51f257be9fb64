//! Where requests and credentials may go (S), through the whole program.
//!
//! The upstream client has its own tests of each rule; here a client asks, and the refusal that
//! it reads, the counts and the silence elsewhere are looked at.

mod lists;
mod names;
mod redirects;
mod tokens;

use std::net::TcpListener;

use crate::support::http::Answer;

/// A server that nobody must come to.
struct Canary(TcpListener);

impl Canary {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("a bound socket has an address").port()
    }

    /// A connection that was made waits in the queue, so nothing can come late.
    #[track_caller]
    fn assert_silent(&self) {
        self.0.set_nonblocking(true).expect("our own socket");
        if let Ok((_, peer)) = self.0.accept() {
            panic!("somebody came to the canary, from {peer}");
        }
    }
}

/// Status, reason and sub-reason of a refusal.
fn refusal(answer: &Answer) -> (u16, String, String) {
    let detail = answer.json()["errors"][0]["detail"].clone();
    let text = |key: &str| detail[key].as_str().unwrap_or_default().to_owned();
    (answer.status, text("reason"), text("sub-reason"))
}
