//! Reads the `Authorization` header and the bewit of Hawk, bounded and without trusting any of it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Claim, Ext, HawkError, Kind, SignedRequest, decode_mac};

/// Longest header that is looked at, in bytes: a certificate with its scopes fits many times.
const MAX_HEADER: usize = 16 * 1024;

/// Digits of a timestamp in seconds: enough for the next three thousand years, and far from any overflow.
const MAX_TIME_DIGITS: usize = 11;

/// Bewits travel in URLs: URL-safe, padded or not.
const BEWIT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn malformed(reason: impl Into<Cow<'static, str>>) -> HawkError {
    HawkError::Malformed(reason.into())
}

fn time(text: &str) -> Result<u64, HawkError> {
    if text.len() > MAX_TIME_DIGITS || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed("the time is not in seconds since 1970"));
    }
    text.parse().map_err(|_| malformed("the time is not in seconds since 1970"))
}

/// Reads `Hawk id="…", ts="…", …`.
pub(super) fn read(value: &str) -> Result<Claim<'_>, HawkError> {
    if value.len() > MAX_HEADER {
        return Err(malformed(format!("the Authorization header is longer than {MAX_HEADER} bytes")));
    }
    let value = value.trim();
    let rest = match value.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("hawk") => rest,
        _ => return Err(malformed("the Authorization header is not of scheme Hawk")),
    };
    let (mut id, mut ts, mut nonce, mut mac, mut hash, mut ext) = (None, None, None, None, None, None);
    for attribute in Attributes(rest) {
        let (name, text) = attribute?;
        let place = match name {
            "id" => &mut id,
            "ts" => &mut ts,
            "nonce" => &mut nonce,
            "mac" => &mut mac,
            "hash" => &mut hash,
            "ext" => &mut ext,
            "app" | "dlg" => return Err(malformed(format!("the attribute {name} is not supported"))),
            _ => return Err(malformed("an attribute that Hawk does not know")),
        };
        if place.replace(text).is_some() {
            return Err(malformed(format!("the attribute {name} occurs twice")));
        }
    }
    let required =
        |field: Option<&'static str>| malformed(format!("{} is missing", field.unwrap_or_default()));
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| required(Some("id")))?;
    let nonce = nonce.filter(|nonce| !nonce.is_empty()).ok_or_else(|| required(Some("nonce")))?;
    let ts = time(ts.ok_or_else(|| required(Some("ts")))?)?;
    let mac = decode_mac(mac.ok_or_else(|| required(Some("mac")))?)?;
    let hash = match hash.filter(|hash| !hash.is_empty()) {
        Some(hash) => Some(STANDARD.decode(hash).map_err(|_| malformed("hash is not base64"))?),
        None => None,
    };
    Ok(Claim {
        client_id: Cow::Borrowed(id),
        ext: Ext::read(ext)?,
        kind: Kind::Header { ts, nonce, mac, hash },
        raw_ext: ext.map(Cow::Borrowed),
    })
}

/// Reads the query parameter `bewit`, and takes it out of the target, which the MAC covers without it.
pub(super) fn read_bewit<'a>(request: &SignedRequest<'a>) -> Result<Option<Claim<'a>>, HawkError> {
    let Some((path, query)) = request.target.split_once('?') else { return Ok(None) };
    let mut bewits = query.split('&').filter_map(|pair| pair.strip_prefix("bewit="));
    let Some(bewit) = bewits.next() else { return Ok(None) };
    if bewits.next().is_some() {
        return Err(malformed("more than one bewit"));
    }
    if bewit.len() > MAX_HEADER {
        return Err(malformed(format!("the bewit is longer than {MAX_HEADER} bytes")));
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("bewit=")).collect();
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };

    // Some clients percent-encode the padding.
    let bewit = bewit.replace("%3D", "=").replace("%3d", "=");
    let text = BEWIT.decode(bewit).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| malformed("the bewit is not base64 of text"))?;
    let parts: Vec<&str> = text.split('\\').collect();
    let [id, exp, mac, ext] = parts[..] else {
        return Err(malformed("the bewit has not four parts"));
    };
    if id.is_empty() {
        return Err(malformed("the bewit has no id"));
    }
    let ext = Some(ext).filter(|ext| !ext.is_empty());
    Ok(Some(Claim {
        client_id: Cow::Owned(id.to_owned()),
        ext: Ext::read(ext)?,
        kind: Kind::Bewit { exp: time(exp)?, mac: decode_mac(mac)?, target },
        raw_ext: ext.map(|ext| Cow::Owned(ext.to_owned())),
    }))
}

/// The `name="value"` pairs of a header, separated by commas. Hawk has no escapes.
struct Attributes<'a>(&'a str);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(&'a str, &'a str), HawkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        if rest.is_empty() {
            return None;
        }
        self.0 = "";
        let Some((name, rest)) = rest.split_once('=') else {
            return Some(Err(malformed("an attribute without a value")));
        };
        let Some((value, rest)) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'))
        else {
            return Some(Err(malformed("an attribute whose value is not in double quotes")));
        };
        // The MAC is over lines: a control character must not make two lines of one.
        if value.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
            return Some(Err(malformed("an attribute with a character outside printable ASCII")));
        }
        self.0 = rest;
        Some(Ok((name.trim(), value)))
    }
}
