//! One connection: its handshake, its version of HTTP, its end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::activity::{Activity, STALL};
use super::stopped;
use crate::http::body::Body;
use crate::http::tls::{H2, ServerTls};

/// The largest head of an HTTP/1.1 request, and the most that is buffered for writing, in bytes.
const BUFFER_SIZE: usize = 72 << 10;

/// The largest header list of an HTTP/2 request, in bytes as RFC 9113, 6.5.2 counts them.
const HEADER_LIST_SIZE: u32 = 64 << 10;

/// Requests that one HTTP/2 connection has at once. Each may hold a piece of a blob (256 KiB) that
/// its client does not take.
const STREAMS: u32 = 32;

/// What an HTTP/2 client may send of a body before it is read: nobody reads any.
const WINDOW: u32 = 64 << 10;

/// Streams of one HTTP/2 connection that may end by a reset that nobody waited for (RFC 9113, 10.5),
/// before the connection ends.
const RESETS: usize = 64;

/// How often an HTTP/2 client must show that it lives, and how long it may take to.
const PING: Duration = Duration::from_secs(20);

/// How long an HTTP/2 client may take to leave when it is told to go.
const FAREWELL: Duration = Duration::from_secs(1);

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
    pub(super) tls: Option<Arc<ServerTls>>,
}

/// Serves one connection to its end.
pub(super) async fn serve<S, F>(
    stream: TcpStream,
    peer: SocketAddr,
    manner: Manner,
    service: S,
    mut stop: watch::Receiver<bool>,
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
    let Some(tls) = manner.tls else {
        return http1(stream, manner.head_timeout, service, stop).await;
    };
    let accepted = tokio::select! {
        accepted = timeout(manner.head_timeout, tls.acceptor().accept(stream)) => accepted,
        () = stopped(&mut stop) => return Ok(()),
    };
    let stream = accepted.map_err(|_| Ended::Dawdles)?.map_err(Ended::Handshake)?;
    if stream.get_ref().1.alpn_protocol() == Some(H2) {
        return http2(stream, manner.head_timeout, service, stop).await;
    }
    http1(stream, manner.head_timeout, service, stop).await
}

async fn http1<S, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
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
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => Ok(ended?),
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            Ok(connection.await?)
        }
    }
}

/// hyper has no time limit for what an HTTP/2 client leaves out, its first bytes included.
async fn http2<S, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    head_timeout: Duration,
    service: S,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let activity = Activity::new();
    let answer = service_fn(|request| {
        let (in_use, answered) = (activity.begin(), service(request));
        async move { Ok::<_, Infallible>(answered.await.map(|body| body.while_in_use(in_use))) }
    });
    let mut connection = pin!(bounded().serve_connection(TokioIo::new(stream), answer));
    let mut farewell: Option<Instant> = None;
    let mut stops = false;
    loop {
        // What is in use now may be idle long before an answer would count as stalled.
        let look = || activity.ends(head_timeout).min(Instant::now() + head_timeout);
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = stopped(&mut stop), if !stops => {
                stops = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(farewell.unwrap_or_else(look)) => {
                let now = Instant::now();
                if activity.ends(head_timeout) > now {
                    farewell = None;
                } else if farewell.is_some() {
                    return Err(Ended::Stalls);
                } else {
                    farewell = Some(now + FAREWELL);
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn bounded() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST_SIZE)
        .max_local_error_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .max_send_buf_size(BUFFER_SIZE);
    builder
}
