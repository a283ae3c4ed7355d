//! Provoked failures, for tests: what a queue service does on a bad day, on demand.
//!
//! `POST /__faults__` with `{"rules": […], "seed": 1}` replaces the rules, `GET` shows them with the times that
//! each struck, `DELETE` clears them. The first rule that strikes decides. Which calls a probability hits
//! follows from the seed and the order of the calls.
//!
//! A rule is `{"do": …, "calls": "create", "next": 3, "probability": 0.2, "stored": false}`. `calls` is `create`
//! (default), `task`, `ping` or `any`; with `next` it strikes that often and is spent; with `stored` the call
//! is carried out first, and only its answer is replaced. What it does: `status` (with `status`,
//! `retryAfter` in seconds), `garbage` (200 and a page of HTML), `slow` (with `milliseconds`, then the normal
//! answer), `hang` (no answer), `close` (the connection is closed).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use http::Method;
use serde::{Deserialize, Serialize};

use super::LocalQueue;
use super::answer::Problem;
use crate::server::HangUp;

/// Longest silence of `hang`: longer than any client waits, and yet not for ever.
const HANG: Duration = Duration::from_secs(600);

/// Rules at the same time: a test has a handful.
const MAX_RULES: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Rules>);

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    #[serde(default)]
    seed: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    calls: Calls,
    probability: Option<f64>,
    next: Option<u64>,
    #[serde(default)]
    stored: bool,
    r#do: Action,
    status: Option<u16>,
    retry_after: Option<u64>,
    milliseconds: Option<u64>,
    /// How often it struck.
    #[serde(default)]
    struck: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Calls {
    #[default]
    Create,
    Task,
    Ping,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Status,
    Garbage,
    Slow,
    Hang,
    Close,
}

impl Faults {
    fn strike(&self, call: Calls) -> Option<Rule> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Rules { rules, seed } = &mut *state;
        for rule in rules {
            if rule.calls != Calls::Any && rule.calls != call {
                continue;
            }
            if rule.next.is_some_and(|next| rule.struck >= next) {
                continue;
            }
            if rule.probability.is_some_and(|probability| random(seed) >= probability) {
                continue;
            }
            rule.struck += 1;
            return Some(rule.clone());
        }
        None
    }
}

/// SplitMix64: reproducible from the seed, which is all that is asked of it. Between 0 and 1.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

pub(super) async fn inject(State(queue): State<LocalQueue>, request: Request, next: Next) -> Response {
    let call = match (request.method(), request.uri().path()) {
        (&Method::PUT, _) => Calls::Create,
        (_, path) if path.ends_with("/ping") => Calls::Ping,
        (_, path) if path.ends_with("/tasks") => return next.run(request).await,
        _ => Calls::Task,
    };
    let Some(rule) = queue.0.faults.as_ref().and_then(|faults| faults.strike(call)) else {
        return next.run(request).await;
    };
    if rule.r#do == Action::Slow {
        tokio::time::sleep(Duration::from_millis(rule.milliseconds.unwrap_or(1000))).await;
        return next.run(request).await;
    }
    if rule.stored {
        next.run(request).await;
    }
    match rule.r#do {
        Action::Status => {
            let status = rule.status.unwrap_or(500);
            let mut problem = Problem::new(status, code(status), "provoked by a rule of /__faults__");
            problem.retry_after = rule.retry_after;
            problem.into_response()
        }
        Action::Garbage => Html("<html><title>Sign in</title><p>Welcome to the network").into_response(),
        Action::Hang => {
            tokio::time::sleep(HANG).await;
            hang_up()
        }
        Action::Slow | Action::Close => hang_up(),
    }
}

fn hang_up() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(HangUp);
    response
}

fn code(status: u16) -> &'static str {
    match status {
        400 => "InputError",
        401 => "AuthenticationFailed",
        403 => "InsufficientScopes",
        404 => "ResourceNotFound",
        409 => "RequestConflict",
        413 => "InputTooLarge",
        429 => "TooManyRequests",
        _ => "InternalServerError",
    }
}

pub(super) async fn show(State(queue): State<LocalQueue>) -> Json<Rules> {
    Json(match &queue.0.faults {
        Some(faults) => faults.0.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        None => Rules::default(),
    })
}

pub(super) async fn replace(
    State(queue): State<LocalQueue>,
    Json(rules): Json<Rules>,
) -> Result<Json<Rules>, Problem> {
    if rules.rules.len() > MAX_RULES {
        return Err(Problem::input(format!("at most {MAX_RULES} rules")));
    }
    if let Some(faults) = &queue.0.faults {
        *faults.0.lock().unwrap_or_else(PoisonError::into_inner) = rules.clone();
    }
    Ok(Json(rules))
}

pub(super) async fn clear(State(queue): State<LocalQueue>) -> Json<Rules> {
    if let Some(faults) = &queue.0.faults {
        *faults.0.lock().unwrap_or_else(PoisonError::into_inner) = Rules::default();
    }
    Json(Rules::default())
}
