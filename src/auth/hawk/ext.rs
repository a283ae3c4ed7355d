//! What Taskcluster puts into Hawk's `ext`: base64 of a JSON object with `certificate` and `authorizedScopes`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::HawkError;

/// Padded or not, as JavaScript's `Buffer` takes it; that takes the URL-safe characters, too, which the Python client sends.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The content of `ext`. Other members are ignored, as Taskcluster does.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ext {
    /// Temporary credentials: who gave them, for what and until when.
    pub certificate: Option<Certificate>,
    /// The request may do no more than these, which the client must itself satisfy.
    pub authorized_scopes: Option<Vec<String>>,
}

/// The certificate of temporary credentials, signed with the issuer's access token.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Certificate {
    /// 1.
    pub version: u64,
    /// What the credentials may do at most.
    pub scopes: Vec<String>,
    /// Valid from, in milliseconds since the epoch.
    pub start: i64,
    /// Valid until, in milliseconds since the epoch.
    pub expiry: i64,
    /// 44 characters from which the temporary access token is derived.
    pub seed: String,
    /// HMAC-SHA256 of the above, in base64.
    pub signature: String,
    /// The client that issued named credentials; for unnamed ones it is the client id itself.
    pub issuer: Option<String>,
}

impl Ext {
    /// Reads the attribute; an absent or empty one says nothing.
    pub(super) fn read(ext: Option<&str>) -> Result<Self, HawkError> {
        let Some(ext) = ext.filter(|ext| !ext.is_empty()) else { return Ok(Self::default()) };
        let standard = ext.replace('-', "+").replace('_', "/");
        let bytes = LENIENT.decode(standard).map_err(|_| HawkError::Malformed("ext is not base64".into()))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            // Only the place: serde's text would repeat parts of the content.
            HawkError::Malformed(
                format!("ext is not JSON as Taskcluster has it (at column {})", error.column()).into(),
            )
        })
    }
}
