//! Faults of hook files, told as compilers tell them: `file:line: field: what`, whether they were found here or by the router.

use std::path::Path;

use anyhow::anyhow;

use super::client::Refused;
use crate::hook::{HookFile, Problem};

/// How the API lists the faults of a document, a line each.
const LISTED: &str = "  * ";

/// A line per fault.
pub(super) fn lines(place: &Path, file: &HookFile, problems: &[Problem]) -> Vec<String> {
    let located = file.locate(problems);
    located.iter().map(|found| format!("{}:{}: {}", place.display(), found.line, found.problem)).collect()
}

/// A router's refusal of the hook in `file`, with each fault at its place; any other error as it is.
pub(super) fn refusal(place: &Path, file: &HookFile, error: anyhow::Error) -> anyhow::Error {
    let Some(refused) = error.downcast_ref::<Refused>() else { return error };
    let told: Vec<String> = refused
        .message
        .lines()
        .map(|line| match line.strip_prefix(LISTED).and_then(|fault| fault.split_once(": ")) {
            Some((path, message)) => lines(place, file, &[Problem::new(path, message)]).concat(),
            None => line.to_owned(),
        })
        .collect();
    anyhow!(Refused { status: refused.status, message: told.join("\n") })
}
