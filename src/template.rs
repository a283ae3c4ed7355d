//! Task templates: compiled once per version of a hook, rendered once per fire.
//!
//! Two languages: minijinja, with types kept and the older `{{2 days | from-now}}` syntax, and JSON-e. Both see the
//! same context ([`context::NAMES`]) and the same frozen `now`, so that a fire rendered twice gives the same task.
//!
//! Templates are programs that strangers write. What they cost is bounded: fuel for each string (which pays for
//! instructions and for every byte made), sizes and depths for input and output, wall time for the whole. Parsers and
//! syntax trees recurse, so that compiling happens on a thread with a deep stack, after a look at the length.

pub mod context;
mod duration;
mod environment;
mod error;
pub mod expression;
pub mod functions;
mod guard;
mod json;
mod json_e;
mod leaf;
mod limits;
pub mod payload;
mod seed;
mod slugid;
mod tree;

pub use error::TemplateError;
pub use limits::Limits;
pub use slugid::slugid;

use context::Fire;
use minijinja::Value;

use crate::hook::{Engine, Hook, Problem};

/// Stack of the thread that compiles. A token may cost the parser two kilobytes, and a string may have some thousands.
const COMPILE_STACK: usize = 32 << 20;

/// A compiled task template.
pub struct Template {
    root: tree::Object,
}

impl Template {
    /// Compiles the `task` of a hook. All faults are reported at once, with their places.
    pub fn compile(hook: &Hook, limits: &Limits) -> Result<Template, Vec<Problem>> {
        let engine = match hook.template_engine {
            Some(engine) => engine,
            None => detect(&hook.task).map_err(|problem| vec![problem])?,
        };
        if engine == Engine::JsonE {
            return Err(vec![Problem::new("templateEngine", "json-e is not there yet")]);
        }
        let Some(task) = hook.task.as_object() else {
            return Err(vec![Problem::new("task", "must be of type object")]);
        };
        deep_stack(|| tree::compile(task, limits)).map(|root| Template { root })
    }

    /// Renders a task as JSON text. `None`: the template declines. `defaults` are put in where the task doesn't have
    /// the key.
    pub fn render(
        &self,
        context: &Value,
        fire: &Fire,
        defaults: &[(&str, String)],
        limits: &Limits,
    ) -> Result<Option<Vec<u8>>, TemplateError> {
        tree::Renderer::new(fire, limits).task(&self.root, context, defaults)
    }
}

/// Runs on a thread of its own with a deep stack.
pub(crate) fn deep_stack<T: Send>(
    work: impl FnOnce() -> Result<T, Vec<Problem>> + Send,
) -> Result<T, Vec<Problem>> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("compile".into())
            .stack_size(COMPILE_STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| vec![Problem::new("", format!("there is no thread to compile on: {error}"))])?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A value as JSON, cut after so many characters: for records that people read.
pub fn shortened_json(value: &Value, most: usize) -> String {
    match json::text_of(value) {
        Ok(text) => match text.char_indices().nth(most) {
            Some((cut, _)) => format!("{}…", &text[..cut]),
            None => text,
        },
        Err(_) => format!("({})", value.kind()),
    }
}

/// The language that the markers in a task speak.
fn detect(task: &serde_json::Value) -> Result<Engine, Problem> {
    let mut found = Markers::default();
    found.look(task);
    match found {
        Markers { json_e: true, minijinja: true } => Err(Problem::new(
            "templateEngine",
            "must be given (minijinja or json-e), because the task has the markers of both: {{…}} or {%…%}, and ${…} or $operators",
        )),
        Markers { json_e: true, .. } => Ok(Engine::JsonE),
        _ => Ok(Engine::Minijinja),
    }
}

#[derive(Default)]
struct Markers {
    json_e: bool,
    minijinja: bool,
}

/// JSON-e's operators.
pub(crate) const OPERATORS: [&str; 16] = [
    "$eval",
    "$flatten",
    "$flattenDeep",
    "$fromNow",
    "$if",
    "$json",
    "$let",
    "$map",
    "$reduce",
    "$find",
    "$match",
    "$switch",
    "$merge",
    "$mergeDeep",
    "$reverse",
    "$sort",
];

impl Markers {
    fn look(&mut self, value: &serde_json::Value) {
        match value {
            serde_json::Value::String(text) => self.text(text),
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.look(item)),
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    self.json_e |= OPERATORS.contains(&key.as_str());
                    self.text(key);
                    self.look(value);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        self.json_e |= text.contains("${");
        self.minijinja |= text.contains("{{") || text.contains("{%");
    }
}
