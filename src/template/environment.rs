//! The minijinja environment that all templates and filters share.
//!
//! It holds the functions and no templates, so it is made once for each amount of fuel (a process uses two: for
//! templates and for filters) and kept for the life of the process: compiled expressions can then refer to it without
//! a lifetime of their own.

use std::sync::{Mutex, PoisonError};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

use super::{functions, json};

/// Recursion of macros and loops. Their frames lie on the stack of the thread that renders.
const RECURSION: usize = 60;

static SHARED: Mutex<Vec<(u64, &'static Environment<'static>)>> = Mutex::new(Vec::new());

/// The environment for expressions with so much fuel.
pub fn shared(fuel: u64) -> &'static Environment<'static> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, environment)) = shared.iter().find(|(known, _)| *known == fuel) {
        return environment;
    }
    let environment: &'static _ = Box::leak(Box::new(build(fuel)));
    shared.push((fuel, environment));
    environment
}

fn build(fuel: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(RECURSION);
    // Debug mode is what names the undefined value in an error.
    environment.set_debug(true);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_formatter(|out, state, value| {
        if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        let text =
            json::text(value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
        state.consume_fuel(text.len() as u64 / functions::BYTES_PER_FUEL)?;
        out.write_str(&text).map_err(Error::from)
    });
    functions::install(&mut environment);
    environment
}
