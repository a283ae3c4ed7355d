//! From the JSON of a task to a compiled tree; every fault is reported with its place.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Entry, Node, Object};
use crate::hook::Problem;
use crate::hook::problem::child;
use crate::template::Limits;
use crate::template::context::NAMES;
use crate::template::environment;
use crate::template::isolation::Isolation;
use crate::template::leaf::{Expr, Leaf, Scope};

/// A compiled template.
pub struct Compiled {
    /// The task.
    pub root: Object,
    /// Whether it may render in this process.
    pub isolation: Isolation,
    /// The dotted names of the context that it reads.
    pub reads: BTreeSet<String>,
}

struct Compiler<'a> {
    limits: &'a Limits,
    isolation: Isolation,
    reads: BTreeSet<String>,
    problems: Vec<Problem>,
    names: Vec<String>,
}

/// Compiles the `task` of a hook. Must run on a thread with a deep stack; see [`crate::template`].
pub fn compile(task: &Map<String, Value>, limits: &Limits) -> Result<Compiled, Vec<Problem>> {
    let mut compiler = Compiler {
        limits,
        isolation: Isolation::None,
        reads: BTreeSet::new(),
        problems: Vec::new(),
        names: NAMES.iter().map(|name| (*name).to_owned()).collect(),
    };
    let object = compiler.object(task, "task");
    if compiler.problems.is_empty() {
        Ok(Compiled { root: object, isolation: compiler.isolation, reads: compiler.reads })
    } else {
        Err(compiler.problems)
    }
}

/// Whether a JSON value has minijinja's markers in a string or key.
fn has_markers(value: &Value) -> bool {
    let marked = |text: &str| text.contains("{{") || text.contains("{%") || text.contains("{#");
    match value {
        Value::String(text) => marked(text),
        Value::Array(items) => items.iter().any(has_markers),
        Value::Object(map) => map.iter().any(|(key, value)| marked(key) || has_markers(value)),
        _ => false,
    }
}

impl Compiler<'_> {
    fn node(&mut self, value: &Value, path: &str) -> Node {
        if !has_markers(value) {
            return Node::Raw(value.to_string().into());
        }
        match value {
            Value::String(text) => match self.leaf(text, path) {
                Some(leaf) => Node::Leaf(leaf),
                None => Node::Raw("null".into()),
            },
            Value::Array(items) => Node::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.node(item, &format!("{path}[{index}]")))
                    .collect(),
            ),
            Value::Object(map) => Node::Object(self.object(map, path)),
            _ => Node::Raw(value.to_string().into()),
        }
    }

    fn object(&mut self, map: &Map<String, Value>, path: &str) -> Object {
        let mut entries = Vec::new();
        let mut dynamic = false;
        let mut conditions = 0;
        let mut otherwise = None;
        for (key, value) in map {
            let here = child(path, key);
            match statement(key) {
                None if !has_markers(&Value::String(key.clone())) => {
                    entries.push(Entry::Static(Value::String(key.clone()).to_string().into(), self.node(value, &here)));
                }
                None => {
                    dynamic = true;
                    if let Some(leaf) = self.leaf(key, &here) {
                        entries.push(Entry::Templated(leaf, key.as_str().into(), self.node(value, &here)));
                    }
                }
                Some(Statement::If(condition)) => {
                    dynamic = true;
                    conditions += 1;
                    let then = self.node(value, &here);
                    if let Some(condition) = self.expression(condition, &here) {
                        entries.push(Entry::If { key: key.as_str().into(), condition, then, otherwise: None });
                    }
                }
                Some(Statement::Else) => otherwise = Some((here.clone(), self.node(value, &here))),
                Some(Statement::For(names, list)) => {
                    dynamic = true;
                    let list = self.expression(list, &here);
                    let before = self.names.len();
                    self.names.extend(names.iter().map(|name| (*name).to_owned()));
                    self.names.push("loop".to_owned());
                    let body = self.node(value, &here);
                    self.names.truncate(before);
                    let names = names.into_iter().map(Arc::from).collect();
                    if let Some(list) = list {
                        entries.push(Entry::For { key: key.as_str().into(), names, list, body });
                    }
                }
                Some(Statement::Unknown) => self.problems.push(Problem::new(
                    here,
                    "is not a statement that a key can be; there are {% if … %}, {% else %} and {% for x in … %}",
                )),
            }
        }
        if let Some((here, node)) = otherwise {
            let the_if = entries.iter_mut().find_map(|entry| match entry {
                Entry::If { otherwise, .. } => Some(otherwise),
                _ => None,
            });
            match (conditions, the_if) {
                (1, Some(slot)) => *slot = Some(node),
                _ => self.problems.push(Problem::new(
                    here,
                    "needs exactly one {% if … %} in the same object; nest further ones in its {% else %}",
                )),
            }
        }
        Object { entries: entries.into(), dynamic }
    }

    fn scope_names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    fn scope<'n>(&self, names: &'n [&'n str]) -> Scope<'n> {
        Scope { environment: environment::shared(self.limits.fuel), tokens: self.limits.tokens, names }
    }

    fn leaf(&mut self, text: &str, path: &str) -> Option<Leaf> {
        self.isolation = self.isolation.max(Isolation::of(text));
        let names = self.scope_names();
        let scope = self.scope(&names);
        match Leaf::compile(text, &scope) {
            Ok(leaf) => {
                leaf.reads(text, &mut self.reads);
                Some(leaf)
            }
            Err(error) => {
                self.problems.push(Problem::new(path, error.message));
                None
            }
        }
    }

    fn expression(&mut self, text: &str, path: &str) -> Option<Expr> {
        self.isolation = self.isolation.max(Isolation::of(text));
        let names = self.scope_names();
        let scope = self.scope(&names);
        match Expr::compile(text, &scope) {
            Ok(expr) => {
                self.reads.extend(expr.names());
                Some(expr)
            }
            Err(error) => {
                self.problems.push(Problem::new(path, error.message));
                None
            }
        }
    }
}

enum Statement<'a> {
    If(&'a str),
    Else,
    For(Vec<&'a str>, &'a str),
    Unknown,
}

fn statement(key: &str) -> Option<Statement<'_>> {
    let inner = key.trim().strip_prefix("{%")?.strip_suffix("%}")?;
    if inner.contains("%}") {
        return None;
    }
    let inner = inner.trim_matches('-').trim();
    let (word, rest) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    Some(match word {
        "if" if !rest.trim().is_empty() => Statement::If(rest.trim()),
        "else" if rest.trim().is_empty() => Statement::Else,
        "for" => match rest.split_once(" in ") {
            Some((names, list)) => {
                let names: Vec<&str> = names.split(',').map(str::trim).collect();
                let word = |name: &&str| {
                    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                };
                if names.iter().all(word) { Statement::For(names, list.trim()) } else { Statement::Unknown }
            }
            None => Statement::Unknown,
        },
        _ => Statement::Unknown,
    })
}
