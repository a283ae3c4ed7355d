//! The webhook verifier of every provider: no request panics, what nobody signed is not believed, what was signed is, and no
//! longer when a byte of its body changes.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use bridge::signature::{Proof, Verifier};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

/// A key as each kind of scheme takes it; the first that a provider accepts is used.
const SECRETS: [&str; 3] = [
    "a secret of the fuzzer, long enough",
    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    provider: u8,
    headers: Vec<(u8, &'a [u8])>,
    query: Option<&'a str>,
    path_token: Option<&'a str>,
    body: &'a [u8],
    change: u16,
}

struct Subject {
    name: String,
    verifier: Verifier,
    headers: Vec<HeaderName>,
    /// Proves the body, not only the sender.
    signs: bool,
}

static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let providers = bridge::provider::load(None).expect("the presets load");
    let subjects = providers.into_iter().filter_map(|(name, provider)| {
        let config: bridge::Config = config(&name);
        let schemes = bridge::source::schemes(&config.source[0], &provider).ok()?;
        let verifier =
            SECRETS.iter().find_map(|secret| Verifier::new(&schemes, &[(*secret).to_owned()]).ok())?;
        let headers = schemes
            .iter()
            .filter_map(|scheme| match scheme {
                bridge::provider::Scheme::Signature(scheme) => {
                    Some(scheme.headers.iter().map(|name| name.0.clone()))
                }
                bridge::provider::Scheme::Token(_) => None,
            })
            .flatten()
            .chain([http::header::AUTHORIZATION, HeaderName::from_static("x-gitlab-token")])
            .collect();
        let signs = schemes.iter().all(|scheme| matches!(scheme, bridge::provider::Scheme::Signature(_)));
        Some(Subject { name, verifier, headers, signs })
    });
    subjects.collect()
});

fn config(provider: &str) -> bridge::Config {
    let defaults: toml::Table =
        include_str!("../../../config/pulsehook.toml").parse().expect("the defaults are TOML");
    let mut section = defaults["bridge"].clone();
    let source = toml::toml! {
        name = "fuzz"
        provider = (provider)
        secrets = ["unused"]
    };
    section["source"] = toml::Value::Array(vec![toml::Value::Table(source)]);
    section.try_into().expect("the section is complete")
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("in range")
}

fuzz_target!(|input: Input<'_>| {
    let subjects = &*SUBJECTS;
    let subject = &subjects[usize::from(input.provider) % subjects.len()];
    let mut headers = HeaderMap::new();
    for (name, value) in &input.headers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(subject.headers[usize::from(*name) % subject.headers.len()].clone(), value);
        }
    }
    let proof = Proof {
        headers: &headers,
        query: input.query,
        path_token: input.path_token,
        body: input.body,
        form_field: None,
    };
    assert!(subject.verifier.verify(&proof, now()).is_err(), "{}: believed without the secret", subject.name);

    let body = Bytes::copy_from_slice(input.body);
    for secret in SECRETS {
        let mut headers = HeaderMap::new();
        let Ok(signed) = subject.verifier.sign(&[secret.to_owned()], &mut headers, &body, now()) else {
            continue;
        };
        if !subject.signs || signed.query.is_some() || body.is_empty() {
            continue;
        }
        let proof = |body| Proof { headers: &headers, query: None, path_token: None, body, form_field: None };
        if subject.verifier.verify(&proof(&body), now()).is_ok() {
            let mut changed = body.to_vec();
            let at = usize::from(input.change) % changed.len();
            changed[at] ^= 1;
            let verdict = subject.verifier.verify(&proof(&changed), now());
            assert!(verdict.is_err(), "{}: a changed body is believed", subject.name);
        }
    }
});
