//! An HTTP/1.1 server on threads that can keep the protocol, and break it in every way.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::gate::Gate;
use super::vast::Vast;
use super::wire::{Fields, Reader, Wire};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The target as it stands in the request line.
    pub(crate) target: String,
    /// The target up to the question mark.
    pub(crate) path: String,
    /// What follows the question mark.
    pub(crate) query: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
}

/// How a body's end is told.
#[derive(Clone, Debug)]
pub(crate) enum Framing {
    /// In chunks.
    Chunked,
    /// By this `Content-Length`, true or not.
    Claim(String),
    /// By the connection's end.
    Close,
    /// In chunks, the body again and again without end.
    Endless,
    /// By a true `Content-Length`.
    Length,
}

/// What becomes of the connection after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It closes with a FIN.
    Fin,
    /// It stays open for the next request.
    Keep,
    /// It breaks with a RST.
    Reset,
}

/// A reply, lawful or not.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Fields,
    pub(crate) body: Bytes,
    pub(crate) framing: Framing,
    pub(crate) ending: Ending,
    /// Only so many bytes of the body are sent.
    pub(crate) cut: Option<usize>,
    /// Instead of `body`: these bytes of a blob, the second excluded.
    pub(crate) vast: Option<(Vast, u64, u64)>,
    /// After so many bytes of the body the reply waits at the gate.
    pub(crate) pause: Option<(usize, Gate)>,
    /// These bytes instead of all of the above but `ending`.
    pub(crate) raw: Option<Bytes>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            reason: String::from("As Scripted"),
            fields: Fields::default(),
            body: Bytes::new(),
            vast: None,
            framing: Framing::Length,
            ending: Ending::Keep,
            cut: None,
            pause: None,
            raw: None,
        }
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.field("Content-Type", content_type)
    }

    /// An error in the specification's envelope.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"as scripted"}}]}}"#);
        Self::new(status).body("application/json", body)
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server on 127.0.0.1; it ends with its last owner, and so do its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Box<Handler>,
    tls: Option<Arc<ServerConfig>>,
    stopped: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<HashMap<usize, TcpStream>>,
}

impl Server {
    /// Starts on a free port; with `tls` it speaks nothing else.
    pub(crate) fn start(
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            stopped: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let (tls, accepting) = (shared.tls.is_some(), shared.clone());
        let accepting = Some(std::thread::spawn(move || accepting.accept(&listener)));
        Self { address, tls, shared, accepting }
    }

    /// `http://127.0.0.1:port` or `https://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// How many connections it has accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Stops listening and breaks every connection: the server is down.
    pub(crate) fn stop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes `accept`.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("accepting does not panic");
        }
        for socket in self.shared.open.lock().expect("no holder panics").values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for socket in listener.incoming() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(socket) = socket else { continue };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            let Ok(twin) = socket.try_clone() else { continue };
            self.open.lock().expect("no holder panics").insert(number, twin);
            let shared = self.clone();
            std::thread::spawn(move || {
                shared.converse(socket);
                shared.open.lock().expect("no holder panics").remove(&number);
            });
        }
    }

    fn converse(&self, socket: TcpStream) {
        let _ = socket.set_nodelay(true);
        let mut wire = match &self.tls {
            None => Wire::Plain(socket),
            Some(tls) => {
                let Ok(connection) = ServerConnection::new(tls.clone()) else { return };
                Wire::Server(Box::new(StreamOwned::new(connection, socket)))
            }
        };
        let mut reader = Reader::default();
        while let Ok(Some(request)) = read_request(&mut wire, &mut reader) {
            let reply = (self.handler)(&request);
            let written = reply.write(&mut wire, request.method == "HEAD");
            match reply.ending {
                Ending::Reset => return wire.reset(),
                Ending::Keep if written.is_ok() => (),
                Ending::Fin | Ending::Keep => return wire.finish(),
            }
        }
    }
}

fn read_request(wire: &mut Wire, reader: &mut Reader) -> io::Result<Option<Request>> {
    let Some(head) = reader.head(wire)? else { return Ok(None) };
    let mut words = head.first_line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let length = head.fields.get("Content-Length").and_then(|text| text.parse().ok());
    let body = if head.fields.get("Transfer-Encoding").is_some() {
        reader.chunked(wire)
    } else {
        reader.sized(wire, length.unwrap_or(0))
    };
    Ok(Some(Request { method, target, path, query, fields: head.fields, body: body.bytes }))
}

impl Reply {
    fn write(&self, wire: &mut Wire, head_only: bool) -> io::Result<()> {
        if let Some(raw) = &self.raw {
            wire.write_all(raw)?;
            return wire.flush();
        }
        wire.write_all(self.head().as_bytes())?;
        wire.flush()?;
        if head_only {
            return Ok(());
        }
        if let Some((vast, from, to)) = &self.vast {
            vast.each(*from, *to, |piece| self.write_piece(wire, piece))?;
            return wire.flush();
        }
        let end = self.cut.unwrap_or(usize::MAX).min(self.body.len());
        let pause = self.pause.as_ref().map_or(0, |(at, _)| (*at).min(end));
        self.write_piece(wire, &self.body[..pause])?;
        if let Some((_, gate)) = &self.pause {
            gate.pass();
        }
        self.write_piece(wire, &self.body[pause..end])?;
        match self.framing {
            Framing::Endless => loop {
                self.write_piece(wire, &self.body)?;
            },
            Framing::Chunked if self.cut.is_none() => wire.write_all(b"0\r\n\r\n")?,
            _ => (),
        }
        wire.flush()
    }

    fn head(&self) -> String {
        let Self { status, reason, fields, .. } = self;
        let framing = match &self.framing {
            Framing::Chunked | Framing::Endless => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::Claim(length) => format!("Content-Length: {length}\r\n"),
            Framing::Close => String::new(),
            Framing::Length => {
                let length = self.vast.as_ref().map(|(_, from, to)| to - from);
                let length = length.unwrap_or(self.body.len() as u64);
                format!("Content-Length: {length}\r\n")
            }
        };
        format!("HTTP/1.1 {status} {reason}\r\n{fields}{framing}\r\n")
    }

    fn write_piece(&self, wire: &mut Wire, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if matches!(self.framing, Framing::Chunked | Framing::Endless) {
            wire.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
            wire.write_all(bytes)?;
            wire.write_all(b"\r\n")?;
        } else {
            wire.write_all(bytes)?;
        }
        wire.flush()
    }
}
