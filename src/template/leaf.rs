//! One string of a template: what it means, compiled once.
//!
//! | string | meaning |
//! |---|---|
//! | no markers | itself |
//! | exactly one `{{ … }}` | the value, with its type |
//! | text with `{{ … }}` in it | text; values that aren't strings stand as JSON |
//! | with `{% … %}`, `{# … #}` or `{{- … -}}` | a minijinja template, its output as text |
//! | with a hyphenated filter | the older syntax, see [`seed`] |
//!
//! A plain path (`{{ payload.ref }}`), the most frequent expression by far, is looked up without starting the engine.

use std::collections::BTreeSet;

use minijinja::{Environment, Error, ErrorKind, Expression, Value};

use super::context::Fire;
use super::guard;
use super::json::{self, Writer};
use super::seed;
use super::wanted::mentioned;
use super::{TemplateError, functions};

/// A compiled string.
pub enum Leaf {
    /// No markers.
    Literal(Box<str>),
    /// Exactly one expression: the value keeps its type.
    Typed(Expr),
    /// Text and expressions.
    Text(Box<[Part]>),
    /// A minijinja template with statements.
    Block(Box<Environment<'static>>),
    /// The older syntax.
    Seed(Box<[seed::Segment]>),
}

/// A part of a [`Leaf::Text`].
pub enum Part {
    /// As it is.
    Text(Box<str>),
    /// Evaluated and made text.
    Expr(Expr),
}

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

/// What compiling needs to know.
pub struct Scope<'a> {
    /// The shared environment.
    pub environment: &'static Environment<'static>,
    /// Most tokens of an expression.
    pub tokens: usize,
    /// Names that are values in this place: the context's and those of surrounding loops.
    pub names: &'a [&'a str],
}

impl Leaf {
    /// Compiles one string.
    pub fn compile(source: &str, scope: &Scope<'_>) -> Result<Leaf, TemplateError> {
        if !["{{", "{%", "{#"].iter().any(|marker| source.contains(marker)) {
            return Ok(Leaf::Literal(source.into()));
        }
        if let Some(segments) = seed::parse(source) {
            return Ok(Leaf::Seed(segments));
        }
        match split(source) {
            Some(parts) => {
                if let [(true, inner)] = parts[..] {
                    return Ok(Leaf::Typed(Expr::compile(inner, scope)?));
                }
                let parts = parts.into_iter().map(|(is_expr, text)| match is_expr {
                    true => Expr::compile(text, scope).map(Part::Expr),
                    false => Ok(Part::Text(text.into())),
                });
                Ok(Leaf::Text(parts.collect::<Result<_, _>>()?))
            }
            None => block(source, scope),
        }
    }

    /// Adds the dotted names of the context that it reads.
    pub fn reads(&self, source: &str, names: &mut BTreeSet<String>) {
        match self {
            Leaf::Literal(_) => {}
            Leaf::Typed(expr) => names.extend(expr.names()),
            Leaf::Text(parts) => {
                for part in parts {
                    if let Part::Expr(expr) = part {
                        names.extend(expr.names());
                    }
                }
            }
            // minijinja's own account of names is wrong where a template assigns to them.
            Leaf::Block(_) => mentioned(source, names),
            Leaf::Seed(segments) => names.extend(seed::names(segments)),
        }
    }

    /// Writes the JSON of the string's value. False: the value is `omit`, and nothing was written.
    pub fn write(&self, context: &Value, fire: &Fire, out: &mut Writer) -> Result<bool, TemplateError> {
        match self {
            Leaf::Literal(text) => out.string(text).map(|()| true),
            Leaf::Typed(expr) => {
                let value = expr.eval(context)?;
                if functions::is_omit(&value) {
                    return Ok(false);
                }
                out.value(&value).map_err(|error| expr.locate(error)).map(|()| true)
            }
            _ => out.string(&self.text(context, fire)?).map(|()| true),
        }
    }

    /// The value as text, for keys.
    pub fn text(&self, context: &Value, fire: &Fire) -> Result<String, TemplateError> {
        match self {
            Leaf::Literal(text) => Ok((**text).to_owned()),
            Leaf::Typed(expr) => expr.text(context),
            Leaf::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(plain) => text.push_str(plain),
                        Part::Expr(expr) => text.push_str(&expr.text(context)?),
                    }
                }
                Ok(text)
            }
            Leaf::Block(environment) => environment
                .get_template(BLOCK)
                .and_then(|template| template.render(context.clone()))
                .map_err(|error| explain(&error, None, context)),
            Leaf::Seed(segments) => seed::render(segments, context, fire),
        }
    }
}

/// Name of the one template in a [`Leaf::Block`]'s environment.
const BLOCK: &str = "the string";

fn block(source: &str, scope: &Scope<'_>) -> Result<Leaf, TemplateError> {
    let may_define = source.contains("macro") || source.contains("import") || source.contains("set");
    guard::check_block(source, scope.tokens, &|_| may_define)?;
    let mut environment = scope.environment.clone();
    environment
        .add_template_owned(BLOCK, source.to_owned())
        .map_err(|error| explain(&error, None, &Value::UNDEFINED))?;
    Ok(Leaf::Block(Box::new(environment)))
}

/// Text and expressions in turn; `None` if the string needs the whole template engine.
fn split(source: &str) -> Option<Vec<(bool, &str)>> {
    if source.contains("{%") || source.contains("{#") {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some(start) = rest.find("{{") {
        if start > 0 {
            parts.push((false, &rest[..start]));
        }
        let inner = &rest[start + 2..];
        let end = end_of_expression(inner)?;
        let expression = &inner[..end];
        // White-space control and empty braces are for the engine to deal with.
        if expression.starts_with(['-', '+'])
            || expression.ends_with(['-', '+'])
            || expression.trim().is_empty()
        {
            return None;
        }
        parts.push((true, expression));
        rest = &inner[end + 2..];
    }
    if !rest.is_empty() {
        parts.push((false, rest));
    }
    Some(parts)
}

/// Where the `}}` stands that ends an expression: not in a string and not inside brackets.
fn end_of_expression(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'}' if depth == 0 && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
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

    fn text(&self, context: &Value) -> Result<String, TemplateError> {
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
    fn locate(&self, mut error: TemplateError) -> TemplateError {
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
fn missing(name: &str, context: &Value) -> Option<String> {
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

/// minijinja's error in words for the owner of the template.
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
