//! Shared secrets that are sent along: where they may stand in a request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::AUTHORIZATION;

use super::Proof;
use crate::place::{header_text, query_value};
use crate::provider::{TokenPlace, TokenScheme};

/// What the request shows at the scheme's place; of `user:password` both the whole and the password, since a secret
/// may be either.
pub fn presented(scheme: &TokenScheme, proof: &Proof<'_>) -> Vec<String> {
    let found = match scheme.place {
        TokenPlace::Bearer => authorization(proof, "bearer"),
        TokenPlace::Basic => {
            let decoded = authorization(proof, "basic")
                .and_then(|text| STANDARD.decode(text).ok())
                .and_then(|bytes| String::from_utf8(bytes).ok());
            return match decoded {
                Some(pair) => {
                    let password = pair.split_once(':').map(|(_, password)| password.to_owned());
                    password.into_iter().chain([pair]).filter(|text| !text.is_empty()).collect()
                }
                None => Vec::new(),
            };
        }
        TokenPlace::Header => scheme
            .name
            .parse::<HeaderName>()
            .ok()
            .and_then(|name| header_text(proof.headers, &name).map(str::to_owned)),
        TokenPlace::Query => query_value(proof.query, &scheme.name),
        TokenPlace::Path => proof.path_token.map(str::to_owned),
    };
    found.into_iter().filter(|text| !text.is_empty()).collect()
}

/// Where the secret is expected, for people.
pub fn describe(scheme: &TokenScheme) -> String {
    match scheme.place {
        TokenPlace::Bearer => "bearer token (Authorization: Bearer)".to_owned(),
        TokenPlace::Basic => "password (Authorization: Basic)".to_owned(),
        TokenPlace::Header => format!("token in the {} header", scheme.name),
        TokenPlace::Query => format!("token in the query parameter {}", scheme.name),
        TokenPlace::Path => "token at the end of the path".to_owned(),
    }
}

fn authorization(proof: &Proof<'_>, scheme: &str) -> Option<String> {
    let (name, rest) = header_text(proof.headers, &AUTHORIZATION)?.split_once(' ')?;
    name.eq_ignore_ascii_case(scheme).then(|| rest.trim().to_owned())
}
