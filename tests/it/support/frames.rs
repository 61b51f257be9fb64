//! HTTP/2 frame by frame, over TLS: what a client sends, and what no client should.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Kinds of frames (RFC 9113, 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What a client lets a server send at most.
const WINDOW: u32 = 0x7fff_ffff;

/// A frame that came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// One HTTP/2 connection, from the client's side.
pub(crate) struct Http2 {
    wire: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
    next_stream: u32,
    /// The error code of a GOAWAY.
    pub(crate) goodbye: Option<u32>,
}

/// What came on a stream.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether the stream came to its end, not to a reset.
    pub(crate) whole: bool,
}

impl Http2 {
    /// Connects, says the preface, and opens the window of the connection and of all streams.
    pub(crate) fn connect(address: SocketAddr, client: &Arc<ClientConfig>) -> Self {
        let mut http2 = Self::connect_with(address, client, WINDOW);
        http2.send(WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes()).expect("it reads");
        http2
    }

    /// The same with another window for each stream, and the connection's own as it is.
    pub(crate) fn connect_with(
        address: SocketAddr,
        client: &Arc<ClientConfig>,
        window: u32,
    ) -> Self {
        let mut client = ClientConfig::clone(client);
        client.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(address).expect("it listens");
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).expect("a time-out above 0");
        socket.set_write_timeout(patience).expect("a time-out above 0");
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let connection = ClientConnection::new(Arc::new(client), name).expect("it is valid");
        let wire = StreamOwned::new(connection, socket);
        let mut http2 = Self { wire, buffer: Vec::new(), next_stream: 1, goodbye: None };
        http2.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("it reads");
        // Without a table of fields an answer's status stands in its own head.
        let mut settings = vec![0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
        settings.extend([0, 4]);
        settings.extend(window.to_be_bytes());
        http2.send(SETTINGS, 0, 0, &settings).expect("it reads");
        http2
    }

    /// Gives up soon when the server takes nothing.
    pub(crate) fn hurry(&self) {
        let soon = Some(Duration::from_secs(1));
        self.wire.sock.set_write_timeout(soon).expect("a time-out above 0");
    }

    /// The number of a new stream.
    pub(crate) fn stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// Sends bytes as they stand.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes)?;
        self.wire.flush()
    }

    /// Sends one frame.
    pub(crate) fn send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        self.raw(&frame(kind, flags, stream, payload))
    }

    /// Sends `count` pieces, and takes what comes meanwhile; whether the server took them all.
    pub(crate) fn flood(
        &mut self,
        count: u32,
        mut piece: impl FnMut(&mut Self) -> Vec<u8>,
    ) -> bool {
        const BATCH: usize = 64 << 10;
        let mut batch = Vec::new();
        for left in (0..count).rev() {
            batch.extend(piece(self));
            if batch.len() < BATCH && left > 0 {
                continue;
            }
            if !self.push(&batch) {
                return false;
            }
            batch.clear();
        }
        true
    }

    /// Sends bytes and takes what comes, as long as the server takes some; whether it took all.
    fn push(&mut self, mut bytes: &[u8]) -> bool {
        let soon = Some(Duration::from_millis(20));
        self.wire.sock.set_write_timeout(soon).expect("a time-out above 0");
        let mut waited = 0;
        while !bytes.is_empty() && waited < 1000 {
            match self.wire.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_timeout(&error) => waited += 1,
                Err(_) => waited = 1000,
            }
            if !self.take_what_is_there() {
                return false;
            }
        }
        bytes.is_empty()
    }

    /// Reads without waiting, and throws it away but for a GOAWAY; whether the server still speaks.
    fn take_what_is_there(&mut self) -> bool {
        let set = |wire: &TcpStream, time| wire.set_read_timeout(Some(time)).expect("above 0");
        set(&self.wire.sock, Duration::from_millis(1));
        let mut piece = vec![0; 64 << 10];
        let speaks = loop {
            match self.wire.read(&mut piece) {
                Ok(0) => break false,
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    while self.pop().is_some() {}
                }
                Err(error) => break is_timeout(&error),
            }
        };
        set(&self.wire.sock, Duration::from_secs(20));
        speaks
    }

    /// The first frame of what was read.
    fn pop(&mut self) -> Option<Frame> {
        let head = self.buffer.first_chunk::<9>()?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if self.buffer.len() < 9 + size {
            return None;
        }
        let bytes: Vec<u8> = self.buffer.drain(..9 + size).collect();
        let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
        let frame = Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() };
        if frame.kind == GOAWAY
            && let Some(code) = frame.payload.get(4..8).and_then(|code| code.first_chunk())
        {
            self.goodbye = Some(u32::from_be_bytes(*code));
        }
        Some(frame)
    }

    /// The next frame; `None` when the server has closed.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.pop() {
                return Some(frame);
            }
            let mut piece = vec![0; 64 << 10];
            match self.wire.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
                Err(error) if is_timeout(&error) => panic!("the server neither speaks nor closes"),
                Err(_) => return None,
            }
        }
    }

    /// Waits until the server closes; the error code of its GOAWAY, if it sent one.
    #[track_caller]
    pub(crate) fn ending(mut self) -> Option<u32> {
        while self.next().is_some() {}
        self.goodbye
    }

    /// `GET path`.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.request(&head_of("GET", path))
    }

    /// Sends a request without a body, and reads its answer.
    #[track_caller]
    pub(crate) fn request(&mut self, fields: &[(&str, &str)]) -> Reply {
        let stream = self.stream();
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &header_block(fields))
            .expect("it reads");
        self.reply(stream)
    }

    /// Reads until a stream ends.
    #[track_caller]
    pub(crate) fn reply(&mut self, stream: u32) -> Reply {
        let mut reply = Reply::default();
        loop {
            let frame = self.next().expect("the connection stays");
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => {
                    self.send(SETTINGS, ACK, 0, &[]).expect("it reads");
                }
                PING if frame.flags & ACK == 0 => {
                    self.send(PING, ACK, 0, &frame.payload).expect("it reads");
                }
                HEADERS if frame.stream == stream => {
                    reply.status = status(&frame.payload);
                }
                DATA if frame.stream == stream => reply.body.extend(&frame.payload),
                RST_STREAM if frame.stream == stream => return reply,
                _ => {}
            }
            let carries = frame.stream == stream && matches!(frame.kind, DATA | HEADERS);
            if carries && frame.flags & END_STREAM != 0 {
                reply.whole = true;
                return reply;
            }
        }
    }
}

/// A request's pseudo-header fields, and an Accept of everything.
fn head_of<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 5] {
    [
        (":method", method),
        (":scheme", "https"),
        (":authority", "127.0.0.1"),
        (":path", path),
        ("accept", "*/*"),
    ]
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a small payload").to_be_bytes();
    let mut bytes = vec![size[1], size[2], size[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A `GET` of a path as the payload of HEADERS.
pub(crate) fn get_block(path: &str) -> Vec<u8> {
    header_block(&head_of("GET", path))
}

/// Fields as literals that nobody indexes, without Huffman's code (RFC 7541, 6.2.2).
pub(crate) fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let size = text.len();
            if let Ok(size @ ..127) = u8::try_from(size) {
                block.push(size);
            } else {
                block.push(127);
                let mut rest = size - 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).expect("below 128") | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).expect("below 128"));
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The status, which comes first in an answer's block of fields (RFC 7541, 6 and appendix A), by
/// its place in the static table or as a literal in Huffman's code.
fn status(block: &[u8]) -> u16 {
    const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let is_size_update = |byte: &&u8| **byte & 0xe0 == 0x20;
    let skipped = block.iter().take_while(is_size_update).count();
    match &block[skipped..] {
        [index @ 0x88..=0x8e, ..] => KNOWN[usize::from(index - 0x88)],
        [0x08 | 0x18 | 0x48, size, rest @ ..] if size & 0x80 != 0 => digits(rest),
        [0x08 | 0x18 | 0x48, 3, a, b, c, ..] => {
            String::from_utf8_lossy(&[*a, *b, *c]).parse().expect("a status")
        }
        other => panic!("no status in {other:02x?}"),
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): 0, 1 and 2 have five bits, others six.
fn digits(bytes: &[u8]) -> u16 {
    let mut padded = [0; 4];
    padded.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
    let bits = u32::from_be_bytes(padded);
    let (mut number, mut at) = (0, 0);
    for _ in 0..3 {
        let five = bits << at >> 27;
        let (digit, size) = if five < 3 { (five, 5) } else { ((bits << at >> 26) - 0x19 + 3, 6) };
        at += size;
        number = number * 10 + digit;
    }
    u16::try_from(number).expect("three digits")
}

#[test]
fn a_status_is_read_in_each_of_its_forms() {
    for (block, expected) in [
        (&[0x88][..], 200),
        (&[0x20, 0x8d, 0], 404),
        // RFC 7541, C.6.1: 302; and others by its appendix B.
        (&[0x48, 0x82, 0x64, 0x02], 302),
        (&[0x08, 3, b'4', b'1', b'3'], 413),
        (&[0x48, 0x83, 0x68, 0x0c, 0xff], 403),
    ] {
        assert_eq!(status(block), expected, "{block:02x?}");
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
