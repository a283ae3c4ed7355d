//! A CA, a server certificate for `localhost`, and the listener that uses it.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Writes the certificates into the node's folder and returns the lines for its configuration.
pub(super) fn configure(folder: &Path, port: u16) -> anyhow::Result<String> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".into()])?;
    let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key))?;
    for (name, text) in [
        ("ca.pem", ca_certificate.pem()),
        ("server.pem", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text)?;
    }
    let folder = folder.display();
    Ok(format!(
        "listeners.ssl.default = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {folder}/ca.pem\n\
         ssl_options.certfile = {folder}/server.pem\n\
         ssl_options.keyfile = {folder}/server.key\n\
         ssl_options.verify = verify_none\n\
         ssl_options.fail_if_no_peer_cert = false\n"
    ))
}
