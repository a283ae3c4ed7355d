//! How a command shows what it found: a text for people, or JSON or YAML for programs.

use clap::ValueEnum;
use serde_json::Value;

/// `--output`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Output {
    /// Prints a result: the value for programs, the text (if it is not empty) for people.
    pub fn print(self, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self {
            Self::Json => println!("{value:#}"),
            Self::Yaml => print!("{}", serde_saphyr::to_string(value)?),
            Self::Text => {
                let text = text();
                if !text.is_empty() {
                    println!("{}", text.trim_end());
                }
            }
        }
        Ok(())
    }

    /// Prints one of several results that come one after the other: a JSON text a line, or a YAML document each.
    pub fn print_one(self, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self {
            Self::Json => println!("{value}"),
            Self::Yaml => print!("---\n{}", serde_saphyr::to_string(value)?),
            Self::Text => println!("{}", text()),
        }
        Ok(())
    }
}

/// A field's text; empty if it is none.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
