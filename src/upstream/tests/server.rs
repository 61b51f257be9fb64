//! A scripted server: it says byte for byte what the test tells it to, and remembers what it got.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What a server does with a request.
pub(super) enum Reply {
    /// Says this and waits for the next request.
    Say(Vec<u8>),
    /// Says this and closes the connection in order.
    Close(Vec<u8>),
    /// Says this and resets the connection.
    Reset(Vec<u8>),
    /// Says this and then nothing, for ever.
    Hang(Vec<u8>),
    /// Says this, then the other bytes for as long as anybody listens.
    Endless(Vec<u8>, &'static [u8]),
    /// Answers 200 and joins the connection with the port on loopback: a CONNECT.
    Tunnel(u16),
}

impl Reply {
    /// An answer with a Content-Length. `headers` are whole lines.
    pub(super) fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n");
        Self::Say([head.as_bytes(), body.as_bytes()].concat())
    }

    pub(super) fn ok(headers: &str, body: &str) -> Self {
        Self::status("200 OK", headers, body)
    }

    pub(super) fn redirect(location: &str) -> Self {
        Self::status("307 Temporary Redirect", &format!("Location: {location}\r\n"), "")
    }

    pub(super) fn challenge(challenge: &str) -> Self {
        Self::status("401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), "{}")
    }
}

type Script = dyn Fn(&str) -> Reply + Send + Sync;

/// A server on loopback, gone with the test's runtime.
pub(super) struct Server {
    pub(super) port: u16,
    scheme: &'static str,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) async fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(None, Arc::new(script)).await
    }

    pub(super) async fn start_tls(
        tls: TlsAcceptor,
        script: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::run(Some(tls), Arc::new(script)).await
    }

    async fn run(tls: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let log = heads.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, script, log) = (tls.clone(), script.clone(), log.clone());
                tokio::spawn(async move {
                    let stop = match tls {
                        None => return serve_tcp(tcp, &*script, &log).await,
                        Some(tls) => tls.accept(tcp).await,
                    };
                    if let Ok(mut io) = stop {
                        serve(&mut io, &*script, &log).await;
                    }
                });
            }
        });
        Self { port, scheme, heads }
    }

    /// The origin, by address.
    pub(super) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// The heads of all requests so far.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// How many requests came so far.
    pub(super) fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

/// The value of a header in a request's head.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

async fn serve_tcp(mut tcp: TcpStream, script: &Script, log: &Mutex<Vec<String>>) {
    if serve(&mut tcp, script, log).await {
        // With nothing to linger for, closing is a reset.
        rustix::net::sockopt::set_socket_linger(&tcp, Some(std::time::Duration::ZERO)).unwrap();
    }
}

/// Serves one connection to its end; true: it shall end with a reset.
async fn serve(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    script: &Script,
    log: &Mutex<Vec<String>>,
) -> bool {
    while let Some(head) = read_head(io).await {
        log.lock().unwrap().push(head.clone());
        let reply = script(&head);
        let (Reply::Say(bytes)
        | Reply::Close(bytes)
        | Reply::Reset(bytes)
        | Reply::Hang(bytes)
        | Reply::Endless(bytes, _)) = &reply
        else {
            let Reply::Tunnel(port) = reply else { unreachable!() };
            io.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut target = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = copy_bidirectional(io, &mut target).await;
            return false;
        };
        if io.write_all(bytes).await.is_err() || io.flush().await.is_err() {
            return false;
        }
        match reply {
            Reply::Say(_) => {}
            Reply::Hang(_) => std::future::pending().await,
            Reply::Endless(_, more) => while io.write_all(more).await.is_ok() {},
            Reply::Reset(_) => return true,
            Reply::Close(_) | Reply::Tunnel(_) => {
                let _ = io.shutdown().await;
                return false;
            }
        }
    }
    false
}

async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}
