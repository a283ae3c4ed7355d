//! Hawk's own documented examples, and what a hostile sender might try.

use super::*;

/// The credentials of the examples in Hawk's documentation (github.com/mozilla/hawk, API.md).
const ID: &str = "dh37fgj492je";
const KEY: &str = "werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn";
const TIME: u64 = 1_353_832_234;

fn key() -> Key {
    Key::new(KEY, SHA256).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn request<'a>(method: &'a str, authorization: &'a str) -> SignedRequest<'a> {
    SignedRequest {
        method,
        target: "/resource/1?b=1&a=2",
        host: "example.com",
        port: 8000,
        authorization: Some(authorization),
    }
}

const GET: &str = r#"Hawk id="dh37fgj492je", ts="1353832234", nonce="j4h3g2", ext="some-app-ext-data", mac="6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE=""#;
const POST: &str = r#"Hawk id="dh37fgj492je", ts="1353832234", nonce="j4h3g2", hash="Yi9LfIIFRtBEPt74PVmbTF/xVAwPn7ub15ePICfgnuY=", ext="some-app-ext-data", mac="aSe1DERmZuRl3pI36/9BdZmnErTw3sNzOOAUlfeKjVw=""#;

/// Taskcluster's `ext` is JSON, the documentation's is not: the claim is read without it, the MAC covers it.
fn documented(authorization: &str) -> Claim<'static> {
    let attribute = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let hash = authorization.contains("hash=").then(|| STANDARD.decode(attribute("hash")).unwrap());
    Claim {
        client_id: ID.into(),
        ext: Ext::default(),
        kind: Kind::Header { ts: TIME, nonce: "j4h3g2", mac: decode_mac(&attribute("mac")).unwrap(), hash },
        raw_ext: Some("some-app-ext-data".into()),
    }
}

#[test]
fn the_documented_examples_verify() {
    let claim = documented(GET);
    claim.verify(&request("GET", GET), &key(), at(TIME), CLOCK_SKEW).unwrap();
    let upper = SignedRequest { host: "EXAMPLE.com", ..request("GET", GET) };
    claim.verify(&upper, &key(), at(TIME), CLOCK_SKEW).unwrap();

    let claim = documented(POST);
    claim.verify(&request("POST", POST), &key(), at(TIME), CLOCK_SKEW).unwrap();
    let hash = claim.payload_hash().unwrap();
    payload_matches(hash, Some("text/plain; charset=utf-8"), b"Thank you for flying Hawk").unwrap();
    payload_matches(hash, Some("Text/Plain"), b"Thank you for flying Hawk").unwrap();
    assert_eq!(payload_matches(hash, Some("text/plain"), b"Thank you"), Err(HawkError::PayloadHash));
    assert_eq!(payload_matches(hash, None, b"Thank you for flying Hawk"), Err(HawkError::PayloadHash));
}

#[test]
fn whatever_is_changed_breaks_the_mac() {
    let claim = documented(GET);
    let good = request("GET", GET);
    for bad in [
        SignedRequest { method: "PUT", ..good },
        SignedRequest { target: "/resource/1?b=1&a=3", ..good },
        SignedRequest { target: "/resource/1", ..good },
        SignedRequest { host: "example.org", ..good },
        SignedRequest { port: 80, ..good },
    ] {
        assert_eq!(claim.verify(&bad, &key(), at(TIME), CLOCK_SKEW), Err(HawkError::BadMac), "{bad:?}");
    }
    let other = Key::new("another", SHA256).unwrap();
    assert_eq!(claim.verify(&good, &other, at(TIME), CLOCK_SKEW), Err(HawkError::BadMac));
}

#[test]
fn the_clock_may_be_a_quarter_of_an_hour_off() {
    let claim = documented(GET);
    let verify = |now| claim.verify(&request("GET", GET), &key(), at(now), CLOCK_SKEW);
    assert_eq!(verify(TIME + 900), Ok(()));
    assert_eq!(verify(TIME - 900), Ok(()));
    assert_eq!(verify(TIME + 901), Err(HawkError::Stale(901)));
    assert_eq!(verify(TIME - 901), Err(HawkError::Stale(901)));
}

fn bewit(text: &str) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn a_bewit_opens_its_url_until_it_expires() {
    let exp = at(TIME + 60);
    let credentials = hawk::Credentials { id: ID.to_owned(), key: key() };
    let made = hawk::RequestBuilder::new("GET", "example.com", 443, "/x?b=1").request();
    let bewit = made.make_bewit(&credentials, exp).unwrap().to_str();
    for target in [format!("/x?b=1&bewit={bewit}"), format!("/x?bewit={bewit}&b=1")] {
        let good = SignedRequest {
            method: "GET",
            target: &target,
            host: "example.com",
            port: 443,
            authorization: None,
        };
        let claim = Claim::read(&good).unwrap().unwrap();
        assert_eq!(claim.client_id, ID);
        assert!(claim.nonce().is_none());
        assert_eq!(claim.verify(&good, &key(), at(TIME), CLOCK_SKEW), Ok(()));
        assert_eq!(claim.verify(&good, &key(), at(TIME + 60), CLOCK_SKEW), Err(HawkError::BewitExpired));
        let post = SignedRequest { method: "POST", ..good };
        assert_eq!(claim.verify(&post, &key(), at(TIME), CLOCK_SKEW), Err(HawkError::BewitMethod));
        let other = SignedRequest { port: 80, ..good };
        assert_eq!(claim.verify(&other, &key(), at(TIME), CLOCK_SKEW), Err(HawkError::BadMac));
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_a_reason_and_without_a_panic() {
    let long = format!("Hawk id=\"{}\"", "a".repeat(20_000));
    for header in [
        "",
        "Hawk",
        "Basic dXNlcjpwYXNz",
        "Hawk id",
        "Hawk id=",
        "Hawk id=x",
        "Hawk id=\"x",
        "Hawk id=\"x\"",
        "Hawk id=\"x\", id=\"y\"",
        "Hawk id=\"x\", surprise=\"y\"",
        "Hawk id=\"x\", app=\"y\"",
        "Hawk id=\"\", ts=\"1\", nonce=\"n\", mac=\"AAAA\"",
        "Hawk id=\"x\", ts=\"18446744073709551615\", nonce=\"n\", mac=\"AAAA\"",
        "Hawk id=\"x\", ts=\"-1\", nonce=\"n\", mac=\"AAAA\"",
        "Hawk id=\"x\", ts=\"1\", nonce=\"n\", mac=\"!!!!\"",
        "Hawk id=\"x\", ts=\"1\", nonce=\"a\nb\", mac=\"AAAA\"",
        "Hawk id=\"x\", ts=\"1\", nonce=\"n\", mac=\"AAAA\", hash=\"?\"",
        "Hawk id=\"x\", ts=\"1\", nonce=\"n\", mac=\"AAAA\", ext=\"e30\"x",
        "Hawk id=\"x\", ts=\"1\", nonce=\"n\", mac=\"AAAA\", ext=\"W10=\"",
        "Hawk id=\"x\", ts=\"1\", nonce=\"n\", mac=\"AAAA\", ext=\"{}\"",
        &long,
    ] {
        let result = Claim::read(&request("GET", header));
        assert!(matches!(result, Err(HawkError::Malformed(_))), "{header:?}: {result:?}");
    }
    for text in
        ["", "a\\b", "\\1\\AAAA\\", "x\\99999999999999999999\\AAAA\\", "x\\1\\?\\", "x\\1\\AAAA\\x\ny"]
    {
        let target = format!("/x?bewit={}", bewit(text));
        let request = SignedRequest { authorization: None, target: &target, ..request("GET", "") };
        assert!(Claim::read(&request).is_err(), "{text:?}");
    }
    let twice = SignedRequest { authorization: None, target: "/x?bewit=YQ&bewit=YQ", ..request("GET", "") };
    assert!(Claim::read(&twice).is_err());
    let none = SignedRequest { authorization: None, target: "/x?y", ..request("GET", "") };
    assert!(Claim::read(&none).unwrap().is_none());
}

proptest::proptest! {
    #[test]
    fn no_header_makes_it_panic(header in ".*", target in "/[ -~]*") {
        let _ = Claim::read(&request("GET", &header));
        let bare = SignedRequest { authorization: None, target: &target, ..request("GET", "") };
        let _ = Claim::read(&bare);
    }

    #[test]
    fn what_the_signer_signs_verifies(
        id in "[a-z0-9/_.:-]{1,40}", token in "[ -~]{1,60}", path in "/[a-zA-Z0-9/%?&=_-]{0,60}",
        scopes in proptest::collection::vec("[ -~]{0,40}", 0..4),
    ) {
        let signer = crate::auth::signer::Signer::new(&id, &token, None, "Example.com", 443).unwrap();
        let value = signer.sign("PUT", &path, Some(&scopes)).unwrap();
        let request = SignedRequest {
            method: "PUT", target: &path, host: "example.com", port: 443,
            authorization: Some(value.to_str().unwrap()),
        };
        let claim = Claim::read(&request).unwrap().unwrap();
        let key = Key::new(&token, SHA256).unwrap();
        proptest::prop_assert_eq!(claim.verify(&request, &key, SystemTime::now(), CLOCK_SKEW), Ok(()));
        proptest::prop_assert_eq!(&claim.client_id, &id);
        proptest::prop_assert_eq!(claim.ext.authorized_scopes, Some(scopes));
    }
}

#[test]
fn the_address_is_the_one_that_the_client_used() {
    let uri: http::Uri = "/x".parse().unwrap();
    let of = |pairs: &[(&'static str, &'static str)]| {
        let mut headers = http::HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        address(&headers, &uri)
    };
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[("host", "a.example")]), Some(("a.example".into(), 80)));
    assert_eq!(of(&[("host", "a.example:8080")]), Some(("a.example".into(), 8080)));
    assert_eq!(of(&[("host", "[::1]:8080")]), Some(("[::1]".into(), 8080)));
    assert_eq!(of(&[("host", "a.example"), ("x-forwarded-proto", "https")]), Some(("a.example".into(), 443)));
    assert_eq!(
        of(&[("host", "a.example:1"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "8443")]),
        Some(("a.example".into(), 8443))
    );
    assert_eq!(of(&[("host", "a b")]), None);
}

/// The Python client sends URL-safe characters, JavaScript's the usual ones; the server reads both.
#[test]
fn ext_is_read_in_either_alphabet() {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    // Characters whose sextets are the two in which the alphabets differ.
    let json = r#"{"authorizedScopes":["??>","~>?","a>>"]}"#;
    for ext in [STANDARD.encode(json), URL_SAFE_NO_PAD.encode(json)] {
        let header = format!("Hawk id=\"x\", ts=\"1\", nonce=\"n\", mac=\"AAAA\", ext=\"{ext}\"");
        let request = SignedRequest {
            method: "GET",
            target: "/x",
            host: "example.com",
            port: 80,
            authorization: Some(&header),
        };
        let claim = Claim::read(&request).unwrap().unwrap();
        assert_eq!(claim.ext.authorized_scopes.unwrap(), ["??>", "~>?", "a>>"]);
    }
}
