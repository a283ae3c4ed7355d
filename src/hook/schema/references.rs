//! Where the references of a schema lead, and what its keywords hold.
//!
//! JSON Schema lets a subschema rename itself and what is around it (`$id`), so that the same `$ref` leads to one place or another. What a
//! schema costs is told by following its references, and that must be where the validator follows them. So
//! names are resolved once, here, and what is compiled has none: each reference in it is a pointer from the top.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

use super::META_SCHEMA;

/// Keywords whose value is a schema for the same value.
pub const SAME: [&str; 4] = ["not", "if", "then", "else"];
/// Keywords whose value is a list of schemas for the same value.
pub const SAME_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords whose value is a schema for what is in the value.
pub const INNER: [&str; 5] =
    ["items", "additionalItems", "contains", "additionalProperties", "propertyNames"];
/// Keywords whose value is a map of schemas for what is in the value.
pub const INNER_MAPS: [&str; 2] = ["properties", "patternProperties"];
/// Other keywords whose value is a map of schemas.
const OTHER_MAPS: [&str; 3] = ["dependencies", "definitions", "$defs"];
/// Keywords whose value is no schema, whatever it looks like.
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];

/// What may stand in the fragment of a URI as it is, and `~`, which is a pointer's own escape.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a value within a schema is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Schema,
    /// Schemas by the names of properties, or by any others.
    Map,
    /// What a keyword holds that draft 7 does not know: a reference may lead there.
    Unknown,
    Data,
}

impl Place {
    /// The place of what a member of an object holds; the items of a list are where the list is.
    fn of(self, key: &str) -> Place {
        match self {
            Place::Map => Place::Schema,
            Place::Unknown | Place::Data => self,
            Place::Schema if DATA.contains(&key) => Place::Data,
            Place::Schema if INNER_MAPS.contains(&key) || OTHER_MAPS.contains(&key) => Place::Map,
            Place::Schema if SAME.contains(&key) || SAME_LISTS.contains(&key) || INNER.contains(&key) => {
                Place::Schema
            }
            Place::Schema => Place::Unknown,
        }
    }

    /// Whether a keyword here may be one.
    fn has_keywords(self) -> bool {
        matches!(self, Place::Schema | Place::Unknown)
    }
}

/// What references count from: the whole schema, or a part of it that has a name of its own.
struct Base<'a> {
    value: &'a Value,
    place: Place,
    pointer: String,
}

/// What a reference leads to.
pub enum Target<'a> {
    Found(&'a Value),
    MetaSchema,
    Missing,
}

/// Follows a reference of a plain schema.
pub fn follow<'a>(schema: &'a Value, reference: &str) -> Target<'a> {
    let Some(fragment) = reference.strip_prefix('#') else {
        return if reference.starts_with(META_SCHEMA) { Target::MetaSchema } else { Target::Missing };
    };
    let top = Base { value: schema, place: Place::Schema, pointer: String::new() };
    top.part(fragment, |_| {}).map_or(Target::Missing, Target::Found)
}

/// The same schema without names: what it refers to it refers to by pointers from the top.
///
/// A reference that leads nowhere is left as it is; so is what is data.
pub fn plain(schema: &Value) -> Value {
    let top = Base { value: schema, place: Place::Schema, pointer: String::new() };
    let mut anchors = Anchors::default();
    anchors.gather(&top, "", schema, Place::Schema);
    anchors.plain(&top, "", schema, Place::Schema)
}

impl<'a> Base<'a> {
    /// What a pointer (the fragment of a reference) leads to; `passing` is given each key and index on the way. None: nothing that
    /// can be a schema.
    fn part(&self, fragment: &str, mut passing: impl FnMut(&str)) -> Option<&'a Value> {
        let fragment = percent_decode_str(fragment).decode_utf8().ok()?;
        let segments = match &*fragment {
            "" => None,
            path => Some(path.strip_prefix('/')?.split('/')),
        };
        let (mut value, mut place) = (self.value, self.place);
        for segment in segments.into_iter().flatten() {
            let key: Cow<'_, str> = match segment.contains('~') {
                true => segment.replace("~1", "/").replace("~0", "~").into(),
                false => segment.into(),
            };
            if let Value::Array(items) = value {
                let canonical = key == "0" || key.starts_with(|first: char| ('1'..='9').contains(&first));
                value = items.get(key.parse::<usize>().ok().filter(|_| canonical)?)?;
            } else {
                value = value.get(&*key)?;
                place = place.of(&key);
            }
            passing(&key);
        }
        place.has_keywords().then_some(value)
    }

    /// The base of what is in this value: its own, if it has a name.
    fn within(value: &'a Value, place: Place, pointer: &str) -> Option<Base<'a>> {
        // Draft 7: a reference's siblings say nothing.
        let named = place.has_keywords() && value.get("$ref").is_none();
        let id = value.get("$id").filter(|_| named)?.as_str()?;
        (!id.is_empty() && !id.starts_with('#')).then(|| Base { value, place, pointer: pointer.to_owned() })
    }
}

/// The pointer of a member.
fn below(pointer: &str, key: &str) -> String {
    let key = key.replace('~', "~0").replace('/', "~1");
    format!("{pointer}/{}", utf8_percent_encode(&key, ESCAPED))
}

/// Pointers to what has a name that begins with `#`, by the pointer to its base and the name.
#[derive(Default)]
struct Anchors(BTreeMap<(String, String), String>);

impl Anchors {
    fn gather<'a>(&mut self, base: &Base<'a>, pointer: &str, value: &'a Value, place: Place) {
        if place == Place::Data {
            return;
        }
        let own = Base::within(value, place, pointer);
        let base = own.as_ref().unwrap_or(base);
        match value {
            Value::Object(map) => {
                if let Some(name) = map.get("$id").and_then(Value::as_str).and_then(|id| id.strip_prefix('#'))
                    && place.has_keywords()
                {
                    let name = (base.pointer.clone(), name.to_owned());
                    self.0.entry(name).or_insert_with(|| pointer.to_owned());
                }
                map.iter()
                    .for_each(|(key, value)| self.gather(base, &below(pointer, key), value, place.of(key)));
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, value)| self.gather(base, &format!("{pointer}/{index}"), value, place)),
            _ => {}
        }
    }

    fn plain<'a>(&self, base: &Base<'a>, pointer: &str, value: &'a Value, place: Place) -> Value {
        if place == Place::Data {
            return value.clone();
        }
        let own = Base::within(value, place, pointer);
        let base = own.as_ref().unwrap_or(base);
        match value {
            Value::Object(map) => {
                let mut plain = Map::new();
                for (key, value) in map {
                    let said = match (key.as_str(), value) {
                        // Whatever draft it names, it is read as draft 7, also where it refers to itself.
                        ("$id" | "$schema", Value::String(_)) if place.has_keywords() => continue,
                        ("$ref", Value::String(reference)) if place.has_keywords() => {
                            self.resolve(base, reference).into()
                        }
                        _ => self.plain(base, &below(pointer, key), value, place.of(key)),
                    };
                    plain.insert(key.clone(), said);
                }
                Value::Object(plain)
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, value)| self.plain(base, &format!("{pointer}/{index}"), value, place))
                .collect(),
            other => other.clone(),
        }
    }

    fn resolve(&self, base: &Base<'_>, reference: &str) -> String {
        let Some(fragment) = reference.strip_prefix('#') else { return reference.to_owned() };
        if let Some(named) = self.0.get(&(base.pointer.clone(), fragment.to_owned())) {
            return format!("#{named}");
        }
        let mut pointer = format!("#{}", base.pointer);
        let found = base.part(fragment, |key| pointer = below(&pointer, key));
        found.map_or_else(|| reference.to_owned(), |_| pointer)
    }
}
