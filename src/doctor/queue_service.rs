//! The queue service: does it answer, are our credentials good, do their scopes suffice, do the clocks agree?

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{AUTHORIZATION, DATE};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use super::Finding;
use crate::auth::scope::satisfies;
use crate::auth::service::{Answer, CallError, Limits, Service};
use crate::auth::signer::Signer;
use crate::config::Config;
use crate::queue::taskcluster::client;

/// Hawk refuses requests whose clock differs by more than a minute; half of it is reason to look.
const CLOCK: Duration = Duration::from_secs(30);

/// The longest answer that is read.
const MAX_ANSWER: usize = 4 << 20;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let limits = Limits { call: Duration::from_secs(15), ..Limits::from(&config.queue) };
    let (service, signer) = match client(&config.queue, limits) {
        Ok(client) => client,
        Err(error) => return vec![Finding::failed("queue service", error.to_string(), "correct [queue]")],
    };
    let caller = Caller { service, signer };
    let ping = match caller.get("/api/queue/v1/ping", false).await {
        Ok(answer) if answer.status.is_success() => answer,
        Ok(answer) => {
            let found = format!("{} answers {}", config.queue.root_url, answer.status);
            return vec![Finding::failed("queue service", found, "check queue.root_url")];
        }
        Err(error) => {
            let advice = "check queue.root_url, the network and, for https, the system's CAs (SSL_CERT_FILE)";
            return vec![Finding::failed("queue service", error.to_string(), advice)];
        }
    };
    let mut findings = vec![Finding::ok("queue service", format!("{} answers", config.queue.root_url))];
    findings.push(clock(&ping));
    findings.push(credentials(config, &caller).await);
    findings.push(scopes(config, &caller).await);
    findings
}

struct Caller {
    service: Service,
    signer: Signer,
}

impl Caller {
    async fn get(&self, path: &str, signed: bool) -> Result<Answer, CallError> {
        let target = self.service.target(path);
        let mut headers = HeaderMap::new();
        if signed {
            let value = self
                .signer
                .sign("GET", &target, None)
                .map_err(|error| CallError::Connection(error.to_string()))?;
            headers.insert(AUTHORIZATION, value);
        }
        self.service.call(Method::GET, target, headers, Bytes::new(), MAX_ANSWER).await
    }
}

fn clock(answer: &Answer) -> Finding {
    const CHECK: &str = "clock";
    let date =
        answer.headers.get(DATE).and_then(|value| DateTime::parse_from_rfc2822(value.to_str().ok()?).ok());
    let Some(date) = date else {
        return Finding::skipped(CHECK, "the queue service does not tell its time");
    };
    let apart = (Utc::now() - date.to_utc()).abs();
    let seconds = apart.num_seconds();
    if apart.to_std().is_ok_and(|apart| apart <= CLOCK) {
        return Finding::ok(CHECK, format!("{seconds} s from the queue service's"));
    }
    let found = format!("{seconds} s from the queue service's: signatures and schedules will be off");
    Finding::failed(CHECK, found, "set the clock of this machine by NTP (timedatectl)")
}

/// A task that cannot exist is asked for: 404 if the signature is good.
async fn credentials(config: &Config, caller: &Caller) -> Finding {
    const CHECK: &str = "credentials";
    let id = "AAAAAAAAQAGAAAAAAAAAAA";
    let client = &config.queue.client_id;
    match caller.get(&format!("/api/queue/v1/task/{id}"), true).await {
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
            Finding::ok(CHECK, format!("the queue service knows client {client}"))
        }
        Ok(answer) if answer.status == StatusCode::FORBIDDEN => {
            let advice =
                "give the client queue:get-task:*, with which a task that may exist already is looked up";
            Finding::warning(CHECK, format!("client {client} is known, and may not look at tasks"), advice)
        }
        Ok(answer) => {
            let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let why =
                told["message"].as_str().unwrap_or("no reason given").lines().next().unwrap_or_default();
            let advice = "check queue.client_id, queue.access_token and queue.certificate; is the client disabled or expired?";
            Finding::failed(CHECK, format!("client {client}: {} {why}", answer.status.as_u16()), advice)
        }
        Err(error) => {
            Finding::failed(CHECK, error.to_string(), "try again: the queue service answered before")
        }
    }
}

/// What the auth service says that our client may do.
async fn scopes(config: &Config, caller: &Caller) -> Finding {
    const CHECK: &str = "scopes";
    let answer = match caller.get("/api/auth/v1/scopes/current", true).await {
        Ok(answer) if answer.status.is_success() => answer,
        Ok(answer) => {
            let found =
                format!("the auth service answers {}: they cannot be looked at", answer.status.as_u16());
            let advice = "make sure by hand that the client has assume:hook-id:*";
            return Finding::warning(CHECK, found, advice);
        }
        Err(error) => {
            return Finding::warning(
                CHECK,
                error.to_string(),
                "make sure by hand that the client has assume:hook-id:*",
            );
        }
    };
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let has: Vec<String> = told["scopes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|scope| scope.as_str().map(str::to_owned))
        .collect();
    let mut wanted = vec!["assume:hook-id:*"];
    if config.auth.asks_taskcluster() {
        wanted.push("auth:expand-scopes");
    }
    if config.notify.taskcluster {
        wanted.push("notify:email:*");
    }
    let missing: Vec<&str> =
        wanted.into_iter().filter(|wanted| !has.iter().any(|has| satisfies(has, wanted))).collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, "the client may assume every hook's role");
    }
    let found = format!("client {} lacks {}", config.queue.client_id, missing.join(", "));
    Finding::failed(CHECK, found, "give them to the client, or to a role that it has")
}
