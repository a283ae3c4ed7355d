//! minijinja's errors in words for the owner of a template.

use minijinja::{Error, ErrorKind, Value};

use super::expr::missing;
use super::{BLOCK, TemplateError};

/// What happened and, for a string with statements, in which of its lines. `names` are those that the expression reads.
pub fn explain(error: &Error, names: Option<&[Box<str>]>, context: &Value) -> TemplateError {
    let place = match (error.name(), error.line()) {
        (Some(BLOCK), Some(line)) => format!(" (line {line} of the string)"),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::OutOfFuel => {
            TemplateError::exceeded(format!("costs more than the limit for one string allows{place}"))
        }
        ErrorKind::UndefinedError => {
            let named = error
                .detail()
                .and_then(|detail| detail.strip_prefix('`'))
                .and_then(|rest| rest.split_once('`'));
            let name = match named {
                Some((name, _)) => Some(name.to_owned()),
                None => names.into_iter().flatten().find_map(|name| missing(name, context)),
            };
            match name {
                Some(name) => TemplateError::new(format!("'{name}' is undefined{place}")),
                None => TemplateError::new(format!("a value is undefined{place}")),
            }
        }
        ErrorKind::InvalidOperation if error.detail().is_some_and(|detail| detail.contains("recursion")) => {
            TemplateError::exceeded(format!("recursion goes too deep{place}"))
        }
        kind => {
            let detail = error.detail().map_or_else(
                || kind.to_string(),
                |detail| match kind {
                    ErrorKind::SyntaxError => format!("syntax error: {detail}"),
                    _ => detail.to_owned(),
                },
            );
            TemplateError::new(format!("{detail}{place}"))
        }
    }
}
