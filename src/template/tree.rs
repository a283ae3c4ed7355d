//! A whole task template, compiled once per version of the hook.
//!
//! Parts without markers are kept as JSON text that only needs copying. Choice and repetition stand in keys, so that
//! they read well in YAML:
//!
//! ```yaml
//! env:
//!   BRANCH: "{{ payload.ref | basename }}"
//!   PRIORITY: "{{ payload.priority | default(omit) }}"   # the key drops out
//!   "{% if payload.forced %}":                           # keys for one case
//!     FORCED: "1"
//!   "{% else %}":
//!     FORCED: "0"
//!   "{% for name, value in payload.vars | items %}":     # keys from an object
//!     "VAR_{{ name }}": "{{ value }}"
//! commands:
//!   - make
//!   - "{% for commit in payload.commits %}":             # list items from a list
//!       check: "{{ commit.id }}"
//! ```
//!
//! A statement in an object gives keys (so its body is an object), one in a list gives items. `{% else %}` belongs to
//! the one `{% if %}` of its object; the order of several statements doesn't matter, because a key that two of them
//! give is an error. A loop has `loop.index`, `index0`, `first`, `last`, `length`.

mod compile;
mod render;

use minijinja::Value;

use super::leaf::{Expr, Leaf};

pub use compile::{Compiled, compile};
pub use render::Renderer;

/// A value of the template.
pub enum Node {
    /// JSON text.
    Raw(Box<str>),
    /// A string with markers.
    Leaf(Leaf),
    /// An object with markers somewhere in it.
    Object(Object),
    /// A list with markers somewhere in it.
    List(Box<[Node]>),
}

/// An object with markers.
pub struct Object {
    entries: Box<[Entry]>,
    /// Keys are only known when rendered, so that one could come twice.
    dynamic: bool,
}

/// A part of an object.
pub enum Entry {
    /// A key that is known, as JSON text, and its value.
    Static(Box<str>, Node),
    /// A key with markers.
    Templated(Leaf, Box<str>, Node),
    /// `{% if %}` with its `{% else %}`.
    If {
        /// The key as written, for error paths.
        key: Box<str>,
        condition: Expr,
        then: Node,
        otherwise: Option<Node>,
    },
    /// `{% for %}`
    For { key: Box<str>, names: Box<[std::sync::Arc<str>]>, list: Expr, body: Node },
}

impl Object {
    /// Only statements: in a list it gives items, as a whole task it may give nothing.
    pub fn only_statements(&self) -> bool {
        self.entries.iter().all(|entry| matches!(entry, Entry::If { .. } | Entry::For { .. }))
    }
}

/// Whether a value counts as true.
fn truth(value: &Value) -> bool {
    value.is_true()
}
