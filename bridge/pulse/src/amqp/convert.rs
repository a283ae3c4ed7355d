//! Delivered messages, from the form of amqprs to ours.

use amqprs::{BasicProperties, Deliver, FieldTable, FieldValue};
use serde_json::{Map, Number, Value};

use crate::{Headers, Message, Properties};

/// A delivered message.
pub(super) fn from_amqp(deliver: &Deliver, properties: &BasicProperties, content: Vec<u8>) -> Message {
    Message {
        exchange: deliver.exchange().clone(),
        routing_key: deliver.routing_key().clone(),
        properties: Properties {
            message_id: properties.message_id().cloned(),
            timestamp: properties.timestamp(),
            content_type: properties.content_type().cloned(),
            headers: properties.headers().map(headers).unwrap_or_default(),
        },
        body: content.into(),
    }
}

fn headers(table: &FieldTable) -> Headers {
    table.as_ref().iter().map(|(name, value)| (name.as_ref().clone(), json(value))).collect()
}

fn json(value: &FieldValue) -> Value {
    match value {
        FieldValue::t(flag) => (*flag).into(),
        FieldValue::b(n) => (*n).into(),
        FieldValue::B(n) => (*n).into(),
        FieldValue::s(n) => (*n).into(),
        FieldValue::u(n) => (*n).into(),
        FieldValue::I(n) => (*n).into(),
        FieldValue::i(n) => (*n).into(),
        FieldValue::l(n) => (*n).into(),
        FieldValue::T(seconds) => (*seconds).into(),
        // What JSON has no number for becomes null.
        FieldValue::f(n) => Number::from_f64((*n).into()).map_or(Value::Null, Value::Number),
        FieldValue::d(n) => Number::from_f64(*n).map_or(Value::Null, Value::Number),
        FieldValue::D(decimal) => scaled(&serde_json::to_value(decimal).unwrap_or_default()),
        FieldValue::S(text) => text.as_ref().as_str().into(),
        FieldValue::A(values) => Vec::from(values.clone()).iter().map(json).collect(),
        FieldValue::F(fields) => {
            let fields = fields.as_ref().iter().map(|(name, value)| (name.as_ref().clone(), json(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        FieldValue::V => Value::Null,
        FieldValue::x(bytes) => hex::encode(Vec::from(bytes.clone())).into(),
    }
}

/// amqprs shows the two parts of a decimal only as `[scale, value]`.
fn scaled(parts: &Value) -> Value {
    let (Some(scale), Some(value)) = (parts[0].as_i64(), parts[1].as_f64()) else { return Value::Null };
    let number = value / 10_f64.powi(i32::try_from(scale).unwrap_or_default());
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqprs::{ByteArray, DecimalValue, FieldArray};

    #[test]
    fn every_type_becomes_json() {
        for (field, wanted) in [
            (FieldValue::D(DecimalValue::new(3, 123_456)), serde_json::json!(123.456)),
            (FieldValue::x(ByteArray::try_from(vec![0, 255]).unwrap()), "00ff".into()),
            (FieldValue::d(f64::NAN), Value::Null),
            (FieldValue::f(0.5), 0.5.into()),
            (FieldValue::b(-1), (-1).into()),
            (FieldValue::T(7), 7.into()),
            (FieldValue::A(FieldArray::default()), serde_json::json!([])),
        ] {
            assert_eq!(json(&field), wanted);
        }
    }
}
