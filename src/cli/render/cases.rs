//! `pulsehook hook test`: cases in files, so that people test their hooks in their own CI.
//!
//! ```yaml
//! hook: ../hooks/nightly.yml        # relative to the file; or the document itself
//! now: 2026-11-22T10:05:00Z         # the frozen moment of all cases, unless they have their own
//! cases:
//!   - name: a push to main fires
//!     event: {exchange: exchange/x/v1/y, routingKey: a.b, payload: {ref: refs/heads/main}}
//!     outcome: fire
//!     includes: {payload: {env: {BRANCH: main}}}   # parts of the task; `task:` compares the whole
//!   - name: another branch doesn't
//!     event: {exchange: exchange/x/v1/y, routingKey: a.b, payload: {ref: refs/heads/try}}
//!     outcome: filtered
//!     reason: payload.ref is "refs/heads/try"       # a part of the reason
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{Options, TASK_ID, decide, located};
use crate::hook::{HookFile, Problem};
use crate::router::decide::Decision;

use super::diff::{Difference, differences};

/// The frozen moment of cases that don't say.
const NOW: &str = "2026-01-01T00:00:00Z";
/// Deepest folder that is searched for cases.
const MAX_FOLDERS: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    hook: Value,
    now: Option<DateTime<Utc>>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Case {
    name: String,
    event: Value,
    now: Option<DateTime<Utc>>,
    task_id: Option<String>,
    outcome: Option<String>,
    reason: Option<String>,
    task: Option<Value>,
    includes: Option<Value>,
}

/// What became of one case.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CaseResult {
    /// The file.
    pub file: PathBuf,
    /// The case's name.
    pub name: String,
    /// What is not as expected; empty: passed.
    pub failures: Vec<String>,
}

impl CaseResult {
    /// Whether all is as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        writeln!(f, "{verdict} {}: {}", self.file.display(), self.name)?;
        for failure in &self.failures {
            for line in failure.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}

/// Runs all cases of a file, or of all `.yml`, `.yaml` and `.json` files in a folder and below that have `cases`.
/// An error is a file that can't be read; failed cases are in the results.
pub fn run(path: &Path, options: &Options) -> anyhow::Result<Vec<CaseResult>> {
    let mut files = Vec::new();
    collect(path, &mut files, 0)?;
    files.sort();
    let mut results = Vec::new();
    for file in files {
        results.extend(run_file(&file, options, path.is_dir()).with_context(|| file.display().to_string())?);
    }
    if results.is_empty() {
        bail!("{} holds no cases", path.display());
    }
    Ok(results)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>, depth: usize) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > MAX_FOLDERS {
        bail!("{}: folders are nested deeper than {MAX_FOLDERS}", path.display());
    }
    for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        let known =
            path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml" || ending == "json");
        if path.is_dir() || known {
            collect(&path, files, depth + 1)?;
        }
    }
    Ok(())
}

fn run_file(path: &Path, options: &Options, skip_others: bool) -> anyhow::Result<Vec<CaseResult>> {
    let document = HookFile::parse(&std::fs::read_to_string(path)?)?;
    if skip_others && document.value().get("cases").is_none() {
        return Ok(Vec::new());
    }
    let file: CaseFile = serde_json::from_value(document.value().clone())?;
    let (hook, rules) = match &file.hook {
        Value::String(relative) => {
            let place = path.parent().unwrap_or(Path::new("")).join(relative);
            let text = std::fs::read_to_string(&place).with_context(|| place.display().to_string())?;
            super::compile_hook(&place, &text, &options.limits)?
        }
        // Its faults stand in this very file, below `hook`.
        inline => super::compile(&HookFile::parse(&inline.to_string())?, &options.limits, |problems| {
            let below = |problem: &Problem| {
                let dot = if problem.path.is_empty() { "" } else { "." };
                Problem::new(format!("hook{dot}{}", problem.path), problem.message.as_str())
            };
            located::lines(path, &document, &problems.iter().map(below).collect::<Vec<_>>())
        })?,
    };
    let fixed: DateTime<Utc> = NOW.parse()?;
    let mut results = Vec::new();
    for case in file.cases {
        let options = Options {
            now: Some(case.now.or(file.now).or(options.now).unwrap_or(fixed)),
            task_id: Some(case.task_id.clone().unwrap_or_else(|| TASK_ID.to_owned())),
            ..options.clone()
        };
        let failures = match decide(&hook, &rules, &case.event, &options) {
            Ok(decision) => failures(&case, &decision),
            Err(error) => vec![format!("{error:#}")],
        };
        results.push(CaseResult { file: path.to_owned(), name: case.name, failures });
    }
    Ok(results)
}

fn failures(case: &Case, decision: &Decision) -> Vec<String> {
    let mut failures = Vec::new();
    // A case that expects a task expects the hook to fire.
    let expects_task = case.task.is_some() || case.includes.is_some();
    let outcome = case.outcome.as_deref().or(expects_task.then_some("fire"));
    match outcome {
        Some(outcome) if outcome != decision.outcome() => failures.push(format!(
            "outcome: expected {outcome}, is {} ({})",
            decision.outcome(),
            decision.reason()
        )),
        None if case.reason.is_none() => {
            failures.push("the case expects nothing: give outcome, reason, task or includes".into())
        }
        _ => {}
    }
    if let Some(reason) = &case.reason
        && !decision.reason().contains(reason)
    {
        failures.push(format!("reason: expected a part {reason:?}, is {:?}", decision.reason()));
    }
    let task = match decision {
        Decision::Fire { task } | Decision::InvalidTask { task, .. } => {
            serde_json::from_slice(task).unwrap_or_default()
        }
        _ => return failures,
    };
    for (expected, subset) in [(&case.task, false), (&case.includes, true)] {
        if let Some(expected) = expected {
            failures.extend(differences("task", expected, &task, subset).iter().map(Difference::to_string));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_of_this_repository_pass() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/hooks");
        let results = run(&folder, &Options::default()).unwrap();
        assert!(results.len() >= 5, "{results:#?}");
        let failed: Vec<_> =
            results.iter().filter(|result| !result.passed()).map(CaseResult::to_string).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[test]
    fn a_case_that_is_not_as_expected_fails() {
        let folder = tempfile::tempdir().unwrap();
        let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/hooks/demo.yml");
        let event = "{exchange: exchange/pulsehook/v1/webhook, routingKey: demo.push, payload: {name: Ann}}";
        std::fs::write(
            folder.path().join("cases.yml"),
            format!(
                "hook: {}\ncases:\n\
                 - {{name: wrong outcome, event: {event}, outcome: filtered}}\n\
                 - {{name: wrong task, event: {event}, includes: {{payload: {{env: {{NAME: Bob}}}}}}}}\n\
                 - {{name: wrong reason, event: {event}, reason: because}}\n\
                 - {{name: nothing, event: {event}}}\n\
                 - {{name: right, event: {event}, outcome: fire}}\n",
                hook.display()
            ),
        )
        .unwrap();
        let results = run(folder.path(), &Options::default()).unwrap();
        let failures: Vec<_> = results.iter().map(|result| result.failures.join(" ")).collect();
        assert!(failures[0].starts_with("outcome: expected filtered, is fire"), "{failures:#?}");
        assert_eq!(failures[1], "task.payload.env.NAME\n- \"Bob\"\n+ \"Ann\"\n");
        assert!(failures[2].starts_with("reason: expected a part \"because\""), "{failures:#?}");
        assert!(failures[3].starts_with("the case expects nothing"), "{failures:#?}");
        assert!(failures[4].is_empty(), "{failures:#?}");
        assert!(run(&folder.path().join("none"), &Options::default()).is_err());
    }

    #[test]
    fn faults_of_a_hook_in_a_case_file_have_the_lines_of_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cases.yml");
        let metadata = "{name: a, description: b, owner: o@example.com}";
        let text = format!(
            "cases: []\nhook:\n  hookGroupId: a\n  hookId: b\n  metadata: {metadata}\n  filter: payload.ref ==\n  task: {{}}\n"
        );
        std::fs::write(&path, text).unwrap();
        let error = format!("{:#}", run(&path, &Options::default()).unwrap_err());
        assert!(error.contains("cases.yml:6: hook.filter: "), "{error}");
    }
}
