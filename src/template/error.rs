//! Why a template doesn't compile or doesn't render.

use crate::hook::Problem;

/// A fault at one place of a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{}", Problem::new(self.path.clone(), self.message.clone()))]
pub struct TemplateError {
    /// The place in the hook document, e.g. `task.payload.env.REV`.
    pub path: String,
    /// What is wrong, e.g. `'payload.head_commit' is undefined`.
    pub message: String,
    /// True when the template exceeded a limit (fuel, size, depth, time): a hook that keeps doing so is slowed.
    pub exceeded: bool,
}

impl TemplateError {
    /// A fault whose path is added by [`TemplateError::within`] on the way up.
    pub fn new(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into(), exceeded: false }
    }

    /// A limit that was exceeded.
    pub fn exceeded(message: impl Into<String>) -> Self {
        Self { exceeded: true, ..Self::new(message) }
    }

    /// The same fault, one key further up: `key` goes in front of the path.
    pub fn within(mut self, key: &str) -> Self {
        self.prepend(&crate::hook::problem::child("", key));
        self
    }

    /// The same fault, one list further up.
    pub fn within_index(mut self, index: usize) -> Self {
        self.prepend(&format!("[{index}]"));
        self
    }

    fn prepend(&mut self, segment: &str) {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{segment}{dot}{}", self.path);
    }
}

impl From<TemplateError> for Problem {
    fn from(error: TemplateError) -> Self {
        Problem { path: error.path, message: error.message }
    }
}
