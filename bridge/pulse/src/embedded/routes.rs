//! Which queues a message reaches: the exchanges and their bindings, in memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::topic::Pattern;
use crate::transport::Binding;

/// All exchanges. A binding stands only on an exchange that was declared.
#[derive(Default)]
pub(super) struct Routes {
    exchanges: HashMap<String, Exchange>,
}

/// Patterns without wildcards are found by key: a trigger exchange has one for each hook.
#[derive(Default)]
struct Exchange {
    exact: HashMap<String, BTreeSet<Arc<str>>>,
    patterns: Vec<(Pattern, Arc<str>)>,
}

impl Routes {
    pub fn has_exchange(&self, name: &str) -> bool {
        self.exchanges.contains_key(name)
    }

    pub fn add_exchange(&mut self, name: String) {
        self.exchanges.entry(name).or_default();
    }

    /// False if there is no such exchange.
    pub fn bind(&mut self, queue: &Arc<str>, binding: &Binding) -> bool {
        let Some(exchange) = self.exchanges.get_mut(&binding.exchange) else { return false };
        if is_exact(&binding.pattern) {
            exchange.exact.entry(binding.pattern.clone()).or_default().insert(queue.clone());
        } else {
            let there = |(p, q): &(Pattern, Arc<str>)| p.as_str() == binding.pattern && q == queue;
            if !exchange.patterns.iter().any(there) {
                exchange.patterns.push((Pattern::new(binding.pattern.clone()), queue.clone()));
            }
        }
        true
    }

    pub fn unbind(&mut self, queue: &str, binding: &Binding) {
        let Some(exchange) = self.exchanges.get_mut(&binding.exchange) else { return };
        if let Some(queues) = exchange.exact.get_mut(&binding.pattern) {
            queues.remove(queue);
            if queues.is_empty() {
                exchange.exact.remove(&binding.pattern);
            }
        }
        exchange.patterns.retain(|(p, q)| !(p.as_str() == binding.pattern && &**q == queue));
    }

    pub fn unbind_all(&mut self, queue: &str) {
        for exchange in self.exchanges.values_mut() {
            exchange.exact.retain(|_, queues| {
                queues.remove(queue);
                !queues.is_empty()
            });
            exchange.patterns.retain(|(_, q)| &**q != queue);
        }
    }

    /// The queues bound for this key, each once. `None`: no such exchange.
    pub fn queues(&self, exchange: &str, routing_key: &str) -> Option<BTreeSet<Arc<str>>> {
        let exchange = self.exchanges.get(exchange)?;
        let mut found = exchange.exact.get(routing_key).cloned().unwrap_or_default();
        found.extend(
            exchange.patterns.iter().filter(|(p, _)| p.matches(routing_key)).map(|(_, queue)| queue.clone()),
        );
        Some(found)
    }
}

fn is_exact(pattern: &str) -> bool {
    !pattern.split('.').any(|word| word == "*" || word == "#")
}
