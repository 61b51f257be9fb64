//! HTTP/2: its bounds, and its end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::activity::{Activity, Told};
use super::serve::{BUFFER_SIZE, Ended, Manner};
use super::stopped;
use crate::http::body::Body;

/// The largest header list of an HTTP/2 request, in bytes as RFC 9113, 6.5.2 counts them.
const HEADER_LIST_SIZE: u32 = 64 << 10;

/// What an HTTP/2 client may send of a body before it is read: nobody reads any.
const WINDOW: u32 = 64 << 10;

/// Streams of one HTTP/2 connection that may end by a reset of ours before the connection ends, as
/// do those that a client begins beyond `max-streams` before it has heard of that bound.
const RESETS_OURS: usize = 256;

/// Streams that a client may have reset before anybody looked at them.
const RESETS_THEIRS: usize = 32;

/// How often an HTTP/2 client must show that it lives, and how long it may take to.
const PING: Duration = Duration::from_secs(20);

/// How long an HTTP/2 client may take to leave when it is told to go.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connection may be idle once the process is to end.
const IDLE_AT_END: Duration = Duration::from_secs(10);

/// Serves one connection to its end.
///
/// hyper has no time limit for what an HTTP/2 client leaves out, its first bytes included.
pub(super) async fn http2<S, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: Manner,
    service: S,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Manner { head_timeout, max_streams, .. } = manner;
    let activity = Activity::new();
    let answer = service_fn(|request: Request<Incoming>| {
        let is_head = request.method() == Method::HEAD;
        let (in_use, answered) = (activity.begin(), service(request));
        async move {
            let response = answered.await;
            let response = if is_head { without_body(response) } else { response };
            Ok::<_, Infallible>(response.map(|body| body.while_in_use(in_use)))
        }
    });
    let stream = TokioIo::new(Told::new(stream, Arc::clone(&activity)));
    let mut connection = pin!(bounded(max_streams).serve_connection(stream, answer));
    let mut farewell: Option<Instant> = None;
    let (mut idle, mut stops) = (head_timeout, false);
    loop {
        // What is in use now may be idle long before an answer would count as stalled.
        let look = || activity.ends(idle).min(Instant::now() + idle);
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = stopped(&mut stop), if !stops => {
                (idle, stops) = (head_timeout.min(IDLE_AT_END), true);
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(farewell.unwrap_or_else(look)) => {
                let now = Instant::now();
                if activity.ends(idle) > now {
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

/// The head alone, with the length that the body had. For HTTP/1.1 hyper does that itself.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0) {
        let headers = response.headers_mut();
        headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    response.map(|_| Body::empty())
}

fn bounded(max_streams: u32) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(max_streams)
        .max_header_list_size(HEADER_LIST_SIZE)
        .max_local_error_reset_streams(RESETS_OURS)
        .max_pending_accept_reset_streams(RESETS_THEIRS)
        .max_send_buf_size(BUFFER_SIZE);
    builder
}
