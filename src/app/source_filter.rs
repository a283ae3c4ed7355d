//! Filters of webhook sources: the same expressions as a hook's `filter`, over the message that would be published.

use std::sync::Arc;

use chrono::Utc;

use crate::filter::{Filter, Verdict};
use crate::hook::HookName;
use crate::router::decide::Limits;
use crate::template::context::{Context, Fire};
use crate::template::payload;

/// What the bridge compiles its sources' filters with. Names of fire and hook are empty there: nothing has fired yet.
pub fn compiler(limits: &Limits) -> bridge::CompileFilter {
    let limits = limits.clone();
    Arc::new(move |expression: &str| {
        let filter = Filter::compile(expression, &limits).map_err(|problems| {
            problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
        })?;
        let filter: bridge::Filter = Arc::new(move |message, _| {
            let payload = payload::parse_all(&message.body).map_err(|error| error.to_string())?;
            let fire = Fire {
                hook: Arc::new(HookName { group: String::new(), id: String::new() }),
                exchange: message.exchange.clone(),
                routing_key: message.routing_key.clone(),
                headers: message.properties.headers.clone(),
                message_id: message.properties.message_id.clone(),
                fired_by: "pulseMessage".into(),
                client_id: None,
                scheduled_for: None,
                task_id: String::new(),
                now: Utc::now(),
            };
            let context = Context::value(Arc::new(fire), payload);
            match filter.decide(&context) {
                Ok(Verdict::Yes) => Ok(true),
                Ok(Verdict::No { .. }) => Ok(false),
                Err(error) => Err(error.to_string()),
            }
        });
        Ok(filter)
    })
}
