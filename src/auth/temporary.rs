//! Temporary credentials: a client hands out some of its scopes for a while, without asking anybody.
//!
//! The issuer signs a certificate with its access token, and the token of the new credentials is derived from
//! the certificate's seed, so that whoever knows the issuer's token can verify both. The rules are those of
//! Taskcluster's auth service.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Duration, Utc};
use hawk::{Key, SHA256};
use subtle::ConstantTimeEq as _;

use super::AuthError;
use super::hawk::Certificate;
use super::scope::{ScopeSet, valid};

/// How far a certificate's start and expiry may be off the clock.
const DRIFT: Duration = Duration::minutes(5);

/// The longest life of temporary credentials.
const MAX_LIFE: Duration = Duration::days(31);

/// Length of a seed: two slugids.
const SEED: usize = 44;

/// What a good certificate amounts to.
pub(super) struct Temporary {
    /// The key of the temporary access token.
    pub key: Key,
    /// When the credentials end.
    pub expires: DateTime<Utc>,
}

/// Checks a certificate with its issuer's key and scopes. The certificate's scopes are then what it grants.
pub(super) fn check(
    certificate: &Certificate,
    client_id: &str,
    issuer: &Key,
    issuer_scopes: &ScopeSet,
    now: DateTime<Utc>,
) -> Result<Temporary, AuthError> {
    let failed =
        |reason: &str| Err(AuthError::Failed(format!("the temporary credentials are not good: {reason}")));
    // The signature first: who cannot sign learns nothing of the issuer's scopes.
    let signature = issuer.sign(signed_text(certificate, client_id).as_bytes()).map_err(|_| internal())?;
    let presented = STANDARD.decode(&certificate.signature).unwrap_or_default();
    if !bool::from(signature.ct_eq(&presented)) {
        return failed("the certificate's signature does not match, or the client id is another");
    }
    if certificate.version != 1 {
        return failed("the certificate's version is not 1");
    }
    if certificate.seed.len() != SEED {
        return failed("the certificate's seed has not 44 characters");
    }
    let moment = |milliseconds| DateTime::<Utc>::from_timestamp_millis(milliseconds);
    let (Some(start), Some(expires)) = (moment(certificate.start), moment(certificate.expiry)) else {
        return failed("the certificate's start or expiry is no date");
    };
    if start > now + DRIFT {
        return failed("they are not yet valid");
    }
    if expires < now - DRIFT {
        return failed(&format!("they expired at {expires}"));
    }
    if expires - start > MAX_LIFE {
        return failed("they last longer than 31 days");
    }
    if let Some(issuer_id) = &certificate.issuer {
        if issuer_id == client_id {
            return failed("the certificate's issuer must not be the client itself");
        }
        let needed = format!("auth:create-client:{client_id}");
        if !issuer_scopes.satisfies(&needed) {
            return failed(&format!("their issuer {issuer_id} does not have {needed}"));
        }
    }
    if let Some(bad) = certificate.scopes.iter().find(|scope| !valid(scope)) {
        return failed(&format!("{bad:?} is not a scope"));
    }
    if let Some(missing) = certificate.scopes.iter().find(|scope| !issuer_scopes.satisfies(scope)) {
        return failed(&format!("their issuer does not have {missing}"));
    }
    let token = issuer.sign(certificate.seed.as_bytes()).map_err(|_| internal())?;
    let key = Key::new(URL_SAFE_NO_PAD.encode(token), SHA256).map_err(|_| internal())?;
    Ok(Temporary { key, expires })
}

fn signed_text(certificate: &Certificate, client_id: &str) -> String {
    let mut lines = vec![format!("version:{}", certificate.version)];
    if let Some(issuer) = &certificate.issuer {
        lines.push(format!("clientId:{client_id}"));
        lines.push(format!("issuer:{issuer}"));
    }
    lines.push(format!("seed:{}", certificate.seed));
    lines.push(format!("start:{}", certificate.start));
    lines.push(format!("expiry:{}", certificate.expiry));
    lines.push("scopes:".to_owned());
    lines.extend(certificate.scopes.iter().cloned());
    lines.join("\n")
}

fn internal() -> AuthError {
    AuthError::Failed("the signature cannot be computed".to_owned())
}
