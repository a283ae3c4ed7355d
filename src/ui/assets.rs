//! Stylesheet, script and icon: compiled in, and served under addresses that change with their content, so that a browser may
//! keep them for ever and never has an old one.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::page;

/// The files: name, type, content.
const FILES: [(&str, &str, &str); 3] = [
    ("style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("script.js", "text/javascript; charset=utf-8", include_str!("script.js")),
    ("icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

/// Where the files are.
pub(super) struct Assets {
    addresses: BTreeMap<&'static str, String>,
}

impl Assets {
    /// Computes the addresses.
    pub fn new() -> Self {
        let address = |(name, _, content): &(&'static str, &str, &str)| {
            let digest = Sha256::digest(content.as_bytes());
            let key = name.split('.').next().unwrap_or(name);
            (key, format!("/static/{name}?v={}", hex::encode(&digest[..6])))
        };
        Self { addresses: FILES.iter().map(address).collect() }
    }

    /// `style`, `script` and `icon`, each with its address.
    pub fn addresses(&self) -> &BTreeMap<&'static str, String> {
        &self.addresses
    }
}

/// One of the files.
pub(super) async fn serve(Path(file): Path<String>) -> Response {
    let Some((_, kind, content)) = FILES.iter().find(|(name, ..)| *name == file) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = (*content).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    page::protect(headers);
    response
}
