//! Values as JSON text, under limits.
//!
//! minijinja prints `True`, `None` and Python lists; a task is JSON, so every value that leaves a template goes
//! through here. A value may be a small graph with many references to one part, so its text can be exponentially
//! longer than its memory: the length is checked while writing, not afterwards.

use minijinja::value::{Value, ValueKind};

use super::TemplateError;

/// Where a task is written: bytes with a limit.
pub struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    depth: usize,
}

impl Writer {
    /// A writer for at most `limit` bytes and `depth` levels.
    pub fn new(limit: usize, depth: usize) -> Self {
        Self { bytes: Vec::with_capacity(limit.min(1024)), limit, depth }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Length so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Appends text as it is.
    pub fn raw(&mut self, text: &str) -> Result<(), TemplateError> {
        if self.bytes.len() + text.len() > self.limit {
            return Err(TemplateError::exceeded(format!(
                "the rendered task is longer than {} bytes",
                self.limit
            )));
        }
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Appends a JSON string.
    pub fn string(&mut self, text: &str) -> Result<(), TemplateError> {
        // Escapes are few in practice; the quick test keeps the common case a plain copy.
        if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.raw("\"")?;
            self.raw(text)?;
            return self.raw("\"");
        }
        self.raw("")?;
        serde_json::to_writer(&mut self.bytes, text)
            .map_err(|error| TemplateError::new(error.to_string()))?;
        self.raw("")
    }

    /// Appends a value.
    pub fn value(&mut self, value: &Value) -> Result<(), TemplateError> {
        self.nested(value, 0)
    }

    fn nested(&mut self, value: &Value, level: usize) -> Result<(), TemplateError> {
        if level > self.depth {
            return Err(TemplateError::exceeded(format!("is nested deeper than {} levels", self.depth)));
        }
        match value.kind() {
            ValueKind::Undefined => Err(TemplateError::new("contains a value that is undefined")),
            ValueKind::None => self.raw("null"),
            ValueKind::Bool => self.raw(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.raw("[")?;
                let items = value.try_iter().map_err(|error| TemplateError::new(error.to_string()))?;
                for (index, item) in items.enumerate() {
                    if index > 0 {
                        self.raw(",")?;
                    }
                    self.nested(&item, level + 1)?;
                }
                self.raw("]")
            }
            ValueKind::Map => {
                self.raw("{")?;
                let keys = value.try_iter().map_err(|error| TemplateError::new(error.to_string()))?;
                for (index, key) in keys.enumerate() {
                    if index > 0 {
                        self.raw(",")?;
                    }
                    match key.as_str() {
                        Some(text) => self.string(text)?,
                        None => self.string(&text(&key)?)?,
                    }
                    self.raw(":")?;
                    let item = value.get_item(&key).map_err(|error| TemplateError::new(error.to_string()))?;
                    self.nested(&item, level + 1)?;
                }
                self.raw("}")
            }
            ValueKind::Invalid => Err(TemplateError::new(value.to_string())),
            ValueKind::Bytes => Err(TemplateError::new("bytes cannot be written as JSON")),
            _ => Err(TemplateError::new("gives something that is not a JSON value (a function?)")),
        }
    }

    fn number(&mut self, value: &Value) -> Result<(), TemplateError> {
        if value.is_integer() {
            return self.raw(&value.to_string());
        }
        match f64::try_from(value.clone()) {
            Ok(number) if number.is_finite() => {
                self.raw("")?;
                serde_json::to_writer(&mut self.bytes, &number)
                    .map_err(|error| TemplateError::new(error.to_string()))
            }
            _ => Err(TemplateError::new("gives a number that JSON cannot hold (infinite, or not a number)")),
        }
    }
}

/// Longest text of one value inside a string, in bytes, and its levels: what [`text`] may make.
pub const TEXT_LIMIT: usize = 2 << 20;
pub const TEXT_DEPTH: usize = 100;

/// A value as text inside a string: a string as it is, everything else as compact JSON.
pub fn text(value: &Value) -> Result<String, TemplateError> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    text_of(value)
}

/// A value as JSON text, strings in quotes.
pub fn text_of(value: &Value) -> Result<String, TemplateError> {
    let mut writer = Writer::new(TEXT_LIMIT, TEXT_DEPTH);
    writer.value(value)?;
    String::from_utf8(writer.into_bytes()).map_err(|error| TemplateError::new(error.to_string()))
}
