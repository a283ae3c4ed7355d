//! One expression: `{{ … }}` without its braces.
//!
//! A plain path (`payload.ref`), the most frequent expression by far, is looked up without starting the engine.

use minijinja::{Expression, Value};

use super::explain::explain;
use super::{Scope, TemplateError};
use crate::template::{functions, guard, json};

/// A compiled expression.
pub struct Expr {
    source: Box<str>,
    code: Code,
}

enum Code {
    /// `a.b.c`
    Path(Box<[Box<str>]>),
    /// Anything else, with the dotted names that it reads, for errors.
    Full(Box<(Expression<'static, 'static>, Box<[Box<str>]>)>),
}

impl Expr {
    /// Compiles one expression, as it stands between the braces.
    pub fn compile(source: &str, scope: &Scope<'_>) -> Result<Expr, TemplateError> {
        let source = source.trim();
        let fault = |mut error: TemplateError| {
            error.message = format!("{} in {{{{ {} }}}}", error.message, shorten(source));
            error
        };
        if let Some(path) = plain_path(source, scope.names) {
            return Ok(Expr { source: source.into(), code: Code::Path(path) });
        }
        guard::check(source, scope.tokens, &|_| false).map_err(fault)?;
        let expression = scope
            .environment
            .compile_expression_owned(source.to_owned())
            .map_err(|error| fault(explain(&error, None, &Value::UNDEFINED)))?;
        let mut names: Vec<Box<str>> =
            expression.undeclared_variables(true).into_iter().map(String::into_boxed_str).collect();
        names.sort();
        Ok(Expr { source: source.into(), code: Code::Full(Box::new((expression, names.into()))) })
    }

    /// As written, without the braces.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The dotted names of the context that it reads, sorted.
    pub fn names(&self) -> Vec<String> {
        match &self.code {
            Code::Path(path) => vec![path.join(".")],
            Code::Full(full) => {
                let own = |name: &str| {
                    let head = name.split('.').next().unwrap_or_default();
                    !functions::exists(functions::Kind::Function, head)
                };
                full.1.iter().filter(|name| own(name)).map(|name| name.to_string()).collect()
            }
        }
    }

    /// The value; an undefined one is an error.
    pub fn eval(&self, context: &Value) -> Result<Value, TemplateError> {
        let value = self.eval_lax(context)?;
        if value.is_undefined() {
            let missing = match &self.code {
                Code::Path(path) => missing(&path.join("."), context),
                Code::Full(full) => full.1.iter().find_map(|name| missing(name, context)),
            };
            return Err(self.undefined(missing));
        }
        Ok(value)
    }

    /// The value, which may be undefined.
    pub fn eval_lax(&self, context: &Value) -> Result<Value, TemplateError> {
        match &self.code {
            Code::Path(path) => {
                let mut at = context.clone();
                for key in path {
                    if at.is_undefined() {
                        return Err(self.undefined(missing(&path.join("."), context)));
                    }
                    at = at.get_attr(key).map_err(|error| self.locate(explain(&error, None, context)))?;
                }
                Ok(at)
            }
            Code::Full(full) => full
                .0
                .eval(context.clone())
                .map_err(|error| self.locate(explain(&error, Some(&full.1), context))),
        }
    }

    /// The value as text inside a longer one.
    pub fn text(&self, context: &Value) -> Result<String, TemplateError> {
        let value = self.eval(context)?;
        if functions::is_omit(&value) {
            return Err(self.locate(TemplateError::new("omit must be the whole value, not a part of a text")));
        }
        json::text(&value).map_err(|error| self.locate(error))
    }

    fn undefined(&self, name: Option<String>) -> TemplateError {
        let name = name.unwrap_or_else(|| shorten(&self.source));
        let error = TemplateError::new(format!("'{name}' is undefined"));
        if *self.source == *name { error } else { self.locate(error) }
    }

    /// Adds the expression to a message, unless it says it already.
    pub fn locate(&self, mut error: TemplateError) -> TemplateError {
        let source = shorten(&self.source);
        if error.message != format!("'{source}' is undefined")
            && !error.message.contains(&format!("{{{{ {source}"))
        {
            error.message = format!("{} in {{{{ {source} }}}}", error.message);
        }
        error
    }
}

/// Longest part of an expression that is repeated in a message.
const SHOWN: usize = 120;

fn shorten(source: &str) -> String {
    let line = source.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

fn plain_path(source: &str, names: &[&str]) -> Option<Box<[Box<str>]>> {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let parts: Vec<&str> = source.split('.').collect();
    (names.contains(&parts[0]) && parts.iter().all(|part| word(part)))
        .then(|| parts.into_iter().map(Box::from).collect())
}

/// The shortest prefix of a dotted name that is undefined.
pub fn missing(name: &str, context: &Value) -> Option<String> {
    let mut at = context.clone();
    let mut end = 0;
    for part in name.split('.') {
        end += part.len() + usize::from(end > 0);
        at = at.get_attr(part).ok()?;
        if at.is_undefined() {
            // What is no name of the context may be a function or a value of the engine.
            let own = end == part.len() && functions::exists(functions::Kind::Function, part);
            return (!own).then(|| name[..end].to_owned());
        }
    }
    None
}
