//! The kinds of values that a payload becomes: minijinja's for templates and filters, serde_json's for JSON-e.

use minijinja::Value;

use super::MARK;

/// A kind of value that a payload can become.
pub trait Build: Sized + serde::de::DeserializeOwned {
    /// From a string; `exact`: it may be a marked integer.
    fn string(text: &str, exact: bool) -> Self;
    /// From a scalar.
    fn scalar(value: Scalar) -> Self;
    /// From items.
    fn list(items: Vec<Self>) -> Self;
    /// From pairs; the last of equal keys counts.
    fn object(pairs: Vec<(String, Self)>) -> Self;
}

/// What isn't a string, list or object.
pub enum Scalar {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// An integer from 0.
    Unsigned(u64),
    /// An integer below 0.
    Signed(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
}

impl Build for Value {
    fn string(text: &str, exact: bool) -> Self {
        if exact && let Some(number) = text.strip_prefix(MARK) {
            if let Ok(number) = number.parse::<i128>() {
                return Value::from(number);
            }
            if let Ok(number) = number.parse::<u128>() {
                return Value::from(number);
            }
        }
        Value::from(text)
    }

    fn scalar(value: Scalar) -> Self {
        match value {
            Scalar::Null => Value::from(()),
            Scalar::Bool(value) => Value::from(value),
            Scalar::Unsigned(value) => Value::from(value),
            Scalar::Signed(value) => Value::from(value),
            Scalar::Float(value) => Value::from(value),
        }
    }

    fn list(items: Vec<Self>) -> Self {
        Value::from(items)
    }

    fn object(pairs: Vec<(String, Self)>) -> Self {
        Value::from_pairs(pairs)
    }
}

impl Build for serde_json::Value {
    fn string(text: &str, exact: bool) -> Self {
        // JSON-e rounds such an integer, as its reference does; here it is a number again.
        match text.strip_prefix(MARK).filter(|_| exact).map(str::parse) {
            Some(Ok(number)) => serde_json::Value::Number(number),
            _ => text.into(),
        }
    }

    fn scalar(value: Scalar) -> Self {
        match value {
            Scalar::Null => serde_json::Value::Null,
            Scalar::Bool(value) => value.into(),
            Scalar::Unsigned(value) => value.into(),
            Scalar::Signed(value) => value.into(),
            Scalar::Float(value) => value.into(),
        }
    }

    fn list(items: Vec<Self>) -> Self {
        serde_json::Value::Array(items)
    }

    fn object(pairs: Vec<(String, Self)>) -> Self {
        serde_json::Value::Object(pairs.into_iter().collect())
    }
}
