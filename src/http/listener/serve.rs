//! One connection: its handshake, its version of HTTP, its end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::activity::STALL;
use super::files::{FileQueue, SendsFiles};
use super::http2::http2;
use super::pace::{Pace, Paced};
use super::stopped;
use crate::http::body::Body;
use crate::http::tls::{H2, ServerTls};

/// The largest head of an HTTP/1.1 request, and the most that is buffered for writing, in bytes.
pub(super) const BUFFER_SIZE: usize = 72 << 10;

/// Why a connection ended before its client ended it.
#[derive(Debug, Error)]
pub(super) enum Ended {
    /// The client did not finish the TLS handshake in time.
    #[error("the TLS handshake took too long")]
    Dawdles,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The client broke HTTP, left, or its answer broke as it had to.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The client let the connection stand.
    #[error("nothing went on for too long")]
    Stalls,
}

/// How connections are served.
#[derive(Clone)]
pub(super) struct Manner {
    pub(super) head_timeout: Duration,
    pub(super) max_streams: u32,
    pub(super) stall: Duration,
    pub(super) tls: Option<Arc<ServerTls>>,
}

/// Serves one connection to its end.
pub(super) async fn serve<S, F>(
    stream: TcpStream,
    peer: SocketAddr,
    manner: Manner,
    service: S,
    stop: watch::Receiver<bool>,
) -> Result<(), Ended>
where
    S: Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Without the first, small answers wait for the client's acknowledgement; without the second,
    // a client that takes nothing holds its connection for ever. Failing is no harm.
    let _ = stream.set_nodelay(true);
    let stall_ms = u32::try_from(STALL.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, stall_ms);
    let service = move |request| service(request, peer);
    let head_timeout = manner.head_timeout;
    // Boxed, so that no connection has room for the largest kind.
    match manner.tls.clone() {
        None => {
            let (files, pace) = (FileQueue::default(), Pace::new(manner.stall));
            let stream = SendsFiles::new(stream, files.clone());
            let stream = Paced::new(stream, Arc::clone(&pace));
            let service = move |request| {
                let (files, answered) = (files.clone(), service(request));
                async move { answered.await.map(|body| body.through(&files)) }
            };
            Box::pin(http1(stream, pace, head_timeout, service, stop)).await
        }
        Some(tls) => Box::pin(https(stream, tls, manner, service, stop)).await,
    }
}

async fn https<S, F>(
    stream: TcpStream,
    tls: Arc<ServerTls>,
    manner: Manner,
    service: S,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let pace = Pace::new(manner.stall);
    let stream = Paced::new(stream, Arc::clone(&pace));
    let handshake = Box::pin(timeout(manner.head_timeout, tls.acceptor().accept(stream)));
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        () = stopped(&mut stop) => return Ok(()),
    };
    let stream = accepted.map_err(|_| Ended::Dawdles)?.map_err(Ended::Handshake)?;
    if stream.get_ref().1.alpn_protocol() == Some(H2) {
        return Box::pin(http2(stream, manner, service, stop)).await;
    }
    Box::pin(http1(stream, pace, manner.head_timeout, service, stop)).await
}

async fn http1<S, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    pace: Arc<Pace>,
    head_timeout: Duration,
    service: S,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let answer = service_fn(|request| {
        let answered = service(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(BUFFER_SIZE)
        // Nothing that is to be written is copied: there may be marks in it.
        .writev(true)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let mut stops = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = stopped(&mut stop), if !stops => {
                stops = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(pace.look()) => {
                if pace.is_over() {
                    return Err(Ended::Stalls);
                }
            }
        }
    }
}
