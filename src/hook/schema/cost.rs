//! What a schema can cost, told before anybody pays it.
//!
//! A reference is a few bytes and stands for all that its target says: eight definitions that refer to one another twenty
//! times each are checked 20^8 times. The validator has no limit of its own, so when a schema is compiled its references
//! are followed here, and it may say only so much.
//!
//! For a schema that refers to itself that is a bound for each value of a document, too, because of what the validator keeps:
//! whether a list or an object satisfies the target at which a cycle closes is worked out once, unless that was little work.
//! So such a target counts by itself, as far as to where it comes again.

use serde_json::Value;

use super::references::{INNER, INNER_MAPS, SAME, SAME_LISTS, Target, follow};
use crate::hook::Problem;
use crate::hook::problem::child;

/// Schemas within a schema, those that references repeat included.
const MAX_NODES: usize = 10_000;
/// Levels of schemas within one another, references followed: whoever validates recurses.
const MAX_LEVELS: usize = 128;
/// The same in a schema that refers to itself, for each level of a document.
const MAX_LEVELS_OF_CYCLE: usize = 16;
/// What the schema of schemas counts for; it has fewer nodes.
const META_SCHEMA_NODES: usize = 300;

/// What a schema costs.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Schemas in it, with its references followed.
    nodes: usize,
    /// It refers to itself.
    is_recursive: bool,
}

impl Cost {
    /// Steps for each value of a document at most: the validator looks at each of them with each node, and once more for each
    /// node of a cycle, because what it finds out about small values it does not keep.
    pub fn of_a_value(self) -> usize {
        if self.is_recursive { self.nodes * self.nodes } else { self.nodes }
    }
}

/// Refuses a plain schema that says too much with its references followed.
pub fn check(schema: &Value) -> Result<Cost, Problem> {
    let mut walk =
        Walk { schema, left: MAX_NODES, is_recursive: false, under_way: Vec::new(), starts: vec![schema] };
    let mut next = 0;
    while let Some(at) = walk.starts.get(next).copied() {
        next += 1;
        walk.under_way = vec![(at, Depth::default())];
        walk.node(at, Depth::default(), "")?;
    }
    Ok(Cost { nodes: MAX_NODES - walk.left, is_recursive: walk.is_recursive })
}

/// How deep a walk is: in schemas, and in levels into the document.
#[derive(Clone, Copy, Default)]
struct Depth {
    levels: usize,
    inner: usize,
}

impl Depth {
    fn same(self) -> Self {
        Self { levels: self.levels + 1, ..self }
    }

    fn inner(self) -> Self {
        Self { levels: self.levels + 1, inner: self.inner + 1 }
    }
}

struct Walk<'a> {
    /// All of it.
    schema: &'a Value,
    left: usize,
    is_recursive: bool,
    /// The targets that are being walked through, and how deep they began.
    under_way: Vec<(&'a Value, Depth)>,
    /// Where to start: the schema, and each target at which a cycle closes.
    starts: Vec<&'a Value>,
}

impl<'a> Walk<'a> {
    fn node(&mut self, at: &'a Value, depth: Depth, path: &str) -> Result<(), Problem> {
        self.spend(1)?;
        if depth.levels > MAX_LEVELS {
            return Err(Problem::new(
                path,
                format!("is nested deeper than {MAX_LEVELS} levels, references followed"),
            ));
        }
        let Value::Object(map) = at else { return Ok(()) };
        // Draft 7: a reference's siblings say nothing.
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            return self.reference(reference, depth, &child(path, "$ref"));
        }
        for (key, value) in map {
            let here = || child(path, key);
            match (key.as_str(), value) {
                (key, Value::Array(items)) if SAME_LISTS.contains(&key) => {
                    self.list(items, depth.same(), &here())?
                }
                ("items", Value::Array(items)) => self.list(items, depth.inner(), &here())?,
                (key, _) if SAME.contains(&key) => self.node(value, depth.same(), &here())?,
                (key, _) if INNER.contains(&key) => self.node(value, depth.inner(), &here())?,
                ("dependencies", Value::Object(map)) => {
                    for (key, value) in map.iter().filter(|(_, value)| !value.is_array()) {
                        self.node(value, depth.same(), &child(&here(), key))?;
                    }
                }
                (key, Value::Object(map)) if INNER_MAPS.contains(&key) => {
                    for (key, value) in map {
                        self.node(value, depth.inner(), &child(&here(), key))?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &'a [Value], depth: Depth, path: &str) -> Result<(), Problem> {
        for (index, value) in items.iter().enumerate() {
            self.node(value, depth, &format!("{path}[{index}]"))?;
        }
        Ok(())
    }

    fn reference(&mut self, reference: &str, depth: Depth, path: &str) -> Result<(), Problem> {
        let target = match follow(self.schema, reference) {
            Target::Found(target) => target,
            Target::MetaSchema => {
                self.is_recursive = true;
                return self.spend(META_SCHEMA_NODES);
            }
            Target::Missing => return Err(Problem::new(path, "leads nowhere in this schema")),
        };
        if let Some((_, begun)) = self.under_way.iter().find(|(schema, _)| std::ptr::eq(*schema, target)) {
            let (levels, inner) = (depth.levels - begun.levels, depth.inner - begun.inner);
            if inner == 0 {
                let why = "leads back to itself without going deeper into the document: it says nothing";
                return Err(Problem::new(path, why));
            }
            if levels > inner * MAX_LEVELS_OF_CYCLE {
                let why =
                    format!("leads back to itself over more than {MAX_LEVELS_OF_CYCLE} levels of the schema");
                return Err(Problem::new(path, why));
            }
            self.is_recursive = true;
            if !self.starts.iter().any(|known| std::ptr::eq(*known, target)) {
                self.starts.push(target);
            }
            return Ok(());
        }
        self.under_way.push((target, depth));
        self.node(target, depth.same(), path)?;
        self.under_way.pop();
        Ok(())
    }

    fn spend(&mut self, nodes: usize) -> Result<(), Problem> {
        self.left = self.left.checked_sub(nodes).ok_or_else(|| {
            let why =
                format!("says too much: with its references followed a schema may hold {MAX_NODES} schemas");
            Problem::new("", why)
        })?;
        Ok(())
    }
}
