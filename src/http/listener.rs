//! Accepting connections: bounded, timed, drained at the end.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::body::Body;

/// The most connections that one listener serves at once.
const CONNECTIONS: usize = 16_384;

/// The largest head of a request, and the most that is buffered for writing, in bytes.
const BUFFER_SIZE: usize = 72 << 10;

/// How long accepting pauses after an error, for one when no file descriptors are left.
const PAUSE: Duration = Duration::from_millis(50);

/// Who may connect.
#[derive(Clone, Debug, Default)]
pub struct AllowFrom(pub Vec<(IpAddr, u8)>);

impl AllowFrom {
    /// Whether `address` is in one of the networks; with none given everybody may connect.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.is_empty() || self.0.iter().any(|(network, bits)| contains(*network, *bits, address))
    }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

/// A listener ready to run.
pub struct Listener {
    /// Where it listens, bound.
    pub socket: TcpListener,
    /// Who may connect.
    pub allow_from: AllowFrom,
    /// How long a client may take to send a request's head, or to come with its next one.
    pub head_timeout: Duration,
    /// Connections open.
    pub connections: IntGauge,
}

impl Listener {
    /// Serves connections until `stop` turns true, then lets the running requests end.
    ///
    /// Returns when the last connection has closed; the caller bounds the wait.
    pub async fn run<S, F>(self, service: S, mut stop: watch::Receiver<bool>)
    where
        S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut running = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(_) = running.join_next() => continue,
                accepted = accept(&self.socket, &room) => accepted,
            };
            let (stream, peer, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if !self.allow_from.admits(peer.ip()) {
                tracing::warn!(client = %peer.ip(), "a client outside allow-from was refused");
                continue;
            }
            let (service, stop) = (service.clone(), stop.clone());
            let (connections, head_timeout) = (self.connections.clone(), self.head_timeout);
            running.spawn(async move {
                connections.inc();
                let answer = move |request| service(request, peer);
                if let Err(error) = serve(stream, head_timeout, answer, stop).await {
                    // Clients that leave, garbage, and bodies that broke as they must: none is
                    // our failure.
                    tracing::debug!(client = %peer.ip(), %error, "a connection ended early");
                }
                connections.dec();
                drop(permit);
            });
        }
        drop(self.socket);
        while running.join_next().await.is_some() {}
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone stops too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn accept(
    socket: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let closed = || std::io::Error::other("the listener is closed");
    let permit = Arc::clone(room).acquire_owned().await.map_err(|_| closed())?;
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer, permit))
}

async fn serve<S, F>(
    stream: TcpStream,
    head_timeout: Duration,
    service: S,
    mut stop: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    // Without it small answers wait for the client's acknowledgement; failing is no harm.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| {
        let answered = service(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(BUFFER_SIZE)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        for (network, bits, address, inside) in [
            ("10.0.0.0", 8, "10.1.2.3", true),
            ("10.0.0.0", 8, "11.1.2.3", false),
            ("0.0.0.0", 0, "1.2.3.4", true),
            ("127.0.0.1", 32, "127.0.0.1", true),
            ("127.0.0.1", 32, "127.0.0.2", false),
            ("fd00::", 8, "fd12::1", true),
            ("::", 0, "1.2.3.4", false),
            ("10.0.0.0", 8, "::ffff:10.0.0.1", true),
        ] {
            let allow = AllowFrom(vec![(network.parse().unwrap(), bits)]);
            assert_eq!(allow.admits(address.parse().unwrap()), inside, "{network} {address}");
        }
        assert!(AllowFrom::default().admits("1.2.3.4".parse().unwrap()));
    }
}
