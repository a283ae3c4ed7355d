//! Task templates: compiled once per version of a hook, rendered once per fire.
//!
//! Two languages: minijinja, with types kept and the older `{{2 days | from-now}}` syntax, and JSON-e. Both see the
//! same context ([`context::NAMES`]) and the same frozen `now`, so that a fire rendered twice gives the same task.
//!
//! Templates are programs that strangers write. What they cost is bounded: fuel for each string (which pays for
//! instructions and for every byte made), sizes and depths for input and output, wall time for the whole. Parsers and
//! syntax trees recurse, so that compiling happens on a thread with a deep stack, after a look at the length. What all
//! this does not bound renders in a [`worker`] process.

pub mod context;
mod duration;
mod engine;
mod environment;
mod error;
pub mod expression;
pub mod functions;
mod guard;
mod isolation;
mod json;
mod json_e;
mod leaf;
mod limits;
pub mod payload;
mod seed;
mod slugid;
mod tree;
pub mod wanted;
pub mod worker;

pub use error::TemplateError;
pub use limits::Limits;
pub use slugid::slugid;
pub use worker::Workers;

use std::sync::Arc;

use context::Fire;
use engine::detect;
use isolation::Isolation;
use json_e::JsonE;
use minijinja::Value;
use sha2::{Digest, Sha256};
use wanted::Wanted;
use worker::Source;

use crate::hook::{Engine, Hook, Problem};

/// Stack of the thread that compiles. A token may cost the parser two kilobytes, and a string may have some thousands.
const COMPILE_STACK: usize = 32 << 20;

/// A compiled task template.
pub struct Template {
    code: Code,
    /// What a worker needs; only for templates that may need one.
    source: Option<Source>,
    workers: Option<Arc<Workers>>,
}

enum Code {
    Minijinja(tree::Compiled),
    JsonE(JsonE),
}

impl Template {
    /// Compiles the `task` of a hook. All faults are reported at once, with their places.
    pub fn compile(hook: &Hook, limits: &Limits) -> Result<Template, Vec<Problem>> {
        let engine = match hook.template_engine {
            Some(engine) => engine,
            None => detect(&hook.task).map_err(|problem| vec![problem])?,
        };
        Template::compile_task(&hook.task, engine, limits)
    }

    fn compile_task(
        task: &serde_json::Value,
        engine: Engine,
        limits: &Limits,
    ) -> Result<Template, Vec<Problem>> {
        let text = task.to_string();
        if text.len() > limits.template_bytes {
            let message =
                format!("has {} bytes, more than the limit of {}", text.len(), limits.template_bytes);
            return Err(vec![Problem::new("task", message)]);
        }
        let Some(map) = task.as_object() else {
            return Err(vec![Problem::new("task", "must be of type object")]);
        };
        let code = deep_stack(|| match engine {
            Engine::Minijinja => tree::compile(map, limits).map(Code::Minijinja),
            Engine::JsonE => JsonE::compile(task, "task").map(Code::JsonE),
        })?;
        let source = match code {
            Code::Minijinja(tree::Compiled { isolation: Isolation::None, .. }) => None,
            _ => Some(Source { id: hex::encode(Sha256::digest(&text)), engine, task: task.clone() }),
        };
        Ok(Template { code, source, workers: None })
    }

    /// The dotted names of the context that it reads through `context` in [`Template::render`].
    pub fn reads(&self) -> Vec<String> {
        match &self.code {
            Code::Minijinja(compiled) => compiled.reads.iter().cloned().collect(),
            Code::JsonE(_) => Vec::new(),
        }
    }

    /// Gives it workers for what can't be bounded; without them such a render is an error.
    pub fn with_workers(mut self, workers: Arc<Workers>) -> Template {
        if self.source.is_some() {
            self.workers = Some(workers);
        }
        self
    }

    /// Renders a task as JSON text. `None`: the template declines. `defaults` are put in where the task doesn't have
    /// the key. `context` is that of `fire` and `body`, for what renders here.
    pub fn render(
        &self,
        context: &Value,
        fire: &Fire,
        body: &[u8],
        defaults: &[(&str, String)],
        limits: &Limits,
    ) -> Result<Option<Vec<u8>>, TemplateError> {
        match &self.code {
            Code::Minijinja(tree::Compiled { root, isolation, .. }) => {
                if isolation.needs_worker(body.len()) {
                    return self.in_worker(fire, body, defaults, limits);
                }
                tree::Renderer::new(fire, limits).task(root, context, defaults)
            }
            Code::JsonE(template) => {
                let context = json_e_context(template, fire, body)?;
                if template.needs_worker(&context) {
                    return self.in_worker(fire, body, defaults, limits);
                }
                json_e_task(template, &context, fire, defaults, limits)
            }
        }
    }

    /// Renders in this process, whatever it may cost: for the worker.
    fn render_here(
        &self,
        fire: &Arc<Fire>,
        body: &[u8],
        defaults: &[(&str, String)],
        limits: &Limits,
    ) -> Result<Option<Vec<u8>>, TemplateError> {
        match &self.code {
            Code::Minijinja(tree::Compiled { root, .. }) => {
                let payload =
                    payload::parse_all(body).map_err(|error| TemplateError::new(error.to_string()))?;
                let context = context::Context::value(fire.clone(), payload);
                tree::Renderer::new(fire, limits).task(root, &context, defaults)
            }
            Code::JsonE(template) => {
                json_e_task(template, &json_e_context(template, fire, body)?, fire, defaults, limits)
            }
        }
    }

    fn in_worker(
        &self,
        fire: &Fire,
        body: &[u8],
        defaults: &[(&str, String)],
        limits: &Limits,
    ) -> Result<Option<Vec<u8>>, TemplateError> {
        match (&self.source, &self.workers) {
            (Some(source), Some(workers)) => workers.render(source, fire, body, defaults, limits),
            _ => Err(TemplateError::exceeded(
                "what this template may cost can't be bounded beforehand, and there is no render worker here",
            )),
        }
    }
}

fn json_e_context(
    template: &JsonE,
    fire: &Fire,
    body: &[u8],
) -> Result<serde_json::Map<String, serde_json::Value>, TemplateError> {
    let nothing = Wanted::default();
    let wanted = template.wanted().part("payload").unwrap_or(&nothing);
    let payload = payload::parse(body, wanted).map_err(|error| TemplateError::new(error.to_string()))?;
    Ok(template.prune(fire.to_json(payload)))
}

fn json_e_task(
    template: &JsonE,
    context: &serde_json::Map<String, serde_json::Value>,
    fire: &Fire,
    defaults: &[(&str, String)],
    limits: &Limits,
) -> Result<Option<Vec<u8>>, TemplateError> {
    let rendered = template.render(context, &context::timestamp(fire.now), &fire.task_id, limits)?;
    let mut task = match rendered {
        json_e::Rendered::Declined => return Ok(None),
        json_e::Rendered::Value(serde_json::Value::Object(task)) => task,
        json_e::Rendered::Value(_) => {
            return Err(TemplateError {
                path: "task".into(),
                ..TemplateError::new("must render to an object or to null")
            });
        }
    };
    for (key, text) in defaults {
        if !task.contains_key(*key) {
            task.insert((*key).to_owned(), text.as_str().into());
        }
    }
    let bytes = serde_json::to_vec(&task).map_err(|error| TemplateError::new(error.to_string()))?;
    if bytes.len() > limits.output_bytes {
        let message = format!("the rendered task is longer than {} bytes", limits.output_bytes);
        return Err(TemplateError { path: "task".into(), ..TemplateError::exceeded(message) });
    }
    Ok(Some(bytes))
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
