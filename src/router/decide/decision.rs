//! The outcome of deciding, in three forms: a name for programs, a sentence for people, details for the record.

use serde_json::{Value, json};

use crate::filter::Saw;
use crate::hook::Problem;
use crate::hook::problem::join;

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// A task is to be created.
    Fire {
        /// JSON text.
        task: Vec<u8>,
    },
    /// None of the hook's bindings matches exchange and routing key (a stale binding, the default exchange).
    NotBound,
    /// The body cannot be read.
    NotJson {
        /// Why.
        message: String,
    },
    /// The filter said no.
    Filtered {
        /// The term that said it.
        term: String,
        /// What it looked at.
        saw: Vec<Saw>,
    },
    /// The payload doesn't satisfy triggerSchema.
    SchemaMismatch {
        /// All faults; paths start with `payload`.
        problems: Vec<Problem>,
    },
    /// The template gave nothing.
    Declined,
    /// The filter failed.
    FilterError {
        /// What happened.
        message: String,
        /// It ran into a limit.
        exceeded: bool,
    },
    /// The template failed.
    TemplateError {
        /// The place, e.g. `task.payload.env.REV`.
        path: String,
        /// What happened.
        message: String,
        /// It ran into a limit.
        exceeded: bool,
    },
    /// The queue service would refuse the rendered task.
    InvalidTask {
        /// JSON text.
        task: Vec<u8>,
        /// All faults; paths start with `task`.
        problems: Vec<Problem>,
    },
}

impl Decision {
    /// The name in records, events and metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Decision::Fire { .. } => "fire",
            Decision::NotBound => "not-bound",
            Decision::NotJson { .. } => "not-json",
            Decision::Filtered { .. } => "filtered",
            Decision::SchemaMismatch { .. } => "schema-mismatch",
            Decision::Declined => "declined",
            Decision::FilterError { .. } => "filter-error",
            Decision::TemplateError { .. } => "template-error",
            Decision::InvalidTask { .. } => "invalid-task",
        }
    }

    /// Whether it is the owner's business: something is broken, as opposed to a message that is none for this hook.
    pub fn is_error(&self) -> bool {
        matches!(
            self,
            Decision::FilterError { .. } | Decision::TemplateError { .. } | Decision::InvalidTask { .. }
        )
    }

    /// Whether the hook ran into one of its limits; one that keeps doing so is slowed.
    pub fn exceeded_limits(&self) -> bool {
        matches!(
            self,
            Decision::FilterError { exceeded: true, .. } | Decision::TemplateError { exceeded: true, .. }
        )
    }

    /// A sentence for people.
    pub fn reason(&self) -> String {
        match self {
            Decision::Fire { .. } => "The hook fires.".to_owned(),
            Decision::NotBound => {
                "None of the hook's bindings matches the exchange and routing key of the message.".to_owned()
            }
            Decision::NotJson { message } => format!("The message cannot be read as JSON: {message}."),
            Decision::Filtered { term, saw } if saw.is_empty() => format!("The filter says no: {term}."),
            Decision::Filtered { term, saw } => {
                let saw: Vec<_> = saw.iter().map(|saw| format!("{} is {}", saw.name, saw.value)).collect();
                format!("The filter says no: {term}; {}.", saw.join(", "))
            }
            Decision::SchemaMismatch { problems } => {
                format!("The payload does not satisfy triggerSchema: {}.", join(problems).replace('\n', "; "))
            }
            Decision::Declined => "The template declines: it renders to nothing.".to_owned(),
            Decision::FilterError { message, .. } => format!("The filter failed: {message}."),
            Decision::TemplateError { path, message, .. } => {
                format!("The template failed: {}.", Problem::new(path.as_str(), message.as_str()))
            }
            Decision::InvalidTask { problems, .. } => {
                format!("The queue service would refuse the task: {}.", join(problems).replace('\n', "; "))
            }
        }
    }

    /// What the record keeps, without the task.
    pub fn detail(&self) -> Value {
        match self {
            Decision::Fire { .. } | Decision::NotBound | Decision::Declined => json!({}),
            Decision::NotJson { message } => json!({ "message": message }),
            Decision::Filtered { term, saw } => json!({ "term": term, "saw": saw }),
            Decision::SchemaMismatch { problems } | Decision::InvalidTask { problems, .. } => {
                json!({ "problems": problems })
            }
            Decision::FilterError { message, exceeded } => {
                json!({ "message": message, "exceeded": exceeded })
            }
            Decision::TemplateError { path, message, exceeded } => {
                json!({ "path": path, "message": message, "exceeded": exceeded })
            }
        }
    }
}
