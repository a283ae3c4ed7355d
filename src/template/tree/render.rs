//! From a compiled tree and a message to the bytes of a task.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minijinja::Value;

use super::{Entry, Node, Object, truth};
use crate::template::context::{Fire, Scope};
use crate::template::json::Writer;
use crate::template::leaf::Expr;
use crate::template::{Limits, TemplateError};

/// One render: the fire, the budget that is left, the output.
pub struct Renderer<'a> {
    fire: &'a Fire,
    out: Writer,
    rounds: usize,
    limits: &'a Limits,
    watch: Watch,
}

/// How long a render has worked, as far as the wall clock can tell: between two looks at most [`STEP`] counts, because a process
/// that stood still meanwhile (stopped, or its machine was) is no fault of the template.
struct Watch {
    looked: Instant,
    worked: Duration,
}

/// Ten times what one string may take by its fuel.
const STEP: Duration = Duration::from_millis(100);

impl Watch {
    fn new(now: Instant) -> Self {
        Self { looked: now, worked: Duration::ZERO }
    }

    /// How long it has worked until now.
    fn look(&mut self, now: Instant) -> Duration {
        self.worked += now.saturating_duration_since(self.looked).min(STEP);
        self.looked = now;
        self.worked
    }
}

/// Where the parts of an object go: what separates them, and the keys that were there.
struct Keys {
    first: bool,
    seen: Option<HashSet<String>>,
}

impl<'a> Renderer<'a> {
    /// A render under these limits.
    pub fn new(fire: &'a Fire, limits: &'a Limits) -> Self {
        Self {
            fire,
            out: Writer::new(limits.output_bytes, limits.depth),
            rounds: 0,
            limits,
            watch: Watch::new(Instant::now()),
        }
    }

    /// Renders a task. `None`: the template gave nothing, which declines. `extra` is asked for what to add for keys
    /// that are absent: pairs of a key and the JSON of its value.
    pub fn task(
        mut self,
        root: &Object,
        context: &Value,
        defaults: &[(&str, String)],
    ) -> Result<Option<Vec<u8>>, TemplateError> {
        self.out.raw("{")?;
        let mut keys = Keys { first: true, seen: Some(HashSet::new()) };
        self.entries(root, context, &mut keys).map_err(|error| error.within("task"))?;
        if keys.first && root.only_statements() && !root.entries.is_empty() {
            return Ok(None);
        }
        for (key, text) in defaults {
            if keys.seen.as_ref().is_some_and(|seen| !seen.contains(*key)) {
                self.comma(&mut keys)?;
                self.out.string(key)?;
                self.out.raw(":")?;
                self.out.string(text)?;
            }
        }
        self.out.raw("}")?;
        Ok(Some(self.out.into_bytes()))
    }

    fn node(&mut self, node: &Node, context: &Value) -> Result<bool, TemplateError> {
        match node {
            Node::Raw(text) => self.out.raw(text).map(|()| true),
            Node::Leaf(leaf) => {
                self.check_time()?;
                leaf.write(context, self.fire, &mut self.out)
            }
            Node::Object(object) => {
                self.out.raw("{")?;
                let seen = object.dynamic.then(HashSet::new);
                self.entries(object, context, &mut Keys { first: true, seen })?;
                self.out.raw("}").map(|()| true)
            }
            Node::List(items) => {
                self.out.raw("[")?;
                let mut first = true;
                for (index, item) in items.iter().enumerate() {
                    self.item(item, context, &mut first).map_err(|error| error.within_index(index))?;
                }
                self.out.raw("]").map(|()| true)
            }
        }
    }

    /// One element of a list in the template: one item, or those that its statements give.
    fn item(&mut self, node: &Node, context: &Value, first: &mut bool) -> Result<(), TemplateError> {
        if let Node::Object(object) = node
            && object.only_statements()
        {
            for entry in &object.entries {
                match entry {
                    Entry::If { key, condition, then, otherwise } => {
                        let chosen = self.choose(condition, then, otherwise.as_ref(), context);
                        if let Some(node) = chosen.map_err(|error| error.within(key))? {
                            self.item(node, context, first).map_err(|error| error.within(key))?;
                        }
                    }
                    Entry::For { key, names, list, body } => {
                        self.each(names, list, context, &mut |this, scope| this.item(body, scope, first))
                            .map_err(|error| error.within(key))?;
                    }
                    _ => {}
                }
            }
            return Ok(());
        }
        let before = self.out.len();
        if !*first {
            self.out.raw(",")?;
        }
        if self.node(node, context)? {
            *first = false;
        } else {
            self.out.truncate(before);
        }
        Ok(())
    }

    fn entries(&mut self, object: &Object, context: &Value, keys: &mut Keys) -> Result<(), TemplateError> {
        for entry in &object.entries {
            match entry {
                Entry::Static(key, node) => {
                    // Only objects whose keys aren't all known keep account of them.
                    self.pair(key, node, context, keys).map_err(|error| {
                        error.within(&serde_json::from_str::<String>(key).unwrap_or_default())
                    })?;
                }
                Entry::Templated(leaf, source, node) => {
                    let key = leaf.text(context, self.fire).map_err(|error| error.within(source))?;
                    let json = serde_json::Value::from(key.as_str()).to_string();
                    self.pair(&json, node, context, keys).map_err(|error| error.within(&key))?;
                }
                Entry::If { key, condition, then, otherwise } => {
                    let chosen = self
                        .choose(condition, then, otherwise.as_ref(), context)
                        .map_err(|error| error.within(key))?;
                    if let Some(node) = chosen {
                        self.merge(node, context, keys).map_err(|error| error.within(key))?;
                    }
                }
                Entry::For { key, names, list, body } => {
                    self.each(names, list, context, &mut |this, scope| this.merge(body, scope, keys))
                        .map_err(|error| error.within(key))?;
                }
            }
        }
        Ok(())
    }

    /// The body of a statement in an object: its keys become keys of the surrounding object.
    fn merge(&mut self, node: &Node, context: &Value, keys: &mut Keys) -> Result<(), TemplateError> {
        match node {
            Node::Object(object) => self.entries(object, context, keys),
            Node::Raw(text) => {
                let value = serde_json::from_str(text).unwrap_or_default();
                let serde_json::Value::Object(map) = value else {
                    return Err(TemplateError::new("must be an object, because it stands in an object"));
                };
                for (key, value) in map {
                    let json = serde_json::Value::from(key.as_str()).to_string();
                    let node = Node::Raw(value.to_string().into());
                    self.pair(&json, &node, context, keys).map_err(|error| error.within(&key))?;
                }
                Ok(())
            }
            _ => Err(TemplateError::new("must be an object, because it stands in an object")),
        }
    }

    fn pair(
        &mut self,
        key: &str,
        node: &Node,
        context: &Value,
        keys: &mut Keys,
    ) -> Result<(), TemplateError> {
        let before = self.out.len();
        let was_first = keys.first;
        self.comma(keys)?;
        self.out.raw(key)?;
        self.out.raw(":")?;
        if !self.node(node, context)? {
            self.out.truncate(before);
            keys.first = was_first;
            return Ok(());
        }
        if let Some(seen) = &mut keys.seen
            && !seen.insert(key[1..key.len() - 1].to_owned())
        {
            return Err(TemplateError::new("is given twice"));
        }
        Ok(())
    }

    fn comma(&mut self, keys: &mut Keys) -> Result<(), TemplateError> {
        if keys.first {
            keys.first = false;
            Ok(())
        } else {
            self.out.raw(",")
        }
    }

    fn choose<'n>(
        &mut self,
        condition: &Expr,
        then: &'n Node,
        otherwise: Option<&'n Node>,
        context: &Value,
    ) -> Result<Option<&'n Node>, TemplateError> {
        self.check_time()?;
        Ok(if truth(&condition.eval_lax(context)?) { Some(then) } else { otherwise })
    }

    fn each(
        &mut self,
        names: &[Arc<str>],
        list: &Expr,
        context: &Value,
        body: &mut dyn FnMut(&mut Self, &Value) -> Result<(), TemplateError>,
    ) -> Result<(), TemplateError> {
        let value = list.eval(context)?;
        let items = value.try_iter().map_err(|_| {
            TemplateError::new(format!("{} is {}, which has no items", list.source(), value.kind()))
        })?;
        let length = value.len();
        for (index, item) in items.enumerate() {
            self.rounds += 1;
            if self.rounds > self.limits.rounds {
                return Err(TemplateError::exceeded(format!(
                    "loops go round more than {} times",
                    self.limits.rounds
                )));
            }
            self.check_time()?;
            let mut variables: Vec<(Arc<str>, Value)> = Vec::with_capacity(names.len() + 1);
            if let [name] = names {
                variables.push((name.clone(), item));
            } else {
                let parts: Vec<Value> = item.try_iter().map(Iterator::collect).unwrap_or_default();
                if parts.len() != names.len() {
                    return Err(TemplateError::new(format!(
                        "an item doesn't have {} parts; for the pairs of an object write | items",
                        names.len()
                    )));
                }
                variables.extend(names.iter().cloned().zip(parts));
            }
            let mut state = vec![
                ("index", Value::from(index + 1)),
                ("index0", Value::from(index)),
                ("first", Value::from(index == 0)),
            ];
            if let Some(length) = length {
                state.push(("length", Value::from(length)));
                state.push(("last", Value::from(index + 1 == length)));
            }
            variables.push(("loop".into(), Value::from_pairs(state)));
            body(self, &Scope::value(context.clone(), variables))?;
        }
        Ok(())
    }

    fn check_time(&mut self) -> Result<(), TemplateError> {
        if self.watch.look(Instant::now()) > Duration::from_millis(self.limits.render_ms) {
            return Err(TemplateError::exceeded(format!(
                "takes longer than {} ms to render",
                self.limits.render_ms
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_stood_still_has_not_worked() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(watch.look(at(3)), Duration::from_millis(3));
        assert_eq!(watch.look(at(5_003)), Duration::from_millis(103), "stopped for five seconds");
        assert_eq!(watch.look(at(5_013)), Duration::from_millis(113));
    }
}
