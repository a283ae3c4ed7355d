//! A form from a triggerSchema, and the payload from that form.
//!
//! The top level of the schema becomes fields: texts, numbers, choices, yes or no; what is deeper is typed as JSON. A field that
//! is left empty is absent from the payload, unless it is a text that must be there. What a form cannot say (a schema that is
//! not of an object, say) is typed as JSON as a whole. Whether the payload satisfies the schema is for the router to say.

use serde_json::{Map, Number, Value, json};

/// Fields of a form; a schema with more is typed as JSON.
const MOST: usize = 60;

/// Begins the names of the form's fields.
const PREFIX: &str = "field.";

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Text,
    LongText,
    Number,
    Choice(Vec<Value>),
    Json,
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    key: String,
    kind: Kind,
    required: bool,
    schema: Value,
}

/// The fields of a schema; `None`: it is typed as JSON as a whole.
fn fields(schema: &Value) -> Option<Vec<Field>> {
    let properties = schema.get("properties")?.as_object()?;
    if schema.get("type").is_some_and(|kind| kind != "object")
        || properties.is_empty()
        || properties.len() > MOST
    {
        return None;
    }
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut fields: Vec<Field> = properties
        .iter()
        .map(|(key, schema)| Field {
            key: key.clone(),
            kind: kind(schema),
            required: required.contains(&key.as_str()),
            schema: schema.clone(),
        })
        .collect();
    // What must be there comes first.
    fields.sort_by_key(|field| !field.required);
    Some(fields)
}

fn kind(schema: &Value) -> Kind {
    if let Some(options) = schema["enum"].as_array().filter(|options| !options.is_empty()) {
        return Kind::Choice(options.clone());
    }
    if let Some(value) = schema.get("const") {
        return Kind::Choice(vec![value.clone()]);
    }
    match schema["type"].as_str() {
        Some("string") => {
            let long =
                schema["maxLength"].as_u64().is_some_and(|most| most > 200) || schema["format"] == "textarea";
            if long { Kind::LongText } else { Kind::Text }
        }
        Some("number" | "integer") => Kind::Number,
        Some("boolean") => Kind::Choice(vec![json!(true), json!(false)]),
        _ => Kind::Json,
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// The form for a page: a list of fields with what was typed into them; null if the payload is typed as JSON as a whole.
/// `typed` tells what stands in a field, by the field's name; `None`: the form is new.
pub(super) fn form(schema: &Value, typed: Option<&dyn Fn(&str) -> String>) -> Value {
    let Some(fields) = fields(schema) else { return Value::Null };
    let shown: Vec<Value> =
        fields.iter().enumerate().map(|(index, field)| of_field(index, field, typed)).collect();
    json!(shown)
}

fn of_field(index: usize, field: &Field, typed: Option<&dyn Fn(&str) -> String>) -> Value {
    let schema = &field.schema;
    let name = format!("{PREFIX}{}", field.key);
    let default = schema.get("default").map(shown).unwrap_or_default();
    let value = typed.map_or(default, |typed| typed(&name));
    let text = |key: &str| schema[key].as_str().map(ToOwned::to_owned);
    let kind = match &field.kind {
        Kind::Text => "text",
        Kind::LongText => "long",
        Kind::Number => "number",
        Kind::Choice(_) => "choice",
        Kind::Json => "json",
    };
    let options: Vec<String> = match &field.kind {
        Kind::Choice(options) => options.iter().map(shown).collect(),
        _ => Vec::new(),
    };
    let mut rules = Vec::new();
    for (key, word) in [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "at least … characters:"),
        ("maxLength", "characters at most:"),
        ("pattern", "pattern"),
        ("format", "format"),
    ] {
        if let Some(rule) = schema.get(key) {
            rules.push(format!("{word} {}", shown(rule)));
        }
    }
    json!({
        "id": format!("field-{index}"),
        "name": name,
        "path": format!("payload.{}", field.key),
        "label": text("title").unwrap_or_else(|| field.key.clone()),
        "key": field.key,
        "description": text("description"),
        "kind": kind,
        "step": if schema["type"] == "integer" { "1" } else { "any" },
        "options": options,
        "required": field.required,
        "rules": rules.join(", "),
        "value": value,
    })
}

/// The payload that a form says; `typed` tells what stands in a field. The error names the field.
pub(super) fn payload(schema: &Value, typed: &dyn Fn(&str) -> String) -> Result<Value, String> {
    let Some(fields) = fields(schema) else { return Ok(json!({})) };
    let mut payload = Map::new();
    for field in &fields {
        let text = typed(&format!("{PREFIX}{}", field.key));
        let value = match &field.kind {
            Kind::Text | Kind::LongText if text.is_empty() && !field.required => None,
            Kind::Text | Kind::LongText => Some(Value::from(text.replace("\r\n", "\n"))),
            _ if text.trim().is_empty() => None,
            Kind::Number => {
                let number: Number =
                    text.trim().parse().map_err(|_| format!("{}: {text:?} is not a number", field.key))?;
                Some(Value::Number(number))
            }
            Kind::Choice(options) => {
                let chosen = options.iter().find(|option| shown(option) == text);
                Some(
                    chosen
                        .cloned()
                        .ok_or_else(|| format!("{}: {text:?} is none of its values", field.key))?,
                )
            }
            Kind::Json => Some(
                serde_json::from_str(&text)
                    .map_err(|error| format!("{}: this is not JSON: {error}", field.key))?,
            ),
        };
        if let Some(value) = value {
            payload.insert(field.key.clone(), value);
        }
    }
    Ok(Value::Object(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "days": {"type": "integer", "minimum": 1, "default": 30},
                "dry": {"type": "boolean"},
                "name": {"type": "string", "title": "Name", "description": "who <b>"},
                "list": {"type": "array", "items": {"type": "string"}},
                "kind": {"enum": ["a", 1, null]},
            },
            "required": ["name"],
        })
    }

    #[test]
    fn a_schema_becomes_fields_with_what_must_be_there_first() {
        let form = form(&schema(), None);
        let fields = form.as_array().unwrap();
        assert_eq!(fields[0]["label"], "Name");
        assert_eq!(fields[0]["required"], true);
        let days = fields.iter().find(|field| field["key"] == "days").unwrap();
        assert_eq!(
            (&days["kind"], &days["value"], &days["step"]),
            (&json!("number"), &json!("30"), &json!("1"))
        );
        assert_eq!(super::form(&json!({"type": "object"}), None), Value::Null);
        assert_eq!(super::form(&json!({"type": "string", "properties": {"a": {}}}), None), Value::Null);
        assert_eq!(super::form(&json!(true), None), Value::Null);
    }

    #[test]
    fn a_form_becomes_a_payload_with_types() {
        let typed = |name: &str| match name {
            "field.days" => "7".to_owned(),
            "field.dry" => "false".to_owned(),
            "field.list" => "[\"x\"]".to_owned(),
            "field.kind" => "1".to_owned(),
            _ => String::new(),
        };
        let payload = payload(&schema(), &typed).unwrap();
        assert_eq!(payload, json!({"days": 7, "dry": false, "list": ["x"], "kind": 1, "name": ""}));
        let wrong = |_: &str| "[".to_owned();
        assert!(super::payload(&schema(), &wrong).is_err());
        let empty = super::payload(&schema(), &|_| String::new()).unwrap();
        assert_eq!(empty, json!({"name": ""}));
    }
}
