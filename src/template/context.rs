//! What templates and filters see: the message, its hook, the fire, and the frozen moment.
//!
//! The context is one object that makes its values when they are asked for: most templates look at the payload and
//! one or two others. The payload is parsed once per message and shared by filter, template and all their strings.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use minijinja::value::{Enumerator, Object, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::hook::HookName;

/// The names that templates and filters can use, in the order of the documentation.
pub const NAMES: [&str; 12] = [
    "payload",
    "exchange",
    "routingKey",
    "headers",
    "messageId",
    "firedBy",
    "clientId",
    "scheduledFor",
    "taskId",
    "now",
    "hookGroupId",
    "hookId",
];

/// Where functions find the fire. Not a word that a template could write.
const FIRE: &str = "\u{1}fire";

/// All about one fire but the payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fire {
    /// The hook.
    pub hook: Arc<HookName>,
    /// The message without its body.
    pub exchange: String,
    /// Routing key of the message.
    pub routing_key: String,
    /// Headers of the message.
    pub headers: pulse::Headers,
    /// `message-id` of the message.
    pub message_id: Option<String>,
    /// What fired the hook, as Taskcluster names it.
    pub fired_by: Cow<'static, str>,
    /// Who triggered it, where somebody did.
    pub client_id: Option<String>,
    /// The scheduled moment, where it was a schedule.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// The id of the task to be.
    pub task_id: String,
    /// The frozen moment.
    pub now: DateTime<Utc>,
}

impl Fire {
    /// The context as JSON for JSON-e: as in Taskcluster, what isn't there isn't defined.
    pub fn to_json(&self, payload: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
        let mut map = serde_json::Map::new();
        map.insert("payload".into(), payload);
        for (name, value) in [
            ("exchange", Some(self.exchange.as_str())),
            ("routingKey", Some(self.routing_key.as_str())),
            ("messageId", self.message_id.as_deref()),
            ("firedBy", Some(&*self.fired_by)),
            ("clientId", self.client_id.as_deref()),
            ("taskId", Some(self.task_id.as_str())),
            ("hookGroupId", Some(self.hook.group.as_str())),
            ("hookId", Some(self.hook.id.as_str())),
        ] {
            if let Some(value) = value {
                map.insert(name.into(), value.into());
            }
        }
        map.insert("headers".into(), json!(self.headers));
        map.insert("now".into(), timestamp(self.now).into());
        if let Some(at) = self.scheduled_for {
            map.insert("scheduledFor".into(), timestamp(at).into());
        }
        map
    }
}

/// The root context of a minijinja template or filter.
#[derive(Debug)]
pub struct Context {
    fire: Arc<Fire>,
    payload: Value,
}

impl Context {
    /// The context value for one message.
    pub fn value(fire: Arc<Fire>, payload: Value) -> Value {
        Value::from_object(Context { fire, payload })
    }
}

#[derive(Debug)]
struct FireHandle(Arc<Fire>);

impl Object for FireHandle {}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let fire = &self.fire;
        Some(match key {
            "payload" => self.payload.clone(),
            "exchange" => Value::from(&*fire.exchange),
            "routingKey" => Value::from(&*fire.routing_key),
            "headers" => Value::from(minijinja::value::Serde(&fire.headers)),
            "messageId" => optional(fire.message_id.as_deref()),
            "firedBy" => Value::from(&*fire.fired_by),
            "clientId" => optional(fire.client_id.as_deref()),
            "scheduledFor" => optional(fire.scheduled_for.map(timestamp).as_deref()),
            "taskId" => Value::from(&*fire.task_id),
            "now" => Value::from(timestamp(fire.now)),
            "hookGroupId" => Value::from(&*fire.hook.group),
            "hookId" => Value::from(&*fire.hook.id),
            FIRE => Value::from_object(FireHandle(fire.clone())),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&NAMES)
    }
}

fn optional(text: Option<&str>) -> Value {
    text.map_or(Value::from(()), Value::from)
}

/// The fire that an expression is evaluated for, for functions that need the frozen moment or the task id.
pub fn fire_of(state: &minijinja::State<'_, '_>) -> Result<Arc<Fire>, minijinja::Error> {
    state
        .lookup(FIRE)
        .and_then(|value| value.downcast_object_ref::<FireHandle>().map(|handle| handle.0.clone()))
        .ok_or_else(|| {
            minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, "cannot be used inside a macro")
        })
}

/// A context with a few more names in front of another: the variables of a `{% for %}` key.
#[derive(Debug)]
pub struct Scope {
    names: Vec<(Arc<str>, Value)>,
    parent: Value,
}

impl Scope {
    /// `names` in front of `parent`.
    pub fn value(parent: Value, names: Vec<(Arc<str>, Value)>) -> Value {
        Value::from_object(Scope { names, parent })
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.names.iter().find(|(name, _)| **name == *key) {
            Some((_, value)) => Some(value.clone()),
            None => self.parent.get_attr(key).ok().filter(|value| !value.is_undefined()),
        }
    }
}

/// A moment as the queue service writes it: `2026-11-22T10:05:00.000Z`.
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
