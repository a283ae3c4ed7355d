//! JSON bytes as a value: as much of them as is wanted, numbers exactly.
//!
//! All of the text is checked to be JSON; what nobody reads is skipped over. Integers beyond 64 bits, which serde_json
//! would round to a float, take a slower way that keeps them up to 128 bits.

mod build;

use std::fmt;
use std::marker::PhantomData;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::wanted::Wanted;
pub use build::{Build, Scalar};

/// In front of an integer beyond 64 bits, which travels as a string for a moment.
const MARK: char = '\u{f8f3}';
/// Digits that every 64-bit integer is shorter than or equal to.
const LONG: usize = 19;

/// Parses one JSON text.
pub fn parse<T: Build>(bytes: &[u8], wanted: &Wanted) -> Result<T, serde_json::Error> {
    let marked = mark_integers(bytes);
    // What is skipped over isn't looked at for UTF-8.
    let text = std::str::from_utf8(marked.as_deref().unwrap_or(bytes))
        .map_err(|error| serde_json::Error::custom(format!("it is not UTF-8: {error}")))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Seed { wanted, exact: marked.is_some(), kind: PhantomData };
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Parses all of one JSON text.
pub fn parse_all(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    parse(bytes, &Wanted::whole())
}

/// What is wanted of a value that was parsed with at least that, as [`parse`] would make it of the same text. `None`: it holds a
/// number that is not the same there.
pub fn to_json(value: &Value, wanted: &Wanted) -> Option<serde_json::Value> {
    Some(match value.kind() {
        ValueKind::None => serde_json::Value::Null,
        ValueKind::Bool => value.is_true().into(),
        ValueKind::Number if !value.is_integer() => f64::try_from(value.clone()).ok()?.into(),
        ValueKind::Number => match u64::try_from(value.clone()) {
            Ok(number) => number.into(),
            Err(_) => i64::try_from(value.clone()).ok()?.into(),
        },
        ValueKind::String => value.as_str()?.into(),
        ValueKind::Seq if wanted.nothing() => serde_json::Value::Array(Vec::new()),
        ValueKind::Seq => {
            let whole = Wanted::whole();
            let items = value.try_iter().ok()?.map(|item| to_json(&item, &whole));
            serde_json::Value::Array(items.collect::<Option<_>>()?)
        }
        ValueKind::Map if wanted.all() => {
            let pairs = value.try_iter().ok()?.map(|key| {
                let part = to_json(&value.get_item(&key).ok()?, wanted)?;
                Some((key.as_str()?.to_owned(), part))
            });
            serde_json::Value::Object(pairs.collect::<Option<_>>()?)
        }
        ValueKind::Map => {
            let parts =
                wanted.parts().map(|(key, wanted)| (key, value.get_attr(key).unwrap_or_default(), wanted));
            let there = parts.filter(|(_, part, _)| !part.is_undefined());
            let pairs = there.map(|(key, part, wanted)| Some((key.to_owned(), to_json(&part, wanted)?)));
            serde_json::Value::Object(pairs.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// The text with its integers beyond 64 bits as marked strings; `None` if it has none.
fn mark_integers(bytes: &[u8]) -> Option<Vec<u8>> {
    // A run of so many digits covers one of these places.
    let digit = |at: &usize| bytes[*at].is_ascii_digit();
    let suspects = (LONG - 1..bytes.len()).step_by(LONG).filter(digit).any(|at| {
        let before = bytes[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let after = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        before + after >= LONG
    });
    if !suspects {
        return None;
    }
    let mut marked = Vec::with_capacity(bytes.len() + 64);
    let (mut at, mut changed) = (0, false);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
            }
            byte if byte == b'-' || byte.is_ascii_digit() => {
                at += 1;
                while at < bytes.len() && matches!(bytes[at], b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
                {
                    at += 1;
                }
                let number = std::str::from_utf8(&bytes[start..at]).unwrap_or_default();
                let narrow = number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
                let wide = number.parse::<i128>().is_ok() || number.parse::<u128>().is_ok();
                // JSON has no leading zeros; what isn't JSON shall stay as it is and be refused.
                let canonical = !number.trim_start_matches('-').starts_with('0');
                if wide && !narrow && canonical {
                    changed = true;
                    marked.extend_from_slice(format!("\"{MARK}{number}\"").as_bytes());
                    continue;
                }
            }
            _ => at += 1,
        }
        marked.extend_from_slice(&bytes[start..at]);
    }
    changed.then_some(marked)
}

struct Seed<'a, T> {
    wanted: &'a Wanted,
    exact: bool,
    kind: PhantomData<T>,
}

impl<'a, T> Seed<'a, T> {
    fn of(&self, wanted: &'a Wanted) -> Seed<'a, T> {
        Seed { wanted, exact: self.exact, kind: PhantomData }
    }
}

impl<'de, T: Build> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        if self.wanted.all() && !self.exact {
            return T::deserialize(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Build> Visitor<'de> for Seed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::scalar(Scalar::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::scalar(Scalar::Bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        Ok(T::scalar(Scalar::Unsigned(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<T, E> {
        Ok(T::scalar(Scalar::Signed(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<T, E> {
        Ok(T::scalar(Scalar::Float(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::string(text, self.exact))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        if self.wanted.nothing() {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(T::list(Vec::new()));
        }
        let mut list = Vec::new();
        // A part of a list is asked for by index or in a loop, so every item counts whole.
        let whole = Wanted::whole();
        while let Some(item) = items.next_element_seed(self.of(&whole))? {
            list.push(item);
        }
        Ok(T::list(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<T, A::Error> {
        let mut pairs = Vec::new();
        let whole = Wanted::whole();
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            let wanted = if self.wanted.all() { Some(&whole) } else { self.wanted.part(&key.0) };
            match wanted {
                Some(wanted) => {
                    let value = entries.next_value_seed(self.of(wanted))?;
                    pairs.push((key.0.into_owned(), value));
                }
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(T::object(pairs))
    }
}

/// A key that is only copied where it is kept or has escapes.
struct Key<'a>(std::borrow::Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(key.into()))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(key.to_owned().into()))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::json;

    #[test]
    fn numbers_keep_their_value() {
        for text in [
            "0",
            "-1",
            "18446744073709551615",
            "-9223372036854775808",
            "18446744073709551616",
            "-170141183460469231731687303715884105728",
            "340282366920938463463374607431768211455",
            "[1,{\"a\":123456789012345678901234567890},\"123456789012345678901234567890\"]",
            "1.5",
        ] {
            assert_eq!(json::text_of(&parse_all(text.as_bytes()).unwrap()).unwrap(), text);
        }
        for text in [
            "01234567890123456789012",
            "123456789012345678901234567890x",
            "[1,]",
            "",
            "{} {}",
            "nul",
            "\"\u{1}\"",
        ] {
            assert!(parse_all(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_skipped_must_be_json_all_the_same() {
        let names = ["a".to_owned()];
        let wanted = Wanted::new(&names);
        let parsed: Value = parse(br#"{"a": 1, "b": {"c": [1, 2]}, "a": 2, "a\u0062": 3}"#, &wanted).unwrap();
        assert_eq!(json::text_of(&parsed).unwrap(), r#"{"a":2}"#);
        assert!(parse::<Value>(br#"{"a": 1, "b": {"c": [1, 2}}"#, &wanted).is_err());
        assert!(parse::<Value>(&[b"{\"b\": \"", &[0xff][..], b"\"}"].concat(), &wanted).is_err());
    }
}
