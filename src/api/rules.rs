//! What a definition must satisfy before it becomes a hook: the document, the exchanges that it may listen to, filter,
//! schema and template, and the scopes that its task asks for.

use pulse::naming;
use regex::RegexSet;
use serde_json::Value;

use super::{Api, ApiError, Code, door};
use crate::hook::{Hook, HookName, Problem};

/// What our own exchanges are about: a hook that listens to what hooks cause fires on itself, without end.
const OWN_DENIED: [&str; 6] =
    ["trigger", "undeliverable", "fire", "hook-created", "hook-updated", "hook-deleted"];

/// What marks a string of a template as one that is still to be rendered.
const MARKERS: [&str; 4] = ["{{", "{%", "{#", "${"];

/// Exchanges that no hook may be bound to, besides those of Taskcluster that [`Hook::from_json`] refuses.
pub(super) struct DenyList {
    own: Vec<String>,
    configured: RegexSet,
}

impl DenyList {
    /// `patterns` are regular expressions over the whole name of an exchange.
    pub fn new(user: &str, patterns: &[String]) -> Result<Self, String> {
        let whole = patterns.iter().map(|pattern| format!("^(?:{pattern})$"));
        let configured = RegexSet::new(whole).map_err(|error| format!("api.denied_exchanges: {error}"))?;
        Ok(Self { own: OWN_DENIED.iter().map(|what| naming::exchange(user, what)).collect(), configured })
    }

    fn problems(&self, hook: &Hook) -> Vec<Problem> {
        let reason = |exchange: &String| {
            if self.own.contains(exchange) {
                Some("may not be bound: the hook would fire on what hooks cause, without end")
            } else if self.configured.is_match(exchange) {
                Some(
                    "may not be bound: the configuration of this deployment denies it (api.denied_exchanges)",
                )
            } else {
                None
            }
        };
        let refused = |(index, binding): (usize, &pulse::Binding)| {
            Some(Problem::new(format!("bindings[{index}].exchange"), reason(&binding.exchange)?))
        };
        hook.bindings.iter().enumerate().filter_map(refused).collect()
    }
}

/// The hook of a request, checked in every respect.
pub(super) async fn checked(api: &Api, name: &HookName, document: &Value) -> Result<Hook, ApiError> {
    let invalid = |problems: Vec<Problem>| {
        ApiError::problems(Code::InputError, "the hook cannot work as it is", &problems)
    };
    let hook = Hook::from_json(name, document).map_err(invalid)?;
    let denied = api.inner.denied.problems(&hook);
    if !denied.is_empty() {
        return Err(invalid(denied));
    }
    let hook = api.inner.router.check(hook).await?.map_err(invalid)?;
    may_have_its_scopes(api, &hook).await?;
    Ok(hook)
}

/// Nobody hands a hook scopes that its role has not (and so, because saving it takes that role, none that they lack).
async fn may_have_its_scopes(api: &Api, hook: &Hook) -> Result<(), ApiError> {
    let wanted = literal_scopes(&hook.task);
    if wanted.is_empty() {
        return Ok(());
    }
    let role = format!("assume:hook-id:{}", hook.name);
    let granted = api.inner.authenticator.expand(std::slice::from_ref(&role)).await;
    let granted = granted.map_err(|error| door::refused(&error))?;
    let missing: Vec<String> = wanted.into_iter().filter(|scope| !granted.satisfies(scope)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "The task asks for scopes that the hook's role does not have ({role}). Missing:\n\n```\n{}\n```",
        missing.join("\n")
    );
    Err(ApiError::new(Code::InsufficientScopes, message))
}

/// The scopes that stand in the task as they are; what is rendered first is for the queue service to check.
fn literal_scopes(task: &Value) -> Vec<String> {
    let scopes = task.get("scopes").and_then(Value::as_array).into_iter().flatten();
    let literal = |scope: &&str| !MARKERS.iter().any(|marker| scope.contains(marker));
    scopes.filter_map(Value::as_str).filter(literal).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hook(exchange: &str) -> Hook {
        let document = json!({
            "metadata": { "name": "n", "description": "d", "owner": "o@example.com" },
            "bindings": [{ "exchange": exchange, "routingKeyPattern": "#" }],
            "task": {},
        });
        Hook::from_json(&HookName::new("g", "h").unwrap(), &document).unwrap()
    }

    #[test]
    fn our_own_consequences_and_what_the_configuration_says_may_not_be_bound() {
        let denied = DenyList::new("me", &["exchange/private/.*".into()]).unwrap();
        for exchange in ["exchange/me/v1/fire", "exchange/me/v1/trigger", "exchange/private/v1/x"] {
            assert_eq!(denied.problems(&hook(exchange))[0].path, "bindings[0].exchange", "{exchange}");
        }
        for exchange in ["exchange/me/v1/webhook", "exchange/you/v1/fire", "not/exchange/private/v1/x"] {
            assert!(denied.problems(&hook(exchange)).is_empty(), "{exchange}");
        }
        assert!(DenyList::new("me", &["(".into()]).err().unwrap().contains("api.denied_exchanges"));
    }

    #[test]
    fn only_scopes_that_are_written_out_are_checked() {
        let task = json!({ "scopes": ["a:b", "a:{{ x }}", "${b}", { "$eval": "c" }] });
        assert_eq!(literal_scopes(&task), ["a:b"]);
        assert!(literal_scopes(&json!({ "scopes": "{{ all }}" })).is_empty());
    }
}
