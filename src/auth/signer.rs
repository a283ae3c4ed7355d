//! Signs calls to Taskcluster services: Hawk, with `authorizedScopes` and certificate in `ext`.
//!
//! The MAC covers method, the raw target with its query, host and port. Payload hashes are optional in Hawk
//! and left out: TLS protects the body, and hashing it would cost more than all the rest of the signature.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawk::{Credentials, Key, RequestBuilder, SHA256};
use http::HeaderValue;
use serde::Serialize;
use serde_json::Value;

/// Holds a client's credentials, and signs with them.
pub struct Signer {
    credentials: Credentials,
    certificate: Option<Value>,
    host: String,
    port: u16,
    nonces: Nonces,
}

/// No two alike: what this signer drew once, and a number that grows. The service knows a nonce with its client and second only.
struct Nonces {
    drawn: String,
    next: AtomicU64,
}

impl Nonces {
    fn next(&self) -> String {
        format!("{}{:x}", self.drawn, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Hawk's `ext`, as Taskcluster's auth service reads it: base64 of this JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ext<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorized_scopes: Option<&'a [String]>,
}

/// Room for a usual header, which is written in small pieces.
const HEADER_BYTES: usize = 384;

/// Why credentials cannot be used. Never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The access token is empty.
    #[error("the access token of client {0} is empty")]
    NoToken(String),
    /// The client id has a character that a Hawk header cannot carry.
    #[error("the client id {0:?} is not usable: it must be printable ASCII without a double quote")]
    ClientId(String),
    /// The certificate is not a JSON object.
    #[error("the certificate of client {0} is not a JSON object")]
    Certificate(String),
    /// The cryptographic library refused the key.
    #[error("the access token of client {0} cannot be used as a key")]
    Key(String),
}

impl Signer {
    /// Signs for the service at `host` and `port`. `certificate` is the JSON text of temporary credentials.
    pub fn new(
        client_id: &str,
        access_token: &str,
        certificate: Option<&str>,
        host: &str,
        port: u16,
    ) -> Result<Self, CredentialsError> {
        if client_id.is_empty() || !client_id.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"') {
            return Err(CredentialsError::ClientId(client_id.to_owned()));
        }
        if access_token.is_empty() {
            return Err(CredentialsError::NoToken(client_id.to_owned()));
        }
        let certificate = match certificate.map(serde_json::from_str::<Value>) {
            None => None,
            Some(Ok(value @ Value::Object(_))) => Some(value),
            Some(_) => return Err(CredentialsError::Certificate(client_id.to_owned())),
        };
        let key = Key::new(access_token, SHA256).map_err(|_| CredentialsError::Key(client_id.to_owned()))?;
        Ok(Self {
            credentials: Credentials { id: client_id.to_owned(), key },
            certificate,
            host: host.to_ascii_lowercase(),
            port,
            nonces: Nonces { drawn: uuid::Uuid::new_v4().simple().to_string(), next: AtomicU64::new(0) },
        })
    }

    /// The `Authorization` header of one call; `target` is the path with its query, exactly as it is sent.
    /// `authorized_scopes` restrict the call; `None` leaves it all that the client may do.
    pub fn sign(
        &self,
        method: &str,
        target: &str,
        authorized_scopes: Option<&[String]>,
    ) -> Result<HeaderValue, hawk::Error> {
        let ext = self.ext(authorized_scopes);
        let mut request = RequestBuilder::new(method, &self.host, self.port, target);
        if let Some(ext) = &ext {
            request = request.ext(ext.as_str());
        }
        let (now, nonce) = (SystemTime::now(), self.nonces.next());
        let header = request.request().make_header_full(&self.credentials, now, nonce)?;
        let mut text = String::with_capacity(HEADER_BYTES);
        write!(text, "Hawk {header}").map_err(|error| hawk::Error::HeaderParseError(error.to_string()))?;
        let mut value =
            HeaderValue::try_from(text).map_err(|error| hawk::Error::HeaderParseError(error.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn ext(&self, authorized_scopes: Option<&[String]>) -> Option<String> {
        let ext = Ext { certificate: self.certificate.as_ref(), authorized_scopes };
        match ext {
            Ext { certificate: None, authorized_scopes: None } => None,
            // Text and lists of text always become JSON.
            ext => Some(STANDARD.encode(serde_json::to_vec(&ext).unwrap_or_default())),
        }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("client_id", &self.credentials.id).finish_non_exhaustive()
    }
}
