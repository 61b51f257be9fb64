//! Connections to upstreams: through the address guard or an outbound proxy, with TLS.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::error::TlsFault;
use super::guard::Guard;
use super::proxy::Proxy;
use super::tls::{Trust, explain};

/// Of a name's addresses, so many are tried.
const MAX_ADDRESSES: usize = 16;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ConnectFault {
    #[error("all addresses are forbidden")]
    AddressNotAllowed,
    #[error("the proxy does not connect us")]
    Proxied,
    #[error("TLS: {0}")]
    Tls(TlsFault),
    #[error("connecting took too long")]
    Timeout,
    #[error("cannot be reached")]
    Unreachable,
}

type BoxError = Box<dyn StdError + Send + Sync>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How connections are made: for upstreams, and for whoever else is told something.
#[derive(Clone)]
pub(crate) struct Way {
    /// Which addresses are allowed.
    pub(crate) guard: Guard,
    /// The outbound proxy.
    pub(crate) proxy: Arc<Proxy>,
    /// Whose certificates are trusted.
    pub(crate) trust: Arc<Trust>,
    /// Time for all of it.
    pub(crate) timeout: Duration,
}

/// Connects to where a request goes.
#[derive(Clone)]
pub(crate) struct Connector {
    direct: HttpConnector<GuardedResolver>,
    to_proxy: ToProxy,
    guard: Guard,
    proxy: Arc<Proxy>,
    trust: Arc<Trust>,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(way: Way) -> Self {
        let Way { guard, proxy, trust, timeout } = way;
        let mut direct = HttpConnector::new_with_resolver(GuardedResolver { guard });
        let mut plain = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_nodelay(true);
        direct.set_connect_timeout(Some(timeout));
        plain.enforce_http(false);
        plain.set_nodelay(true);
        plain.set_connect_timeout(Some(timeout));
        Self {
            direct,
            to_proxy: ToProxy { plain, trust: trust.clone() },
            guard,
            proxy,
            trust,
            timeout,
        }
    }

    async fn connect(mut self, target: Uri) -> Result<Stream, ConnectFault> {
        let host = target.host().unwrap_or_default();
        if !self.guard.allows_host(host) {
            return Err(ConnectFault::AddressNotAllowed);
        }
        let is_https = target.scheme_str() == Some("https");
        let (io, is_proxied) = match self.proxy.for_uri(&target) {
            Some(proxy) if is_https => (self.tunnel(&proxy, &target).await?, false),
            Some(proxy) => (self.to_proxy.connect(proxy.uri().clone()).await?, true),
            None => {
                let tcp = self.direct.call(target.clone()).await.map_err(|e| fault_of(&e))?;
                (boxed(tcp.into_inner()), false)
            }
        };
        let io = if is_https { encrypt(&self.trust, host, io).await? } else { io };
        Ok(Stream { io: TokioIo::new(io), is_proxied })
    }

    async fn tunnel(&self, proxy: &Intercept, target: &Uri) -> Result<BoxedIo, ConnectFault> {
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let io = tunnel.call(target.clone()).await.map_err(|_| ConnectFault::Proxied)?;
        Ok(io.into_inner())
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectFault;
    type Future = Boxed<Result<Stream, ConnectFault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (this, timeout) = (self.clone(), self.timeout);
        Box::pin(async move {
            let connecting = tokio::time::timeout(timeout, this.connect(target));
            connecting.await.unwrap_or(Err(ConnectFault::Timeout))
        })
    }
}

/// Connects to the outbound proxy, with TLS if its URL says https.
#[derive(Clone)]
struct ToProxy {
    plain: HttpConnector,
    trust: Arc<Trust>,
}

impl ToProxy {
    async fn connect(mut self, proxy: Uri) -> Result<BoxedIo, ConnectFault> {
        let tcp = self.plain.call(proxy.clone()).await.map_err(|_| ConnectFault::Proxied)?;
        let io = boxed(tcp.into_inner());
        if proxy.scheme_str() == Some("https") {
            encrypt(&self.trust, proxy.host().unwrap_or_default(), io).await
        } else {
            Ok(io)
        }
    }
}

impl Service<Uri> for ToProxy {
    type Response = TokioIo<BoxedIo>;
    type Error = ConnectFault;
    type Future = Boxed<Result<TokioIo<BoxedIo>, ConnectFault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, proxy: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.connect(proxy).await.map(TokioIo::new) })
    }
}

async fn encrypt(trust: &Trust, host: &str, io: BoxedIo) -> Result<BoxedIo, ConnectFault> {
    let config = trust.config().map_err(ConnectFault::Tls)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|_| ConnectFault::Tls(TlsFault::WrongName))?;
    let tls = TlsConnector::from(config).connect(name, io).await;
    Ok(Box::new(tls.map_err(|error| {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        ConnectFault::Tls(cause.map_or(TlsFault::Handshake, explain))
    })?))
}

fn fault_of(error: &(dyn StdError + 'static)) -> ConnectFault {
    find_fault(error).unwrap_or(ConnectFault::Unreachable)
}

/// The fault among the causes of an error, if one is there.
pub(crate) fn find_fault(error: &(dyn StdError + 'static)) -> Option<ConnectFault> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref::<ConnectFault>() {
            return Some(*fault);
        }
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::TimedOut
        {
            return Some(ConnectFault::Timeout);
        }
        cause = error.source();
    }
    None
}

/// Resolves names with the system's resolver and drops the addresses that the guard forbids.
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    guard: Guard,
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Boxed<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.guard;
        Box::pin(async move {
            let found = GaiResolver::new().call(name).await?;
            let allowed = found.filter(|address| guard.allows(address.ip()));
            let allowed: Vec<_> = allowed.take(MAX_ADDRESSES).collect();
            if allowed.is_empty() {
                return Err(ConnectFault::AddressNotAllowed.into());
            }
            Ok(allowed.into_iter())
        })
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type BoxedIo = Box<dyn Io>;

fn boxed(tcp: TcpStream) -> BoxedIo {
    Box::new(tcp)
}

/// A connection, encrypted or not.
pub(crate) struct Stream {
    io: TokioIo<BoxedIo>,
    is_proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(allow_private: bool) -> Result<Vec<SocketAddr>, ConnectFault> {
        let mut resolver = GuardedResolver { guard: Guard { allow_private } };
        let found = resolver.call("localhost".parse().unwrap()).await;
        found.map(Iterator::collect).map_err(|error| *error.downcast().unwrap())
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_forbidden_addresses_only_has_none() {
        assert_eq!(resolve(false).await, Err(ConnectFault::AddressNotAllowed));
        assert!(resolve(true).await.unwrap().iter().all(|found| found.ip().is_loopback()));
    }
}
