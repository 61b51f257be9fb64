//! TLS towards upstreams: the system's authorities, and the user's where a `ca-file` names them.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::error::TlsFault;
use super::setup::SetupProblem;

/// Whose certificates are trusted.
///
/// The system's authorities are read at the first use, so that a start does not wait for them.
pub(crate) struct Trust {
    extra: Vec<CertificateDer<'static>>,
    config: OnceLock<Result<Arc<ClientConfig>, TlsFault>>,
}

impl Trust {
    /// The system's authorities.
    pub(crate) const fn system() -> Self {
        Self { extra: Vec::new(), config: OnceLock::new() }
    }

    /// The system's authorities and those in a PEM file.
    pub(crate) fn with_file(path: &Path) -> Result<Self, SetupProblem> {
        let pem = std::fs::read(path)
            .map_err(|source| SetupProblem::LosesCaFile { path: path.to_owned(), source })?;
        let spoilt = || SetupProblem::SpoilsCaFile(path.to_owned());
        let extra: Vec<_> =
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| spoilt())?;
        let mut store = RootCertStore::empty();
        for certificate in &extra {
            store.add(certificate.clone()).map_err(|_| spoilt())?;
        }
        if extra.is_empty() {
            return Err(spoilt());
        }
        Ok(Self { extra, config: OnceLock::new() })
    }

    /// The client's configuration, HTTP/1.1 only.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, TlsFault> {
        self.config.get_or_init(|| self.build()).clone()
    }

    fn build(&self) -> Result<Arc<ClientConfig>, TlsFault> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(self.extra.clone(), provider.clone())
            .map_err(|_| TlsFault::NoRoots)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsFault::Handshake)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What an error of a handshake means.
pub(crate) fn explain(error: &rustls::Error) -> TlsFault {
    use CertificateError as Fault;
    let rustls::Error::InvalidCertificate(fault) = error else { return TlsFault::Handshake };
    match fault {
        Fault::Expired | Fault::ExpiredContext { .. } => TlsFault::Expired,
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => TlsFault::NotYetValid,
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => TlsFault::WrongName,
        Fault::UnknownIssuer => TlsFault::UnknownIssuer,
        _ => TlsFault::Untrusted,
    }
}
