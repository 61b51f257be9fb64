//! One question to a listener or a daemon, over HTTP/1.1: with TLS, without, or by a socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::address::Address;
use crate::cli::clients::Endpoint;

/// How long one question may take. It is this host or the next.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of an answer, in bytes.
const LIMIT: usize = 1 << 20;

/// An answer, whole.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is none.
pub(super) enum Failure {
    /// Nobody answered.
    Silent(String),
    /// Somebody's certificate is not trusted by the system.
    Untrusted(String),
}

/// Asks for a target, on a connection of its own.
pub(super) async fn get(endpoint: &Endpoint, target: &str) -> Result<Answer, Failure> {
    let asked = tokio::time::timeout(PATIENCE, connect_and_get(endpoint, target));
    asked.await.unwrap_or_else(|_| Err(Failure::Silent("no answer in time".to_owned())))
}

/// Asks a daemon at a Unix socket.
pub(super) async fn get_local(socket: &str, target: &str) -> Option<Answer> {
    let asked = async {
        let stream = UnixStream::connect(socket).await.ok()?;
        exchange(stream, "localhost", target).await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}

async fn connect_and_get(endpoint: &Endpoint, target: &str) -> Result<Answer, Failure> {
    let silent = |why: String| Failure::Silent(why);
    let address = Address::parse(&endpoint.to_string())
        .ok_or_else(|| silent("this is no address".to_owned()))?;
    let host = address.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = address.port.unwrap_or(if endpoint.is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|error| silent(error.to_string()))?;
    if !endpoint.is_tls {
        return exchange(stream, &endpoint.authority, target).await.map_err(silent);
    }
    let name = ServerName::try_from(host).map_err(|error| silent(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(trust().map_err(silent)?));
    match connector.connect(name, stream).await {
        Ok(stream) => exchange(stream, &endpoint.authority, target).await.map_err(silent),
        Err(error) => Err(untrusted(&error)),
    }
}

/// A certificate that is not trusted is told from a peer that speaks no TLS.
fn untrusted(error: &std::io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Failure::Untrusted(error.to_string()),
        _ => Failure::Silent(format!("no TLS: {error}")),
    }
}

/// The system's authorities.
fn trust() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&provider))
        .map_err(|error| error.to_string())?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

async fn exchange<S>(stream: S, host: &str, target: &str) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |error: hyper::Error| error.to_string();
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .uri(target)
        .header(header::HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = requests.send_request(request).await.map_err(words)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LIMIT).collect().await.map_err(|error| error.to_string())?;
    // The answer is whole: how the connection ends says nothing more.
    connection.abort();
    Ok(Answer { headers: head.headers, body: body.to_bytes() })
}
