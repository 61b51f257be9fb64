//! A small HTTP/1.1 client that reports what it saw: reason phrases, truncation, everything.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::wire::{Fields, Head, Reader, Wire};

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request to be sent on a connection of its own.
pub(crate) struct Call {
    method: String,
    host: String,
    target: String,
    fields: Fields,
    body: Vec<u8>,
    tls: Option<Arc<ClientConfig>>,
    own: Option<Ipv4Addr>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to the end that its head announced.
    pub(crate) whole: bool,
}

/// `GET url`.
#[track_caller]
pub(crate) fn get(url: &str) -> Answer {
    Call::new("GET", url).send()
}

/// `HEAD url`.
#[track_caller]
pub(crate) fn head(url: &str) -> Answer {
    Call::new("HEAD", url).send()
}

/// Sends `bytes` as they stand and returns all that comes back until the peer closes, or until
/// it has been silent for `silence`.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8], silence: Duration) -> Vec<u8> {
    let mut wire = Wire::Plain(TcpStream::connect(address).expect("the server listens"));
    wire.socket().set_read_timeout(Some(silence)).expect("a time-out above 0");
    // A server that refuses early may close while we still write.
    let _ = wire.write_all(bytes);
    Reader::default().rest(&mut wire).bytes
}

impl Call {
    /// `url` is `http://address:port/path` or, with [`Call::trust`], `https://…`. The path goes
    /// out as it stands.
    pub(crate) fn new(method: &str, url: &str) -> Self {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let rest = rest.unwrap_or_else(|| panic!("not a URL: {url}"));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self {
            method: method.to_owned(),
            host: host.to_owned(),
            target: format!("/{path}"),
            fields: Fields::default(),
            body: Vec::new(),
            tls: None,
            own: None,
        }
    }

    /// Adds a field; the same name twice gives two lines.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends this body, with its length.
    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        body.clone_into(&mut self.body);
        let length = body.len().to_string();
        self.field("Content-Length", &length)
    }

    /// Comes from this one of the machine's addresses.
    pub(crate) fn from(mut self, own: Ipv4Addr) -> Self {
        self.own = Some(own);
        self
    }

    /// Speaks TLS and trusts by this configuration.
    pub(crate) fn trust(mut self, tls: Option<Arc<ClientConfig>>) -> Self {
        self.tls = tls;
        self
    }

    /// The answer; panics when there is none.
    #[track_caller]
    pub(crate) fn send(self) -> Answer {
        let what = format!("{} {}{}", self.method, self.host, self.target);
        self.try_send().unwrap_or_else(|error| panic!("no answer to {what}: {error}"))
    }

    /// The answer, or why there is no head of one.
    pub(crate) fn try_send(self) -> io::Result<Answer> {
        let mut wire = self.begin()?;
        Answer::read(&mut wire, self.method == "HEAD")
    }

    /// The answer without its body; the bytes of a body with a length go to `see` as they come.
    pub(crate) fn stream(self, see: impl FnMut(&[u8])) -> io::Result<Answer> {
        let mut wire = self.begin()?;
        let mut reader = Reader::default();
        let mut answer = Answer::of(reader.head(&mut wire)?)?;
        let length = answer.field("Content-Length").and_then(|text| text.parse().ok());
        answer.whole = reader.pass(&mut wire, length.unwrap_or(u64::MAX), see);
        Ok(answer)
    }

    fn begin(&self) -> io::Result<Wire> {
        let mut wire = self.connect()?;
        let mut fields = self.fields.clone();
        if fields.get("Host").is_none() {
            fields.set("Host", Some(&self.host));
        }
        fields.set("Connection", Some("close"));
        let line = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        wire.write_all(format!("{line}{fields}\r\n").as_bytes())?;
        wire.write_all(&self.body)?;
        wire.flush()?;
        Ok(wire)
    }

    fn connect(&self) -> io::Result<Wire> {
        let socket = match self.own {
            Some(own) => connect_from(own, self.host.parse().expect("an address"))?,
            None => TcpStream::connect(&self.host)?,
        };
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let Some(tls) = &self.tls else { return Ok(Wire::Plain(socket)) };
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        let name = ServerName::try_from(name.to_owned()).expect("a host name");
        let connection = ClientConnection::new(tls.clone(), name).map_err(io::Error::other)?;
        Ok(Wire::Client(Box::new(StreamOwned::new(connection, socket))))
    }
}

fn connect_from(own: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&stream, &SocketAddr::new(IpAddr::V4(own), 0))?;
    connect(&stream, &to)?;
    Ok(TcpStream::from(stream))
}

impl Answer {
    fn read(wire: &mut Wire, head_only: bool) -> io::Result<Self> {
        let mut reader = Reader::default();
        let mut answer = Self::of(reader.head(wire)?)?;
        let length = answer.field("Content-Length").and_then(|text| text.parse().ok());
        let body = if head_only || matches!(answer.status, 204 | 304) {
            super::wire::ReadBody { bytes: Vec::new(), whole: true }
        } else if answer.field("Transfer-Encoding").is_some() {
            reader.chunked(wire)
        } else if let Some(length) = length {
            reader.sized(wire, length)
        } else {
            reader.rest(wire)
        };
        (answer.body, answer.whole) = (body.bytes, body.whole);
        Ok(answer)
    }

    /// What a head says, without a body.
    fn of(head: Option<Head>) -> io::Result<Self> {
        let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut parts = head.first_line.splitn(3, ' ').skip(1);
        let status = parts.next().and_then(|code| code.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let reason = parts.next().unwrap_or_default().to_owned();
        Ok(Self { status, reason, fields: head.fields, body: Vec::new(), whole: false })
    }

    /// The first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// `Docker-Content-Digest`, or nothing.
    pub(crate) fn digest(&self) -> &str {
        self.field("Docker-Content-Digest").unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}
