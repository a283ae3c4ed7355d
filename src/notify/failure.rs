//! What kinds of failure there are, in words for an owner: what happened, and what to do.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What went wrong, as far as that decides who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Template,
    Filter,
    TaskSchema,
    Scopes,
    BindingRefused,
    DeadLetter,
}

/// The first failure of a notice, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Example {
    /// What happened and where, in a sentence.
    pub message: String,
    /// The service's or our code, e.g. `template-error`.
    pub code: String,
    pub task_id: Option<String>,
    pub fired_by: Option<String>,
    pub exchange: String,
    pub routing_key: String,
    pub message_id: Option<String>,
    /// SHA-256 of the message's body, in hex.
    pub digest: Option<String>,
    /// The body's length in bytes.
    pub size: Option<usize>,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Template,
        Self::Filter,
        Self::TaskSchema,
        Self::Scopes,
        Self::BindingRefused,
        Self::DeadLetter,
    ];

    /// The kind of a dead fire by its error.
    pub fn of(error: &Value) -> Self {
        let code = error["code"].as_str().unwrap_or_default();
        match (code, error["status"].as_u64()) {
            ("template-error", _) => Self::Template,
            ("filter-error", _) => Self::Filter,
            ("invalid-task", _) => Self::TaskSchema,
            ("InsufficientScopes", _) | (_, Some(403)) => Self::Scopes,
            ("InputError" | "InputValidationError", _) => Self::TaskSchema,
            _ => Self::DeadLetter,
        }
    }

    /// The name in the store and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Filter => "filter",
            Self::TaskSchema => "task-schema",
            Self::Scopes => "scopes",
            Self::BindingRefused => "binding-refused",
            Self::DeadLetter => "dead-letter",
        }
    }

    /// The kind by its name; what an older or newer version stored counts as the most general one.
    pub fn from_stored(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or(Self::DeadLetter)
    }

    /// A few words, for the subject and for lists.
    pub fn title(self) -> &'static str {
        match self {
            Self::Template => "its task template fails",
            Self::Filter => "its filter fails",
            Self::TaskSchema => "its task is not valid",
            Self::Scopes => "its role lacks scopes",
            Self::BindingRefused => "a binding is refused",
            Self::DeadLetter => "its task could not be created",
        }
    }

    /// What to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Template => {
                "Correct the template at the place that is named. `pulsehook hook render FILE --message EVENT` tries it \
                 out without a server; then update the hook and requeue the dead letters."
            }
            Self::Filter => {
                "Correct the hook's filter so that it can judge every message that its bindings let through (a field may \
                 be missing: `payload.x is defined and …`); then update the hook and requeue the dead letters."
            }
            Self::TaskSchema => {
                "Correct the task template so that the rendered task has the fields and values that the queue service \
                 wants; then update the hook and requeue the dead letters."
            }
            Self::Scopes => {
                "Give the hook's role (hook-id:<hookGroupId>/<hookId>) the scopes that are named, or let the task do with \
                 less; then requeue the dead letters."
            }
            Self::BindingRefused => {
                "Check the exchange's name and whether its publisher still has it; somebody may have to let this pulse user \
                 read it. pulsehook goes on trying: when the binding stands, messages arrive without anybody's help."
            }
            Self::DeadLetter => {
                "Read the reason; when the cause is gone, requeue the dead letter, or drop it if it is not needed any more."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Kind;

    #[test]
    fn errors_are_sorted_by_who_can_help() {
        for (error, kind) in [
            (json!({"code": "template-error"}), Kind::Template),
            (json!({"code": "filter-error"}), Kind::Filter),
            (json!({"code": "invalid-task"}), Kind::TaskSchema),
            (json!({"code": "InputValidationError", "status": 400}), Kind::TaskSchema),
            (json!({"code": "InsufficientScopes", "status": 403}), Kind::Scopes),
            (json!({"code": "", "status": 413}), Kind::DeadLetter),
            (json!({"code": "task-id-conflict"}), Kind::DeadLetter),
            (json!(null), Kind::DeadLetter),
        ] {
            assert_eq!(Kind::of(&error), kind, "{error}");
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::from_stored(kind.as_str()), kind);
        }
    }
}
