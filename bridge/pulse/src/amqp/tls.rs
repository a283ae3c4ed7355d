//! TLS to the broker: whom we trust.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A connector that trusts the CAs in `ca_file` (PEM), or else those of the system. It brings its own cryptography, so
/// that nothing depends on what the process installed.
pub(super) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let show = path.display();
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| format!("{show}: {e}"))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| format!("{show}: {e}"))?;
                roots.add(certificate).map_err(|e| format!("{show}: {e}"))?;
            }
            if roots.is_empty() {
                return Err(format!("{show} holds no certificate"));
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            if roots.is_empty() {
                let why: Vec<String> = system.errors.iter().map(ToString::to_string).collect();
                return Err(format!("the system has no CA certificates; set ca_file ({})", why.join("; ")));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
