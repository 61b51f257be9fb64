//! A client that reads blobs into one buffer and throws them away.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use sha2::{Digest as _, Sha256};

const BUFFER: usize = 256 << 10;

/// Where a client goes.
#[derive(Clone)]
pub(crate) struct Place {
    /// `127.0.0.1:port`.
    pub(crate) host: String,
    /// With it, TLS is spoken.
    pub(crate) trust: Option<Arc<ClientConfig>>,
}

/// How a download went.
#[derive(Clone, Copy)]
pub(crate) struct Fetched {
    pub(crate) bytes: u64,
    /// From the start, before connecting, to the body's first byte.
    pub(crate) first: Duration,
    /// And to its last.
    pub(crate) whole: Duration,
}

trait Stream: Read + io::Write {}
impl<T: Read + io::Write> Stream for T {}

/// Downloads `path`, on a connection of its own; each piece goes to `see`.
pub(crate) fn fetch(place: &Place, path: &str, see: &mut dyn FnMut(&[u8])) -> io::Result<Fetched> {
    let begun = Instant::now();
    let mut stream = place.connect()?;
    let host = &place.host;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.flush()?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let body = loop {
        let count = stream.read(&mut buffer[filled..])?;
        filled += count;
        if let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let length = length_of(&String::from_utf8_lossy(&buffer[..body]))?;
    let mut first = (filled > body).then(|| begun.elapsed());
    see(&buffer[body..filled]);
    let mut bytes = (filled - body) as u64;
    while bytes < length {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first.get_or_insert_with(|| begun.elapsed());
        see(&buffer[..count]);
        bytes += count as u64;
    }
    let whole = begun.elapsed();
    Ok(Fetched { bytes, first: first.unwrap_or(whole), whole })
}

/// Downloads `path` whole; its bytes must hash to `digest`.
pub(crate) fn fetch_right(place: &Place, path: &str, digest: &str) {
    let mut hasher = Sha256::new();
    fetch(place, path, &mut |bytes| hasher.update(bytes)).expect("the blob comes");
    assert_eq!(crate::origin::digest(hasher), digest, "{} serves other bytes", place.host);
}

/// Downloads at once, each path by a client of its own; what each saw, and how long all took.
pub(crate) fn fetch_all(place: &Place, paths: &[String]) -> (Vec<Fetched>, Duration) {
    let start = Arc::new(Barrier::new(paths.len() + 1));
    let clients: Vec<_> = paths
        .iter()
        .cloned()
        .map(|path| {
            let (place, start) = (place.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                fetch(&place, &path, &mut |_| ())
            })
        })
        .collect();
    start.wait();
    let begun = Instant::now();
    let come = |client: std::thread::JoinHandle<io::Result<Fetched>>| {
        client.join().expect("a client does not panic").expect("the blob comes")
    };
    let fetched = clients.into_iter().map(come).collect();
    (fetched, begun.elapsed())
}

/// Downloads small blobs, one after the other on one connection.
pub(crate) fn fetch_small(place: &Place, paths: &[String]) -> io::Result<()> {
    let mut stream = BufReader::new(place.connect()?);
    for path in paths {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", place.host);
        stream.get_mut().write_all(head.as_bytes())?;
        stream.get_mut().flush()?;
        let length = length_of(&head_of(&mut stream)?)?;
        io::copy(&mut (&mut stream).take(length), &mut io::sink())?;
    }
    Ok(())
}

/// Asks by HEAD with these `fields` for the paths in turn, on so many connections at once, for
/// `time`; how long each answer took.
pub(crate) fn heads(
    place: &Place,
    (paths, fields): (&[String], &str),
    connections: usize,
    time: Duration,
) -> io::Result<Vec<Duration>> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push((BufReader::new(place.connect()?), Instant::now()));
    }
    let mut paths = paths.iter().cycle();
    let mut ask = |stream: &mut BufReader<Box<dyn Stream>>| {
        let path = paths.next().expect("there are paths");
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", place.host);
        stream.get_mut().write_all(head.as_bytes())?;
        stream.get_mut().flush()?;
        io::Result::Ok(Instant::now())
    };
    for (stream, since) in &mut streams {
        *since = ask(stream)?;
    }
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        for (stream, since) in &mut streams {
            length_of(&head_of(stream)?)?;
            took.push(since.elapsed());
            *since = ask(stream)?;
        }
    }
    Ok(took)
}

fn head_of(stream: &mut BufReader<Box<dyn Stream>>) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

impl Place {
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(&self.host)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_mins(2)))?;
        let Some(trust) = &self.trust else { return Ok(Box::new(socket)) };
        let name = ServerName::try_from("127.0.0.1").expect("a host name");
        let tls = ClientConnection::new(Arc::clone(trust), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(tls, socket)))
    }
}

/// The length that the head of a 200 names.
fn length_of(head: &str) -> io::Result<u64> {
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(head.to_owned()));
    }
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    };
    head.lines().find_map(field).ok_or_else(|| io::Error::other("no Content-Length"))
}
