//! S-06, S-07: certificates, on the registry and on its token realm alike.

use std::io::Write as _;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::server::{Reply, Server, header};
use super::*;

/// A certificate authority of a test.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        Self::named("authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A `ca-file` with this authority.
    pub(super) fn file(&self) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(self.issuer.pem().as_bytes()).unwrap();
        file
    }

    /// A server's side with a certificate for `name`.
    pub(super) fn acceptor(&self, name: &str) -> TlsAcceptor {
        self.acceptor_with(&CertificateParams::new([name.to_owned()]).unwrap())
    }

    fn acceptor_with(&self, params: &CertificateParams) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = params.clone().signed_by(&key, &self.issuer).unwrap();
        accept(certificate.der().clone(), &key)
    }
}

fn accept(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn dated(from: i32, to: i32) -> CertificateParams {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

fn self_signed() -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    accept(params.self_signed(&key).unwrap().der().clone(), &key)
}

/// The bad servers, and what is wrong with each.
fn bad(authority: &Authority) -> Vec<(TlsAcceptor, TlsFault)> {
    vec![
        (authority.acceptor_with(&dated(2001, 2002)), TlsFault::Expired),
        (authority.acceptor_with(&dated(2101, 2102)), TlsFault::NotYetValid),
        (authority.acceptor("other.example"), TlsFault::WrongName),
        (Authority::named("stranger").acceptor("127.0.0.1"), TlsFault::UnknownIssuer),
        (self_signed(), TlsFault::UnknownIssuer),
    ]
}

fn trusting(authority: &NamedTempFile, url: &str) -> UpstreamConfig {
    UpstreamConfig { plain_http: false, ca_file: Some(authority.path().to_owned()), ..config(url) }
}

#[tokio::test]
async fn a_registry_with_a_certificate_from_the_ca_file_is_pulled_from() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.acceptor("127.0.0.1"), |_| Reply::ok("", "in")).await;
    let file = authority.file();
    let trusting = upstream(trusting(&file, &server.url()));
    assert_eq!(pull(&trusting, tag("x")).await.unwrap(), "in");
}

#[tokio::test]
async fn a_registry_with_a_bad_certificate_is_refused_and_told_apart() {
    let authority = Authority::new();
    let file = authority.file();
    for (acceptor, fault) in bad(&authority) {
        let server = Server::start_tls(acceptor, |_| Reply::ok("", "in")).await;
        let error = refusal(&upstream(trusting(&file, &server.url())), tag("x")).await;
        assert_eq!(error, UpstreamError::Tls(fault));
        assert_eq!(server.count(), 0);
    }
}

#[tokio::test]
async fn a_realm_is_checked_as_strictly_as_its_registry() {
    let authority = Authority::new();
    let file = authority.file();
    for (acceptor, fault) in bad(&authority) {
        let tokens = Server::start_tls(acceptor, |_| Reply::ok("", r#"{"token":"t"}"#)).await;
        let realm = format!("Bearer realm=\"{}/token\"", tokens.url());
        let server =
            Server::start_tls(authority.acceptor("127.0.0.1"), move |_| Reply::challenge(&realm))
                .await;
        let config = UpstreamConfig {
            auth_hosts: vec![format!("127.0.0.1:{}", tokens.port)],
            credentials: own("user", "hunter2"),
            ..trusting(&file, &server.url())
        };
        assert_eq!(refusal(&upstream(config), tag("x")).await, UpstreamError::Tls(fault));
        assert_eq!(tokens.count(), 0);
    }
}

#[tokio::test]
async fn https_never_becomes_http() {
    let authority = Authority::new();
    let file = authority.file();
    let plain = Server::start(|_| Reply::ok("", r#"{"token":"t"}"#)).await;
    let target = format!("{}/x", plain.url());
    let acceptor = authority.acceptor("127.0.0.1");
    let server = Server::start_tls(acceptor.clone(), move |_| Reply::redirect(&target)).await;
    for plain_http in [false, true] {
        let config = UpstreamConfig { plain_http, ..trusting(&file, &server.url()) };
        let error = refusal(&upstream(config), blob()).await;
        assert_eq!(error, UpstreamError::RedirectNotAllowed);
    }
    let realm = format!("Bearer realm=\"{}\"", plain.url());
    let server = Server::start_tls(acceptor, move |_| Reply::challenge(&realm)).await;
    let auth_hosts = vec![format!("127.0.0.1:{}", plain.port)];
    let config = UpstreamConfig { auth_hosts, ..trusting(&file, &server.url()) };
    assert_eq!(refusal(&upstream(config), blob()).await, UpstreamError::RealmNotAllowed);
    assert_eq!(plain.count(), 0);
}

#[tokio::test]
async fn an_https_upstream_that_speaks_only_http_gets_no_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut got = Vec::new();
        // Ends with the client's alert and close.
        let _ = io.read_to_end(&mut got).await;
        got
    });
    let error = refusal(&upstream(config(&url)), blob()).await;
    assert_eq!(error, UpstreamError::Tls(TlsFault::Handshake));
    let got = serving.await.unwrap();
    assert!(got.starts_with(&[22, 3]), "a TLS handshake: {got:?}");
    assert!(!got.windows(3).any(|bytes| bytes == b"GET"), "no fallback to http");
}

#[tokio::test]
async fn a_body_cut_by_tls_without_its_farewell_is_an_error() {
    let authority = Authority::new();
    let file = authority.file();
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123".to_vec();
    let server = Server::start_tls(authority.acceptor("127.0.0.1"), move |head| {
        assert_eq!(header(head, "accept-encoding"), Some("identity"));
        Reply::Reset(cut.clone())
    })
    .await;
    let error = refusal(&upstream(trusting(&file, &server.url())), blob()).await;
    assert_eq!(error, UpstreamError::unavailable(Unavailability::CutShort));
}
