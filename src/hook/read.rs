//! Hook files: YAML or JSON text, with the line of each fault.
//!
//! A file is read twice: once for its value, and, only when there is something to report, once more for the lines on
//! which its keys stand. So the schema's paths become places that an editor can jump to.

use std::collections::HashMap;

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser};

use super::problem::child;
use super::{Hook, HookName, Problem};

/// Longest hook or event file, in bytes. The queue service takes tasks up to 10 MB; a template is far below that.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// A text that is not YAML and not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A syntax error.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What the parser found.
        message: String,
    },
    /// Longer than 4 MiB.
    #[error("is longer than {MAX_FILE_BYTES} bytes")]
    TooLong,
}

/// Parses YAML or JSON. A text that starts with `{` or `[` is taken for JSON first, so that numbers are JSON's.
pub fn parse_document(text: &str) -> Result<Value, ReadError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(ReadError::TooLong);
    }
    if text.trim_start().starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        let rendered = error
            .without_snippet()
            .render_with_options(serde_saphyr::render_options! { snippets: serde_saphyr::SnippetMode::Off });
        Syntax { line, column, message: rendered.lines().next().unwrap_or_default().to_owned() }.into()
    })
}

struct Syntax {
    line: u64,
    column: u64,
    message: String,
}

impl From<Syntax> for ReadError {
    fn from(Syntax { line, column, message }: Syntax) -> Self {
        // The parser's own text ends in the place; ours starts with it.
        let message = match message.find(" at line ") {
            Some(cut) => message[..cut].to_owned(),
            None => message,
        };
        ReadError::Syntax { line, column, message }
    }
}

/// A hook file: the document, and the text for the places of its faults.
#[derive(Debug, Clone)]
pub struct HookFile {
    text: String,
    value: Value,
}

impl HookFile {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<HookFile, ReadError> {
        Ok(HookFile { value: parse_document(text)?, text: text.to_owned() })
    }

    /// The document as it stands in the file.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The name that the file gives its hook in `hookGroupId` and `hookId`.
    pub fn name(&self) -> Result<HookName, Problem> {
        let field = |key: &str| match self.value.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Problem::new(key, "must be of type string")),
            None => Err(Problem::new(key, "is required in a hook file")),
        };
        HookName::new(field("hookGroupId")?, field("hookId")?).map_err(|error| {
            let key = if matches!(error, super::InvalidName::Id) { "hookId" } else { "hookGroupId" };
            Problem::new(key, error.to_string())
        })
    }

    /// The hook, under the name that the file gives or, if it gives none, under `name`.
    pub fn hook(&self, name: Option<&HookName>) -> Result<Hook, Vec<Problem>> {
        let name = match name {
            Some(name) => name.clone(),
            None => self.name().map_err(|problem| vec![problem])?,
        };
        Hook::from_json(&name, &self.value)
    }

    /// The faults, one per line, each with the line of the file on which it stands: `12: task.payload: …`.
    pub fn locate(&self, problems: &[Problem]) -> Vec<Located> {
        let lines = lines(&self.text);
        problems
            .iter()
            .map(|problem| Located { line: line_of(&lines, &problem.path), problem: problem.clone() })
            .collect()
    }
}

/// A fault and its line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Located {
    /// The line, from 1.
    pub line: u64,
    /// The fault.
    #[serde(flatten)]
    pub problem: Problem,
}

impl std::fmt::Display for Located {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// The line of the nearest part of `path` that stands in the file.
fn line_of(lines: &HashMap<String, u64>, path: &str) -> u64 {
    let mut path = path;
    loop {
        if let Some(line) = lines.get(path) {
            return *line;
        }
        match path.rfind(['.', '[']) {
            Some(cut) => path = &path[..cut],
            None => return 1,
        }
    }
}

enum Frame {
    Map { path: String, key: Option<String> },
    List { path: String, next: usize },
}

fn lines(text: &str) -> HashMap<String, u64> {
    let mut lines = HashMap::new();
    let mut stack: Vec<Frame> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let line = span.start.line() as u64;
        match event {
            Event::Scalar(scalar, ..) => {
                if let Some(Frame::Map { path, key: key @ None }) = stack.last_mut() {
                    lines.insert(child(path, &scalar), line);
                    *key = Some(scalar.into_owned());
                } else if let Some(path) = place(&mut stack) {
                    lines.entry(path).or_insert(line);
                }
            }
            Event::Alias(_) => {
                place(&mut stack);
            }
            Event::MappingStart(..) => {
                let path = place(&mut stack).unwrap_or_default();
                lines.entry(path.clone()).or_insert(line);
                stack.push(Frame::Map { path, key: None });
            }
            Event::SequenceStart(..) => {
                let path = place(&mut stack).unwrap_or_default();
                lines.entry(path.clone()).or_insert(line);
                stack.push(Frame::List { path, next: 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                stack.pop();
            }
            _ => {}
        }
    }
    lines
}

/// The path of the value that comes now, which thereby is accounted for.
fn place(stack: &mut [Frame]) -> Option<String> {
    match stack.last_mut()? {
        Frame::Map { path, key } => key.take().map(|key| child(path, &key)),
        Frame::List { path, next } => {
            *next += 1;
            Some(format!("{path}[{}]", *next - 1))
        }
    }
}
