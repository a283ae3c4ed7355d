//! Functions, filters and tests of templates and filters: one table for the code, the documentation and
//! `pulsehook hook functions`.
//!
//! What is not in the table doesn't exist: tests hold that every entry works as its example says and that the
//! environment has nothing else. Ours charge fuel for the text that they work on, as minijinja's own do.

mod builtin;
mod data;
mod text;
mod time;

use minijinja::{Environment, Error, ErrorKind, Value};

pub use data::is_omit;

/// Bytes of text that one unit of fuel pays for, as in minijinja.
pub const BYTES_PER_FUEL: u64 = 64;

/// How an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `name(…)`, or a value: `name`.
    Function,
    /// `value | name(…)`.
    Filter,
    /// `value is name(…)`.
    Test,
}

/// One entry of the table.
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// How it is written.
    pub kind: Kind,
    /// With its arguments; optional ones in brackets.
    pub usage: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// An expression and its result as JSON; a test holds to it.
    pub example: (&'static str, &'static str),
}

const fn entry(
    kind: Kind,
    name: &'static str,
    usage: &'static str,
    summary: &'static str,
    example: (&'static str, &'static str),
) -> Function {
    Function { name, kind, usage, summary, example }
}

/// All entries, ours first.
pub fn all() -> impl Iterator<Item = &'static Function> {
    [time::TABLE, text::TABLE, data::TABLE, builtin::TABLE].into_iter().flatten()
}

/// The table for the documentation, in Markdown.
pub fn markdown() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut text = String::from("| usage | what it does | example |\n|---|---|---|\n");
    for function in all() {
        let (source, result) = function.example;
        text.push_str(&format!(
            "| `{}` | {} | `{}` → `{}` |\n",
            cell(function.usage),
            cell(function.summary),
            cell(source),
            cell(result)
        ));
    }
    text
}

/// Whether there is such a one.
pub fn exists(kind: Kind, name: &str) -> bool {
    all().any(|function| function.kind == kind && function.name == name)
}

/// The name that somebody who wrote `name` may have meant.
pub fn similar(kind: Kind, name: &str) -> Option<&'static str> {
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], "");
    let wanted = plain(name);
    all().filter(|function| function.kind == kind).map(|function| function.name).find(|known| {
        let known = plain(known);
        known == wanted
            || (wanted.len() > 3
                && (known.starts_with(&wanted) || wanted.starts_with(&known) && known.len() > 3))
    })
}

/// Puts everything of the table into an environment that has minijinja's own, and takes out what isn't in the table.
pub fn install(environment: &mut Environment<'static>) {
    for name in builtin::REMOVED_FILTERS {
        environment.remove_filter(name);
    }
    for name in builtin::REMOVED_TESTS {
        environment.remove_test(name);
    }
    for name in builtin::REMOVED_GLOBALS {
        environment.remove_global(name);
    }
    time::install(environment);
    text::install(environment);
    data::install(environment);
}

/// The text of an argument; an error that says what was given where it isn't one.
fn string<'a>(what: &str, value: &'a Value) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| {
        if value.is_undefined() {
            Error::from(ErrorKind::UndefinedError)
        } else {
            fail(format!("{what} must be a string, is {}", value.kind()))
        }
    })
}

fn fail(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

#[cfg(test)]
mod tests;
