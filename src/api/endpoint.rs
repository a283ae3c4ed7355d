//! What one method of the API is: its route, the scopes that it needs, its schemas, its handler.
//!
//! Routes, the OpenAPI document and the Taskcluster API reference are all made from these (see [`super::table`]), so they
//! cannot drift apart; and no handler is reached but through the checks that its entry asks for.

use std::collections::BTreeMap;
use std::pin::Pin;

use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Api, ApiError, Code};
use crate::auth::{ANONYMOUS, Identity};
use crate::hook::HookName;

/// One method of the API.
pub struct Endpoint {
    /// Its name in the API reference, e.g. `createHook`.
    pub name: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Route below `/api/hooks/v1`, parameters as `<hookGroupId>`.
    pub route: &'static str,
    /// Parameters of the query.
    pub query: &'static [Parameter],
    /// Headers that it looks at, besides the usual ones.
    pub headers: &'static [Parameter],
    /// Scopes that are all needed, with the route's parameters in them; `None`: whoever asks, and nobody is asked for
    /// credentials.
    pub scopes: Option<&'static [&'static str]>,
    /// Schema of the request's body, a file of `schemas/` without its ending; `None`: no body.
    pub input: Option<&'static str>,
    /// Schema of the answer.
    pub output: &'static str,
    /// The heading under which the reference lists it.
    pub category: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Taskcluster's word for how much one can rely on it.
    pub stability: &'static str,
    /// Does it.
    pub handler: fn(Call) -> Answering,
}

/// A parameter of a query, or a header.
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Refuses a value, with the reason.
    pub check: fn(&str) -> Result<(), &'static str>,
}

/// A handler at work.
pub type Answering = Pin<Box<dyn Future<Output = Result<Value, ApiError>> + Send>>;

/// A call that was let in: its sender may make it, parameters and body are as the entry says.
pub struct Call {
    /// The API.
    pub api: Api,
    /// Parameters of the route, decoded.
    pub params: BTreeMap<String, String>,
    /// Parameters of the query, decoded.
    pub query: BTreeMap<String, String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body; null where the entry has no input.
    pub body: Value,
    /// The body as it came: numbers of any size are exact in it.
    pub raw: Bytes,
    /// Who calls; `None` where nobody is asked.
    pub identity: Option<Identity>,
    /// The hook's version that the caller has seen, where it says so: another one is a conflict.
    pub expected_version: Option<i64>,
}

impl Endpoint {
    /// The route as axum writes it.
    pub fn axum_route(&self) -> String {
        self.route.replace('<', "{").replace('>', "}")
    }

    /// The names of the route's parameters.
    pub fn route_params(&self) -> impl Iterator<Item = &'static str> {
        self.route.split('/').filter_map(|part| part.strip_prefix('<')?.strip_suffix('>'))
    }

    /// The scopes that a call with these parameters needs.
    pub fn scopes_for(&self, params: &BTreeMap<String, String>) -> Vec<String> {
        let fill = |scope: &&str| {
            params
                .iter()
                .fold((*scope).to_owned(), |scope, (name, value)| scope.replace(&format!("<{name}>"), value))
        };
        self.scopes.unwrap_or_default().iter().map(fill).collect()
    }
}

impl Call {
    /// The hook that the route names.
    pub fn name(&self) -> Result<HookName, ApiError> {
        HookName::new(self.param("hookGroupId"), self.param("hookId"))
            .map_err(|error| ApiError::new(Code::InvalidRequestArguments, error.to_string()))
    }

    /// A parameter of the route; empty if the route has none by that name.
    pub fn param(&self, name: &str) -> String {
        self.params.get(name).cloned().unwrap_or_default()
    }

    /// A header's text, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The client id of who calls.
    pub fn client_id(&self) -> &str {
        self.identity.as_ref().map_or(ANONYMOUS, |identity| &identity.client_id)
    }

    /// Entries of the page that is asked for, at most and by default `most`.
    pub fn limit(&self, most: u32) -> u32 {
        self.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(most).clamp(1, most)
    }

    /// A page: of the rows that were found those up to the limit, under `name`, and, if one more was found, the token of the
    /// next page. Whoever asks the store asks it for one row more.
    pub fn page<T>(
        name: &str,
        found: &[T],
        limit: u32,
        shown: impl Fn(&T) -> Value,
        id: impl Fn(&T) -> i64,
    ) -> Value {
        let page = &found[..found.len().min(limit as usize)];
        let mut answer = json!({ name: page.iter().map(shown).collect::<Vec<_>>() });
        if let (true, Some(last)) = (found.len() > page.len(), page.last()) {
            answer["continuationToken"] = json!(id(last).to_string());
        }
        answer
    }

    /// Where the page begins: below the row that the continuation token names.
    pub fn before(&self) -> Option<i64> {
        self.query.get("continuationToken").and_then(|token| token.parse().ok())
    }
}
