//! A look at an expression before the parser sees it.
//!
//! minijinja builds and drops its syntax tree recursively, so that a long chain of operators would exhaust the stack
//! and take the process with it: tokens and brackets are counted first. And it learns only at run time that a filter
//! doesn't exist; a hook with a misspelt one shall be refused when it is registered, so the names are looked up here.

use super::TemplateError;
use super::functions::{self, Kind};

/// Deepest nesting of brackets in one expression.
const MAX_BRACKETS: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Sign(&'a str),
    Literal,
}

/// Refuses expressions that are too long or too deep, and filters, tests and functions that don't exist. `own` are
/// further names that may be called (macros of the same string).
pub fn check(source: &str, tokens_limit: usize, own: &dyn Fn(&str) -> bool) -> Result<(), TemplateError> {
    let tokens = tokens(source, tokens_limit)?;
    for (index, token) in tokens.iter().enumerate() {
        let Token::Word(word) = *token else { continue };
        let before = index.checked_sub(1).map(|at| tokens[at]);
        let before2 = index.checked_sub(2).map(|at| tokens[at]);
        let called = tokens.get(index + 1) == Some(&Token::Sign("("));
        let (kind, what) = if before == Some(Token::Sign("|")) {
            (Kind::Filter, "filter")
        } else if before == Some(Token::Word("is")) && word != "not"
            || before == Some(Token::Word("not")) && before2 == Some(Token::Word("is"))
        {
            (Kind::Test, "test")
        } else if called && before != Some(Token::Sign(".")) && !KEYWORDS.contains(&word) && !own(word) {
            (Kind::Function, "function")
        } else {
            continue;
        };
        if !functions::exists(kind, word) {
            let hint = functions::similar(kind, word)
                .map(|name| format!("; did you mean {name}?"))
                .unwrap_or_default();
            return Err(TemplateError::new(format!("there is no {what} {word}{hint}")));
        }
    }
    Ok(())
}

/// The same for a string with statements: everything between its braces is looked at as one expression, so that the
/// limit also holds for chains of `{% elif %}`.
pub fn check_block(
    source: &str,
    tokens_limit: usize,
    own: &dyn Fn(&str) -> bool,
) -> Result<(), TemplateError> {
    let mut code = String::new();
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (close, skip) = match rest.as_bytes().get(start + 1) {
            Some(b'{') => ("}}", false),
            Some(b'%') => ("%}", false),
            Some(b'#') => ("#}", true),
            _ => {
                rest = &rest[start + 1..];
                continue;
            }
        };
        let inner = &rest[start + 2..];
        let end = inner.find(close).unwrap_or(inner.len());
        if !skip {
            code.push_str(inner[..end].trim_start_matches(['-', '+']).trim_end_matches(['-', '+']));
            code.push_str(" ; ");
        }
        rest = inner.get(end + 2..).unwrap_or_default();
    }
    check(&code, tokens_limit, own)
}

/// Words that may stand in front of a parenthesis without calling anything.
const KEYWORDS: [&str; 24] = [
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "elif",
    "else",
    "for",
    "set",
    "with",
    "call",
    "filter",
    "macro",
    "true",
    "false",
    "none",
    "recursive",
    "block",
    "include",
    "import",
    "from",
    "extends",
    "do",
];

fn tokens(source: &str, limit: usize) -> Result<Vec<Token<'_>>, TemplateError> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let token = match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                Token::Literal
            }
            b'0'..=b'9' => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                    at += 1;
                }
                Token::Literal
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                while at < bytes.len()
                    && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] >= 0x80)
                {
                    at += 1;
                }
                Token::Word(&source[start..at])
            }
            byte => {
                at += 1;
                match byte {
                    b'(' | b'[' | b'{' => {
                        depth += 1;
                        if depth > MAX_BRACKETS {
                            return Err(TemplateError::exceeded(format!(
                                "has brackets nested deeper than {MAX_BRACKETS} levels"
                            )));
                        }
                    }
                    b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                Token::Sign(&source[start..at])
            }
        };
        tokens.push(token);
        if tokens.len() > limit {
            return Err(TemplateError::exceeded(format!(
                "has more than {limit} operators, names and literals"
            )));
        }
    }
    Ok(tokens)
}
