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
//! What stands between braces is compiled and evaluated in [`expr`]; errors get their words there, too.

mod explain;
mod expr;

use std::collections::BTreeSet;

use minijinja::{Environment, Value};

use super::context::Fire;
use super::guard;
use super::json::Writer;
use super::seed;
use super::wanted::mentioned;
use super::{TemplateError, functions};
use explain::explain;
pub use expr::Expr;

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
