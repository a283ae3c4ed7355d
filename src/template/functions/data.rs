//! Values: JSON, look-ups with a default, slugids, and `omit`.

use std::sync::Arc;

use minijinja::value::Object;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::{Function, Kind, entry, fail, string};
use crate::template::context::fire_of;
use crate::template::json;
use crate::template::payload;
use crate::template::slugid::slugid;

pub const TABLE: &[Function] = &[
    entry(
        Kind::Function,
        "omit",
        "omit",
        "Drops the key or list item whose whole value it is: \"{{ payload.priority | default(omit) }}\".",
        ("omit is defined", "true"),
    ),
    entry(
        Kind::Function,
        "slugid",
        "slugid(label)",
        "A slugid: the same for the same label within one fire, another one in another fire.",
        ("slugid(\"a\") == slugid(\"a\")", "true"),
    ),
    entry(
        Kind::Filter,
        "as_slugid",
        "label | as_slugid",
        "The same as slugid(label).",
        ("\"a\" | as_slugid == slugid(\"a\")", "true"),
    ),
    entry(
        Kind::Filter,
        "get",
        "value | get(path[, default])",
        "The value at a path of keys (\"a.b.0\", or a list of keys), or the default (null) where there is none.",
        ("{\"a\": [{\"b\": 1}]} | get(\"a.0.b\")", "1"),
    ),
    entry(
        Kind::Filter,
        "tojson",
        "value | tojson",
        "A value as compact JSON text.",
        ("{\"a\": [true, none]} | tojson", "\"{\\\"a\\\":[true,null]}\""),
    ),
    entry(
        Kind::Filter,
        "fromjson",
        "text | fromjson",
        "The value in a JSON text.",
        ("\"[1, null]\" | fromjson", "[1,null]"),
    ),
];

/// Marks what shall not be in the task at all.
#[derive(Debug)]
pub struct Omit;

impl Object for Omit {
    fn repr(self: &Arc<Self>) -> minijinja::value::ObjectRepr {
        minijinja::value::ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("omit")
    }
}

/// Whether a value is `omit`.
pub fn is_omit(value: &Value) -> bool {
    value.downcast_object_ref::<Omit>().is_some()
}

pub fn install(environment: &mut Environment<'static>) {
    environment.add_global("omit", Value::from_object(Omit));
    environment.add_function("slugid", as_slugid);
    environment.add_filter("as_slugid", as_slugid);
    environment.add_filter("get", |value: Value, path: Value, default: Option<Value>| {
        let default = default.unwrap_or(Value::from(()));
        let mut at = value;
        let step = |at: Value, key: &Value| match key.as_str() {
            Some(text) if matches!(at.kind(), minijinja::value::ValueKind::Seq) => {
                match text.parse::<usize>() {
                    Ok(index) => at.get_item_by_index(index),
                    Err(_) => Ok(Value::UNDEFINED),
                }
            }
            _ => at.get_item(key),
        };
        let keys: Vec<Value> = match path.as_str() {
            Some(path) => path.split('.').map(Value::from).collect(),
            None => path.try_iter()?.collect(),
        };
        for key in &keys {
            if at.is_undefined() || at.is_none() {
                return Ok(default);
            }
            at = step(at, key)?;
        }
        Ok::<_, Error>(if at.is_undefined() { default } else { at })
    });
    environment.add_filter("tojson", |state: &State<'_, '_>, value: Value| {
        if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        let mut writer = json::Writer::new(json::TEXT_LIMIT, json::TEXT_DEPTH);
        writer.value(&value).map_err(|error| fail(error.message))?;
        state.consume_fuel(writer.len() as u64 / 4)?;
        String::from_utf8(writer.into_bytes()).map_err(|_| fail("is not UTF-8"))
    });
    environment.add_filter("fromjson", |state: &State<'_, '_>, value: Value| {
        let text = string("fromjson", &value)?;
        state.consume_fuel(text.len() as u64 / 2)?;
        payload::parse_all(text.as_bytes()).map_err(|error| fail(format!("not JSON: {error}")))
    });
}

fn as_slugid(state: &State<'_, '_>, label: Value) -> Result<String, Error> {
    let label = string("the label of a slugid", &label)?;
    Ok(slugid(&fire_of(state)?.task_id, label))
}
