//! What a listener shows of itself: its certificate, the versions of HTTP, and how a new
//! certificate takes the old one's place without a broken connection.

mod files;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{IntCounter, IntGauge};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::UnixTime;
use rustls::sign::SingleCertAndKey;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use self::files::Fingerprint;
use crate::config::certificate::{Certificate, CertificateFault};
use crate::config::{ListenerConfig, ListenerKind, ListenerTls};
use crate::metrics::Metrics;

/// HTTP/2, as a TLS handshake names it.
pub const H2: &[u8] = b"h2";

/// HTTP/1.1, as a TLS handshake names it.
const HTTP_1_1: &[u8] = b"http/1.1";

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The TLS side of a listener.
///
/// What it shows is always whole: a certificate with its own key, valid when it was read. New
/// files that are no such pair (one of the two is still to be replaced, for one) change nothing,
/// are told once and are tried again.
pub struct ServerTls {
    kind: ListenerKind,
    address: SocketAddr,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
    expiry: IntGauge,
    failures: IntCounter,
}

/// The files as they were when they were last read.
struct Seen {
    files: ListenerTls,
    fingerprint: Fingerprint,
    fault: Option<CertificateFault>,
}

impl ServerTls {
    /// Reads the certificate of a listener; `None` for one that speaks plain HTTP.
    pub fn open(
        config: &ListenerConfig,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Self>>, CertificateFault> {
        let Some(files) = &config.tls else { return Ok(None) };
        let fingerprint = Fingerprint::of(files);
        let certificate = Certificate::load(files, UnixTime::now())?;
        let labels = [&config.address.to_string(), config.kind.name()];
        let tls = Self {
            kind: config.kind,
            address: config.address,
            current: ArcSwap::from(server(config.kind, &certificate)?),
            seen: Mutex::new(Seen { files: files.clone(), fingerprint, fault: None }),
            expiry: metrics.listeners.certificate_expiry.with_label_values(&labels),
            failures: metrics.listeners.certificate_failures.clone(),
        };
        tls.expiry.set(seconds(&certificate));
        Ok(Some(Arc::new(tls)))
    }

    /// Whether it is this listener's.
    pub fn is_of(&self, config: &ListenerConfig) -> bool {
        self.kind == config.kind && self.address == config.address
    }

    /// What the next handshake is made with.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Takes new certificates from the files as they come, until `stop` turns true.
    pub async fn watch(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let stopped = stop.wait_for(|stop| *stop);
            if tokio::time::timeout(LOOK, stopped).await.is_ok() {
                return;
            }
            let tls = Arc::clone(&self);
            // A panic there would be told by its hook, and the next look is another try.
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    /// Reads the certificate again, from now on from `files`, if there are any.
    pub fn reload(&self, files: Option<&ListenerTls>) {
        let mut seen = self.seen();
        if let Some(files) = files {
            files.clone_into(&mut seen.files);
        }
        // A person asks, and gets an answer.
        seen.fault = None;
        self.read(&mut seen);
    }

    /// Reads the files again if they have changed, or if they were no use the last time.
    fn look(&self) {
        let mut seen = self.seen();
        if seen.fault.is_some() || Fingerprint::of(&seen.files) != seen.fingerprint {
            self.read(&mut seen);
        }
    }

    fn read(&self, seen: &mut Seen) {
        // Before the files are read: what changes meanwhile is seen at the next look.
        seen.fingerprint = Fingerprint::of(&seen.files);
        let read = Certificate::load(&seen.files, UnixTime::now())
            .and_then(|certificate| Ok((server(self.kind, &certificate)?, certificate)));
        let (listener, address) = (self.kind.name(), self.address);
        match read {
            Ok((server, certificate)) => {
                self.current.store(server);
                self.expiry.set(seconds(&certificate));
                seen.fault = None;
                tracing::info!(listener, %address, expires_s = certificate.expires_s,
                    "the certificate was read again");
            }
            Err(fault) if seen.fault.as_ref() == Some(&fault) => {}
            Err(fault) => {
                self.failures.inc();
                tracing::error!(listener, %address, error = %fault,
                    "the certificate stays as it was: the files cannot be used");
                seen.fault = Some(fault);
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Half a change is a fault or a fingerprint of before, and leads to another look.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TLS 1.2 and 1.3, with tickets of its own: a session does not outlive the certificate.
fn server(
    kind: ListenerKind,
    certificate: &Certificate,
) -> Result<Arc<ServerConfig>, CertificateFault> {
    let unusable = |error: rustls::Error| CertificateFault::Key(error.to_string());
    let pair = Arc::clone(&certificate.pair);
    let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    server.ticketer = Ticketer::new().map_err(unusable)?;
    server.alpn_protocols = versions(kind).iter().map(|version| version.to_vec()).collect();
    Ok(Arc::new(server))
}

/// The versions of HTTP that a listener offers, the best first.
const fn versions(kind: ListenerKind) -> &'static [&'static [u8]] {
    match kind {
        ListenerKind::Direct => &[H2, HTTP_1_1],
        // A reason phrase must reach the client, and HTTP/2 has none.
        ListenerKind::Mirror => &[HTTP_1_1],
    }
}

fn seconds(certificate: &Certificate) -> i64 {
    i64::try_from(certificate.expires_s).unwrap_or(i64::MAX)
}
