//! `listener.tls`: both files are there, belong together and are valid today.

use std::path::Path;

use rustls::pki_types::UnixTime;

use crate::config::certificate::{Certificate, CertificateFault};
use crate::config::problem::KeyPath;
use crate::config::raw::RawListenerTls;
use crate::config::resolve::Report;
use crate::config::resolved::ListenerTls;

/// The files of a certificate that could be shown now; `None` after a problem.
pub(super) fn resolve(
    raw: &RawListenerTls,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Option<ListenerTls> {
    let (cert, key) = (path.key("cert-file"), path.key("key-file"));
    if raw.cert_file.is_none() || raw.key_file.is_none() {
        report
            .add(path, "it wants both: { cert-file = \"server.pem\", key-file = \"server.key\" }");
    }
    let absolute = |at: &KeyPath, file: &Path| report.absolute(at, file);
    let files = ListenerTls {
        cert_file: absolute(&cert, raw.cert_file.as_deref()?),
        key_file: absolute(&key, raw.key_file.as_deref()?),
    };
    match Certificate::load(&files, UnixTime::now()) {
        Ok(_) => Some(files),
        Err(fault) => {
            let at = match fault {
                CertificateFault::Certificate(_) => cert,
                CertificateFault::Key(_) => key,
            };
            report.add(&at, fault.to_string());
            None
        }
    }
}
