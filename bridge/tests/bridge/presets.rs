//! Every preset with its vectors (one file each in `tests/cases/webhooks`), and each vector tampered with, cut short,
//! lengthened, written otherwise, stale, from the future, unsigned and signed with another secret.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bridge::{Bridge, Outside};
use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::support::{Answer, Broker, config, post, send};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    provider: String,
    secrets: Vec<String>,
    #[serde(default)]
    options: String,
    now: i64,
    /// Seconds, where the signature has a moment.
    tolerance: Option<i64>,
    /// The header with the proof.
    proof: Option<String>,
    /// How the proof is written: hex, base64 or token.
    #[serde(default)]
    encoding: String,
    /// What follows the source's name in the address.
    #[serde(default)]
    suffix: String,
    /// Status of a wrong signature.
    #[serde(default = "forbidden")]
    wrong: u16,
    routing_key: String,
    delivery: Option<String>,
    body: String,
    /// What is published, if not the body.
    json: Option<String>,
    headers: std::collections::BTreeMap<String, String>,
}

fn forbidden() -> u16 {
    403
}

fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/webhooks");
    let mut cases: Vec<(String, Case)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let case = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), case)
        })
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

impl Case {
    async fn send(&self, name: &str) -> (Answer, Arc<Broker>) {
        let (bridge, broker) = self.bridge(name);
        (self.send_to(&bridge, name).await, broker)
    }

    fn bridge(&self, name: &str) -> (Bridge, Arc<Broker>) {
        let secrets = serde_json::to_string(&self.secrets).unwrap();
        let text = format!(
            "[[source]]\nname = \"{name}\"\nprovider = \"{}\"\nsecrets = {secrets}\n{}\n",
            self.provider, self.options
        );
        let now: DateTime<Utc> = DateTime::from_timestamp(self.now, 0).unwrap();
        let broker = Broker::new();
        let transport: Arc<dyn pulse::Transport> = Arc::clone(&broker) as _;
        let outside = Outside { now: Arc::new(move || now), ..Outside::default() };
        let bridge = Bridge::build(&config(&text), "pulsehook", transport, outside)
            .unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        (bridge, broker)
    }

    async fn send_to(&self, bridge: &Bridge, name: &str) -> Answer {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let path = format!("/webhooks/{name}{}", self.suffix);
        send(bridge, post(&path, &headers, self.body.clone())).await
    }

    fn proof(&self) -> &str {
        &self.headers[self.proof.as_ref().unwrap()]
    }

    fn with_proof(&self, proof: String) -> Self {
        let mut case = self.clone();
        case.headers.insert(self.proof.clone().unwrap(), proof);
        case
    }

    /// The same signature in the other encoding.
    fn rewritten(&self) -> Self {
        let proof = self.proof();
        let end = proof.trim_end_matches('=');
        let start = end.rfind([',', '=', ' ']).map_or(0, |at| at + 1);
        let (before, signature) = proof.split_at(start);
        let written = match self.encoding.as_str() {
            "hex" => STANDARD.encode(hex::decode(signature).unwrap()),
            _ => hex::encode(STANDARD.decode(signature).unwrap()),
        };
        self.with_proof(format!("{before}{written}"))
    }
}

#[tokio::test]
async fn every_vector_passes_and_becomes_its_message() {
    for (name, case) in cases() {
        let (answer, broker) = case.send(&name).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        let message = broker.messages().remove(0);
        assert_eq!(message.routing_key, case.routing_key, "{name}");
        assert_eq!(message.body, case.json.clone().unwrap_or_else(|| expected_json(&case)), "{name}");
        let headers = &message.properties.headers;
        let delivery = headers.get("x-pulsehook-delivery").and_then(|value| value.as_str());
        assert_eq!(delivery, case.delivery.as_deref(), "{name}");
        // Nothing that proves the sender goes onto pulse.
        let all = serde_json::to_string(headers).unwrap();
        for secret in &case.secrets {
            assert!(!all.contains(secret.as_str()), "{name}: {all}");
        }
        if case.proof.is_some() {
            assert!(!all.contains(case.proof()), "{name}: {all}");
        }
    }
}

fn expected_json(case: &Case) -> String {
    if case.headers["Content-Type"] == "application/json" {
        return case.body.clone();
    }
    let fields: serde_json::Map<String, serde_json::Value> = form_urlencoded::parse(case.body.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    serde_json::Value::Object(fields).to_string()
}

#[tokio::test]
async fn a_replayed_vector_is_answered_as_before_and_published_once() {
    for (name, case) in cases() {
        let (bridge, broker) = case.bridge(&name);
        let first = case.send_to(&bridge, &name).await;
        let again = case.send_to(&bridge, &name).await;
        assert_eq!((again.status, &again.text), (200, &first.text), "{name}");
        assert_eq!(again.headers["x-pulsehook-repeated"], "true", "{name}");
        assert_eq!(broker.messages().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn every_preset_has_a_vector() {
    let cases = cases();
    for provider in bridge::provider::load(None).unwrap().keys() {
        assert!(cases.iter().any(|(_, case)| case.provider == *provider), "{provider} has no vector");
    }
}

#[tokio::test]
async fn every_changed_vector_is_refused() {
    for (name, case) in cases() {
        let mut variants: Vec<(&str, Case, Vec<u16>)> = Vec::new();
        if let Some(proof) = &case.proof {
            let mut missing = case.clone();
            missing.headers.remove(proof);
            variants.push(("unsigned", missing, vec![401]));
            let wrong = if case.encoding == "token" { vec![401, 403] } else { vec![case.wrong] };
            variants.push(("lengthened", case.with_proof(format!("{}0a", case.proof())), wrong));
        } else {
            let mut missing = case.clone();
            missing.suffix = String::new();
            variants.push(("unsigned", missing, vec![401]));
        }
        if matches!(case.encoding.as_str(), "hex" | "base64") {
            let mut tampered = case.clone();
            tampered.body.push_str(if case.headers["Content-Type"] == "application/json" {
                " "
            } else {
                "+"
            });
            variants.push(("tampered", tampered, vec![case.wrong]));
            let proof = case.proof();
            variants.push((
                "truncated",
                case.with_proof(proof[..proof.len() - 4].to_owned()),
                vec![case.wrong],
            ));
            variants.push(("wrongly encoded", case.rewritten(), vec![case.wrong]));
        }
        if let Some(tolerance) = case.tolerance {
            for (what, offset) in [("stale", tolerance + 1), ("from the future", -tolerance - 1)] {
                let mut moved = case.clone();
                moved.now += offset;
                variants.push((what, moved, vec![case.wrong]));
            }
            let mut edge = case.clone();
            edge.now += tolerance;
            assert_eq!(edge.send(&name).await.0.status, 200, "{name}: still within its tolerance");
        }
        let mut other = case.clone();
        other.secrets = vec![other_secret(&case.secrets[0])];
        let refused = if case.encoding == "base64" || case.encoding == "hex" { case.wrong } else { 403 };
        variants.push(("another secret", other, vec![refused]));
        for (what, variant, statuses) in variants {
            let (answer, broker) = variant.send(&name).await;
            assert!(statuses.contains(&answer.status), "{name}, {what}: {} {}", answer.status, answer.text);
            assert!(!answer.code().is_empty(), "{name}, {what}");
            assert!(broker.messages().is_empty(), "{name}, {what}: published all the same");
        }
    }
}

/// Another secret of the same form.
fn other_secret(secret: &str) -> String {
    if let Some((prefix, _)) =
        secret.split_once('_').filter(|(prefix, _)| matches!(*prefix, "whsec" | "whpk"))
    {
        return format!("{prefix}_{}", STANDARD.encode([7; 32]));
    }
    match hex::decode(secret) {
        Ok(bytes) if bytes.len() == 32 => hex::encode([7; 32]),
        _ => format!("another {secret}"),
    }
}

#[tokio::test]
async fn handshakes_are_answered_and_not_published() {
    let slack = r#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let signature = format!(
        "v0={}",
        crate::support::hmac_sha256("slack signing key", format!("v0:1760000000:{slack}").as_bytes())
    );
    let mut case = cases().into_iter().find(|(name, _)| name == "slack-event").unwrap().1;
    case.headers.insert("X-Slack-Signature".to_owned(), signature);
    case.body = slack.to_owned();
    let (answer, broker) = case.send("slack").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["challenge"], "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    assert!(broker.messages().is_empty());

    let seed: Vec<u8> = (1..=32).collect();
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let mut case = cases().into_iter().find(|(name, _)| name == "discord").unwrap().1;
    case.body = r#"{"version":1,"application_id":"1","type":0}"#.to_owned();
    let signature = pair.sign(format!("1760000000{}", case.body).as_bytes());
    case = case.with_proof(hex::encode(signature));
    let (answer, broker) = case.send("discord").await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert!(answer.headers.contains_key("content-type"));
    assert!(broker.messages().is_empty());
    assert_eq!(case.with_proof("00".repeat(64)).send("discord").await.0.status, 401);
}

#[tokio::test]
async fn a_rotated_secret_is_believed_beside_the_old_one() {
    for (name, mut case) in cases() {
        case.secrets.insert(0, other_secret(&case.secrets[0]));
        assert_eq!(case.send(&name).await.0.status, 200, "{name}");
    }
}
