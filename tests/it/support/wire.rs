//! A byte stream, plain or TLS, from either end; and HTTP/1.1 heads and bodies on it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::{ClientConnection, ServerConnection, StreamOwned};

/// One end of a connection.
pub(crate) enum Wire {
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    Plain(TcpStream),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Client(stream) => &stream.sock,
            Self::Plain(socket) => socket,
            Self::Server(stream) => &stream.sock,
        }
    }

    /// Ends our side cleanly, and reads what the peer still sends, so that it sees a FIN.
    pub(crate) fn finish(mut self) {
        if let Self::Server(stream) = &mut self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(std::net::Shutdown::Write);
        let _ = self.socket().set_read_timeout(Some(Duration::from_secs(2)));
        let mut rest = self.socket();
        let _ = io::copy(&mut rest, &mut io::sink());
    }

    /// Ends the connection with a RST.
    pub(crate) fn reset(self) {
        let linger = Some(Duration::ZERO);
        let _ = rustix::net::sockopt::set_socket_linger(self.socket(), linger);
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Client(stream) => stream.read(buffer),
            Self::Plain(socket) => socket.read(buffer),
            Self::Server(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Client(stream) => stream.write(bytes),
            Self::Plain(socket) => socket.write(bytes),
            Self::Server(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Client(stream) => stream.flush(),
            Self::Plain(socket) => socket.flush(),
            Self::Server(stream) => stream.flush(),
        }
    }
}

/// Header fields in the order and case in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// The first field of that name, in any case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All fields of that name, in any case.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let same = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.0.iter().filter(same).map(|(_, value)| value.as_str())
    }

    /// Replaces every field of that name; `None` takes it away.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) {
        self.0.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.0.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
}

impl std::fmt::Display for Fields {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write!(out, "{name}: {value}\r\n"))
    }
}

/// A message's first line and fields.
pub(crate) struct Head {
    pub(crate) first_line: String,
    pub(crate) fields: Fields,
}

/// Reads a message piece by piece; keeps what was read too far for the next one.
#[derive(Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
}

/// What came of a body, and whether it was all of it.
#[derive(Debug, Default)]
pub(crate) struct ReadBody {
    pub(crate) bytes: Vec<u8>,
    pub(crate) whole: bool,
}

impl Reader {
    /// The next head; `None` when the peer closed before a byte of it.
    pub(crate) fn head(&mut self, wire: &mut impl Read) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(Some(parse_head(&String::from_utf8_lossy(&head))));
            }
            if self.buffer.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
                // A TLS greeting, say: clients try https first, and wait for our answer.
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.fill(wire)? == 0 {
                let cut = io::ErrorKind::UnexpectedEof;
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut.into()) };
            }
        }
    }

    /// A body of `size` bytes; not whole when the peer ends or breaks first.
    pub(crate) fn sized(&mut self, wire: &mut impl Read, size: usize) -> ReadBody {
        while self.buffer.len() < size {
            if !matches!(self.fill(wire), Ok(1..)) {
                return ReadBody { bytes: std::mem::take(&mut self.buffer), whole: false };
            }
        }
        ReadBody { bytes: self.buffer.drain(..size).collect(), whole: true }
    }

    /// A body of `size` bytes, which go to `see` as they come; whether it was whole.
    pub(crate) fn pass(
        &mut self,
        wire: &mut impl Read,
        size: u64,
        mut see: impl FnMut(&[u8]),
    ) -> bool {
        let mut left = size;
        loop {
            let count = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            see(&self.buffer[..count]);
            self.buffer.drain(..count);
            left -= count as u64;
            if left == 0 || !matches!(self.fill(wire), Ok(1..)) {
                return left == 0;
            }
        }
    }

    /// A chunked body; not whole without its last chunk.
    pub(crate) fn chunked(&mut self, wire: &mut impl Read) -> ReadBody {
        let mut bytes = Vec::new();
        loop {
            let Some(size) = self.line(wire).and_then(|line| usize::from_str_radix(&line, 16).ok())
            else {
                return ReadBody { bytes, whole: false };
            };
            let chunk = self.sized(wire, size);
            bytes.extend_from_slice(&chunk.bytes);
            if !chunk.whole || self.line(wire).is_none() {
                return ReadBody { bytes, whole: false };
            }
            if size == 0 {
                return ReadBody { bytes, whole: true };
            }
        }
    }

    /// Everything until the peer closes; whole when it closed cleanly.
    pub(crate) fn rest(&mut self, wire: &mut impl Read) -> ReadBody {
        loop {
            match self.fill(wire) {
                Ok(0) => return ReadBody { bytes: std::mem::take(&mut self.buffer), whole: true },
                Ok(_) => (),
                Err(_) => {
                    return ReadBody { bytes: std::mem::take(&mut self.buffer), whole: false };
                }
            }
        }
    }

    fn line(&mut self, wire: &mut impl Read) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill(wire).ok().filter(|&count| count > 0)?;
        }
    }

    fn fill(&mut self, wire: &mut impl Read) -> io::Result<usize> {
        let mut piece = vec![0; 64 * 1024];
        let count = wire.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }
}

fn parse_head(text: &str) -> Head {
    let mut lines = text.trim_end().split("\r\n");
    let first_line = lines.next().unwrap_or_default().to_owned();
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.to_owned(), value.trim().to_owned())
    };
    Head { first_line, fields: Fields(lines.map(field).collect()) }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
