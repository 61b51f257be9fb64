//! Certificates for the tests' own servers.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate authority that exists for one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    /// Its certificate, to be trusted.
    pub(crate) ca_pem: String,
}

/// A server's certificate and key.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a P-256 key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "immutag tests");
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        let (ca, ca_pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), ca, ca_pem }
    }

    /// A certificate for these names or addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |_| ())
    }

    /// The same, changed by `change` before it is signed (expired, say).
    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names are valid");
        params.distinguished_name.push(DnType::CommonName, "immutag test server");
        change(&mut params);
        let key = KeyPair::generate().expect("a P-256 key");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// A client's configuration that trusts this authority alone.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.client_of(rustls::ALL_VERSIONS))
    }

    /// The same with these versions of TLS.
    pub(crate) fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).expect("our own certificate");
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

impl Identity {
    /// A server's configuration that shows this certificate.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![chain.expect("our own PEM")], key.expect("our own PEM"));
        Arc::new(config.expect("key and certificate belong together"))
    }
}
