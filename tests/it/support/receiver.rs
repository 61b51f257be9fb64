//! A receiver of webhooks that takes messages, or does what the test says instead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, verify};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::server::{Reply, Request, Server};
use super::wait::eventually;

/// The key that its messages are signed with.
pub(crate) const KEY: &str = "whsec_Y2FuYXJ5LW9mLWEtc2lnbmluZy1rZXktMDAwMDAwMQ==";

/// Where messages go: a password, as Slack's are.
pub(crate) const PATH: &str = "/services/canary-of-a-secret-path";

/// A receiver on 127.0.0.1.
pub(crate) struct Receiver {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    always: Option<Reply>,
    got: Vec<(Request, u16)>,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let server = Server::start(None, move |request| {
            let mut state = shared.lock().expect("no holder panics");
            let next = state.script.pop_front().or_else(|| state.always.clone());
            let reply = next.unwrap_or_else(|| Reply::new(204));
            state.got.push((request.clone(), reply.status));
            reply
        });
        Self { server, state }
    }

    /// What it answers next; after the last of these it takes everything again.
    pub(crate) fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state().script.extend(replies);
    }

    /// What it answers always, or that it takes everything.
    pub(crate) fn always(&self, reply: Option<Reply>) {
        self.state().always = reply;
    }

    /// The table that names it, with more lines.
    pub(crate) fn table(&self, name: &str, lines: &str) -> String {
        let url = self.server.url();
        format!(
            "[[webhook]]\nname = \"{name}\"\nurl = \"{url}{PATH}\"\nplain-http = true\n\
             allow-private = true\n{lines}\n"
        )
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// Everything that came.
    pub(crate) fn got(&self) -> Vec<Request> {
        self.state().got.iter().map(|(request, _)| request.clone()).collect()
    }

    /// The messages that it took, in order.
    pub(crate) fn taken(&self) -> Vec<Value> {
        let state = self.state();
        let taken = state.got.iter().filter(|(_, status)| (200..300).contains(status));
        taken.map(|(request, _)| body(request)).collect()
    }

    /// The kinds of the messages that it took: `conflict`.
    pub(crate) fn kinds(&self) -> Vec<String> {
        let kind = |event: &Value| event["data"]["kind"].as_str().expect("a kind").to_owned();
        self.taken().iter().map(kind).collect()
    }

    /// Waits until it took so many.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        eventually(&format!("{count} messages"), || self.taken().len() >= count);
    }

    /// Waits until so many came, taken or not.
    #[track_caller]
    pub(crate) fn wait_for_tries(&self, count: usize) {
        eventually(&format!("{count} tries"), || self.got().len() >= count);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

/// A message's body.
pub(crate) fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).expect("it is JSON")
}

/// Checks a message as Standard Webhooks has it.
#[track_caller]
pub(crate) fn assert_signed(request: &Request, key: &str) {
    let field = |name| request.fields.get(name).unwrap_or_else(|| panic!("no {name}"));
    let (id, time) = (field("webhook-id"), field("webhook-timestamp"));
    let mut content = format!("{id}.{time}.").into_bytes();
    content.extend_from_slice(&request.body);
    let key = STANDARD.decode(key.strip_prefix("whsec_").expect("a key")).expect("base64");
    let signature = field("webhook-signature").strip_prefix("v1,").expect("version 1");
    let signature = STANDARD.decode(signature).expect("base64");
    verify(&Key::new(HMAC_SHA256, &key), &content, &signature).expect("it is signed");
}
