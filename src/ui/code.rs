//! Documents as they are shown: pretty, and never so long that a page grows heavy.

use serde_json::{Value, json};

/// What is shown of a document, in bytes; the whole is there to be downloaded.
const SHOWN: usize = 24 << 10;

/// A text to be shown: `{text, language, cut}`; `cut`: how many bytes are not shown.
pub(super) fn shown(text: &str, language: &str) -> Value {
    let mut end = text.len().min(SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    json!({ "text": &text[..end], "language": language, "cut": text.len() - end })
}

/// JSON text, made pretty where it is JSON.
pub(super) fn json_text(bytes: &[u8]) -> Value {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => value_text(&value),
        Err(_) => shown(&String::from_utf8_lossy(bytes), "text"),
    }
}

/// A JSON value.
pub(super) fn value_text(value: &Value) -> Value {
    shown(&format!("{value:#}"), "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "é".repeat(SHOWN);
        let shown = shown(&long, "text");
        assert_eq!(shown["text"].as_str().unwrap().len(), SHOWN);
        assert_eq!(shown["cut"], SHOWN);
        assert_eq!(json_text(b"{\"a\":1}")["text"], "{\n  \"a\": 1\n}");
        assert_eq!(json_text(b"no json")["language"], "text");
    }
}
