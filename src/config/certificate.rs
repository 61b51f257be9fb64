//! A listener's certificate and its key: read and checked, so that one can be shown or refused in
//! words before a client meets it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, client};
use thiserror::Error;

use super::resolved::ListenerTls;
use super::secret_file::{read_secret_file, read_text_file};

/// After the last moment that a certificate can name: the year 10000 begins.
const AFTER_ALL: UnixTime = UnixTime::since_unix_epoch(Duration::from_hours(70_389_528));

/// A certificate that may be shown now, with its key.
#[derive(Debug)]
pub struct Certificate {
    /// What the TLS server shows and signs with.
    pub pair: Arc<CertifiedKey>,
    /// When the certificate expires, in seconds since 1970.
    pub expires_s: u64,
}

/// Why a certificate cannot be used, for a person: it names the file, and quotes no secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateFault {
    /// The certificate's file is at fault.
    #[error("{0}")]
    Certificate(String),
    /// The key's file is at fault.
    #[error("{0}")]
    Key(String),
}

impl Certificate {
    /// Reads both files and checks that they belong together and are valid `now`.
    pub fn load(files: &ListenerTls, now: UnixTime) -> Result<Self, CertificateFault> {
        let chain = read_chain(&files.cert_file).map_err(CertificateFault::Certificate)?;
        let expires_s = validity(&chain[0], now)
            .map_err(|what| format!("{}: {what}", files.cert_file.display()))
            .map_err(CertificateFault::Certificate)?;
        let key = read_key(&files.key_file).map_err(CertificateFault::Key)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pair = join(chain, key, &provider)
            .map_err(|what| format!("{}: {what}", files.key_file.display()))
            .map_err(CertificateFault::Key)?;
        Ok(Self { pair: Arc::new(pair), expires_s })
    }
}

/// The certificates of a file, of which there must be one.
fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_text_file(file)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let chain = read.map_err(|_| format!("{} is no valid PEM", file.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate (PEM)", file.display()));
    }
    Ok(chain)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read_secret_file(file)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
        if text.contains("ENCRYPTED") {
            return format!(
                "{} is encrypted, and nobody is here to be asked for its password: give it \
                 decrypted, with mode 0600",
                file.display()
            );
        }
        format!("{} holds no private key (PEM)", file.display())
    })
}

fn join(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, &'static str> {
    use rustls::Error;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => "the key does not belong to the certificate",
        _ => "the key cannot be used: give an RSA, ECDSA or Ed25519 key",
    })
}

/// When a certificate expires, in seconds since 1970; it must be valid `now`.
///
/// A server has no authorities to check its own certificate by. But rustls looks at the time
/// before it looks for an issuer, and its error tells the certificate's own.
fn validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<u64, String> {
    let spoilt = || "its first certificate is no valid X.509 certificate".to_owned();
    let parsed = ParsedCertificate::try_from(certificate).map_err(|_| spoilt())?;
    match fault_at(&parsed, now) {
        Some(CertificateError::NotValidYetContext { not_before, .. }) => {
            return Err(format!("the certificate is valid from {} on only", time(not_before)));
        }
        Some(CertificateError::ExpiredContext { not_after, .. }) => {
            return Err(format!("the certificate expired at {}", time(not_after)));
        }
        _ => {}
    }
    match fault_at(&parsed, AFTER_ALL) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => Ok(not_after.as_secs()),
        _ => Err(spoilt()),
    }
}

/// What is found wrong with a certificate at a time.
fn fault_at(certificate: &ParsedCertificate<'_>, time: UnixTime) -> Option<CertificateError> {
    let (roots, algorithms) = (RootCertStore::empty(), &[]);
    let checked = client::verify_server_cert_signed_by_trust_anchor(
        certificate,
        &roots,
        &[],
        time,
        algorithms,
    );
    match checked {
        Err(rustls::Error::InvalidCertificate(fault)) => Some(fault),
        _ => None,
    }
}

/// The time, as people read it.
fn time(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("{seconds} s after 1970"), |time| time.to_string())
}

#[cfg(test)]
pub(super) mod tests;
