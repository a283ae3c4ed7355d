//! Calls from within the process: the pages of the UI do what they do through the very entries of [`TABLE`], so
//! that scopes, schemas, checks and the audit trail are those of the API and cannot drift from them. Only the signature of a
//! request is not looked at: whoever calls has established the [`Identity`].

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::Value;

use super::endpoint::{Call, Endpoint};
use super::table::TABLE;
use super::{Api, ApiError, Code, schemas};
use crate::auth::{Identity, Insufficient};
use crate::hook::HookName;

/// A call by the name of its method.
#[derive(Debug, Default, Clone)]
pub struct Inside<'a> {
    /// The method's name in the API reference, e.g. `updateHook`.
    pub method: &'a str,
    /// Parameters of the route.
    pub params: &'a [(&'a str, &'a str)],
    /// Parameters of the query, for methods that look at any.
    pub query: &'a [(&'a str, &'a str)],
    /// The body, where the method has one: JSON text.
    pub body: Option<Bytes>,
    /// `updateHook`: the version that the caller has seen; another one is a conflict.
    pub expected_version: Option<i64>,
}

fn entry(method: &str) -> Result<&'static Endpoint, ApiError> {
    TABLE
        .iter()
        .find(|entry| entry.name == method)
        .ok_or_else(|| ApiError::new(Code::ResourceNotFound, format!("there is no method {method}")))
}

fn named(params: &[(&str, &str)]) -> BTreeMap<String, String> {
    params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The parameters of a route that names a hook.
pub fn of_hook(name: &HookName) -> [(&'static str, &str); 2] {
    [("hookGroupId", &name.group), ("hookId", &name.id)]
}

impl Api {
    /// Whether somebody may call a method with these parameters; the refusal lists what is missing.
    pub fn permits(
        &self,
        identity: &Identity,
        method: &str,
        params: &[(&str, &str)],
    ) -> Result<(), Insufficient> {
        match entry(method) {
            Ok(entry) => identity.require(&entry.scopes_for(&named(params))),
            Err(_) => Err(Insufficient {
                client_id: identity.client_id.clone(),
                missing: vec![format!("(no method {method})")],
                have: Vec::new(),
            }),
        }
    }

    /// Calls a method as somebody: what they may not do is refused, what they say is checked, what is done is in the audit.
    pub async fn call(&self, identity: &Identity, inside: Inside<'_>) -> Result<Value, ApiError> {
        let endpoint = entry(inside.method)?;
        let params = named(inside.params);
        identity
            .require(&endpoint.scopes_for(&params))
            .map_err(|refusal| ApiError::new(Code::InsufficientScopes, refusal.to_string()))?;
        let raw = inside.body.unwrap_or_default();
        let body = match endpoint.input {
            None => Value::Null,
            Some(schema) => {
                let body: Value = serde_json::from_slice(&raw).map_err(|error| {
                    ApiError::new(Code::MalformedPayload, format!("this is not JSON: {error}"))
                })?;
                schemas::check_input(schema, &body)?;
                body
            }
        };
        let call = Call {
            api: self.clone(),
            params,
            query: named(inside.query),
            headers: HeaderMap::new(),
            body,
            raw,
            identity: Some(identity.clone()),
            expected_version: inside.expected_version,
        };
        (endpoint.handler)(call).await
    }
}

impl Api {
    /// Checks a definition in every respect in which `createHook` and `updateHook` check it, and saves nothing.
    pub async fn check(&self, name: &HookName, document: &Value) -> Result<crate::hook::Hook, ApiError> {
        super::rules::checked(self, name, document).await
    }
}
