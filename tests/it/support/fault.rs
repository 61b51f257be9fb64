//! What a scripted server may be told to do wrong.

use bytes::Bytes;

use super::gate::Gate;
use super::server::{Ending, Framing, Reply, Request};

/// One thing that goes wrong with a reply. Several apply to one reply in the order of planning.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Another body under the same head (the length is the true one).
    Body(Bytes),
    /// 401 with this `WWW-Authenticate`.
    Challenge(String),
    /// This `Content-Length`, whatever the body is.
    ClaimLength(String),
    /// Only so many bytes of the body, then this end.
    Cut(usize, Ending),
    /// Chunks without end (of the reply's body; of zeros if it is empty).
    Endless,
    /// The field gets this value, or goes.
    Field(String, Option<String>),
    /// How the body's end is told.
    Frame(Framing),
    /// Waits at the gate before the first byte.
    Hold(Gate),
    /// After so many bytes of the body, waits at the gate.
    HoldBody(usize, Gate),
    /// These bytes as they stand, then this end.
    Raw(Bytes, Ending),
    /// This redirect status, to there.
    Redirect(u16, String),
    /// The whole reply is another one.
    Replace(Box<Reply>),
    /// This status, with an error envelope.
    Status(u16),
}

impl Fault {
    /// A field gets another value.
    pub(crate) fn field(name: &str, value: &str) -> Self {
        Self::Field(name.to_owned(), Some(value.to_owned()))
    }

    /// A field goes.
    pub(crate) fn without(name: &str) -> Self {
        Self::Field(name.to_owned(), None)
    }

    /// Does it to the reply; a [`Fault::Hold`] waits here.
    fn apply(&self, reply: &mut Reply) {
        match self {
            Self::Body(body) => reply.body = body.clone(),
            Self::Challenge(challenge) => {
                *reply = Reply::error(401, "UNAUTHORIZED").field("WWW-Authenticate", challenge);
            }
            Self::ClaimLength(length) => reply.framing = Framing::Claim(length.clone()),
            Self::Cut(at, ending) => (reply.cut, reply.ending) = (Some(*at), *ending),
            Self::Endless => {
                reply.framing = Framing::Endless;
                if reply.body.is_empty() {
                    reply.body = Bytes::from_static(&[0; 16 * 1024]);
                }
            }
            Self::Field(name, value) => reply.fields.set(name, value.as_deref()),
            Self::Frame(framing) => {
                reply.framing = framing.clone();
                if matches!(framing, Framing::Close) {
                    reply.ending = Ending::Fin;
                }
            }
            Self::Hold(gate) => gate.pass(),
            Self::HoldBody(at, gate) => reply.pause = Some((*at, gate.clone())),
            Self::Raw(bytes, ending) => {
                (reply.raw, reply.ending) = (Some(bytes.clone()), *ending);
            }
            Self::Redirect(status, to) => {
                *reply = Reply::new(*status).field("Location", to);
            }
            Self::Replace(other) => *reply = (**other).clone(),
            Self::Status(status) => *reply = Reply::error(*status, "UNKNOWN"),
        }
    }
}

/// Faults by request, each for ever or for a number of times.
#[derive(Default)]
pub(crate) struct Plan(Vec<Planned>);

struct Planned {
    request: String,
    fault: Fault,
    left: usize,
}

impl Plan {
    /// Plans a fault for the next `times` requests that [`matches`].
    pub(crate) fn add(&mut self, request: &str, fault: Fault, times: usize) {
        self.0.push(Planned { request: request.to_owned(), fault, left: times });
    }

    /// Takes the faults that this request gets.
    pub(crate) fn take(&mut self, request: &Request) -> Faults {
        let mut faults = Vec::new();
        for planned in &mut self.0 {
            if planned.left > 0 && matches(&planned.request, request) {
                planned.left -= 1;
                faults.push(planned.fault.clone());
            }
        }
        Faults(faults)
    }

    /// From now on all goes well.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The faults of one reply. To be applied without any lock: they may wait.
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn apply(&self, mut reply: Reply) -> Reply {
        for fault in &self.0 {
            fault.apply(&mut reply);
        }
        reply
    }
}

/// Whether `pattern` means `request`: `"GET manifests/v1"` (the path ends so), `"GET blobs/"`
/// (the path contains it), `"* /v2/"` (any verb; a leading slash means the whole path).
pub(crate) fn matches(pattern: &str, request: &Request) -> bool {
    let (method, path) = pattern.split_once(' ').expect("a pattern is `VERB path`");
    let verb = method == "*" || method == request.method;
    verb && match path {
        whole if whole.starts_with('/') => request.path == whole,
        part if part.ends_with('/') => request.path.contains(&format!("/{part}")),
        tail => request.path.ends_with(&format!("/{tail}")),
    }
}
