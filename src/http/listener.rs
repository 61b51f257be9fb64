//! Accepting connections: bounded, timed, drained at the end.

mod activity;
mod allow;
mod crowd;
mod files;
mod http2;
mod pace;
mod serve;

pub use activity::InUse;
pub use allow::AllowFrom;
pub use files::FileQueue;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use self::activity::STALL;
use self::crowd::{Crowd, Place};
use self::serve::{Manner, serve};
use super::body::Body;
use super::tls::ServerTls;
use crate::config::{HEAD_TIMEOUT, ListenerConfig, MAX_CONNECTIONS, MAX_STREAMS};
use crate::metrics::Metrics;

/// How long accepting pauses after an error, for one when no file descriptors are left.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener ready to run.
pub struct Listener {
    /// Where it listens, bound.
    pub socket: TcpListener,
    /// What it is called in metrics.
    pub name: &'static str,
    /// Who may connect.
    pub allow_from: AllowFrom,
    /// How many, and for how long without a request.
    pub limits: ListenerLimits,
    /// What it shows; `None`: it speaks plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
}

/// What clients may take of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// How long a client may take for a handshake, for a request's head, or to come with its next
    /// request.
    pub head_timeout: Duration,
    /// Connections served at once; more wait to be accepted.
    pub connections: usize,
    /// Connections served at once of one client; more are closed. 0: no bound.
    pub per_client: usize,
    /// Requests that one HTTP/2 connection has at once. Each may hold a piece of a blob that its
    /// client does not take.
    pub streams: u32,
    /// How long an HTTP/1.1 client may take for each 64 KiB of an answer that waits for it.
    pub stall: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            head_timeout: HEAD_TIMEOUT,
            connections: MAX_CONNECTIONS,
            per_client: 0,
            streams: MAX_STREAMS,
            stall: STALL,
        }
    }
}

impl ListenerLimits {
    /// Those that are configured.
    pub const fn of(config: &ListenerConfig) -> Self {
        Self {
            head_timeout: config.head_timeout,
            connections: config.max_connections,
            per_client: config.max_connections_per_client,
            streams: config.max_streams,
            stall: STALL,
        }
    }
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
        let room = Arc::new(Semaphore::new(self.limits.connections.min(Semaphore::MAX_PERMITS)));
        let crowd = Crowd::new(self.limits.per_client);
        let ListenerLimits { head_timeout, streams: max_streams, stall, .. } = self.limits;
        let manner = Manner { head_timeout, max_streams, stall, tls: self.tls.clone() };
        let open = self.metrics.connections.with_label_values(&[self.name]);
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
            // Whoever may not come in gets no handshake either.
            let Some(place) = self.admit(&crowd, peer) else { continue };
            let (service, stop, open) = (service.clone(), stop.clone(), open.clone());
            let manner = manner.clone();
            running.spawn(async move {
                open.inc();
                if let Err(error) = serve(stream, peer, manner, service, stop).await {
                    // Clients that leave, garbage, and bodies that broke as they must: none is
                    // our failure.
                    tracing::debug!(client = %peer.ip(), %error, "a connection ended early");
                }
                // Free first: who reads that a connection has ended may come in.
                drop((place, permit));
                open.dec();
            });
        }
        drop(self.socket);
        while running.join_next().await.is_some() {}
    }

    /// A place for this client's connection, or `None`: then it was told and counted.
    fn admit(&self, crowd: &Arc<Crowd>, peer: SocketAddr) -> Option<Place> {
        let client = peer.ip();
        let refused =
            |why| self.metrics.listeners.refused.with_label_values(&[self.name, why]).inc();
        if !self.allow_from.admits(client) {
            refused("allow-from");
            tracing::warn!(%client, "a client outside allow-from was refused");
            return None;
        }
        let admitted = crowd.admit(client);
        admitted
            .map_err(|full| {
                refused("max-connections-per-client");
                if full.is_news {
                    tracing::warn!(%client, limit = self.limits.per_client,
                        "a client that has max-connections-per-client was refused another one");
                }
            })
            .ok()
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone stops too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn accept(
    socket: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let closed = || std::io::Error::other("the listener is closed");
    let permit = Arc::clone(room).acquire_owned().await.map_err(|_| closed())?;
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer, permit))
}
