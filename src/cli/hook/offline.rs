//! `pulsehook hook validate`, `test` and `functions`: what people run in their own CI, without a server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::OutputArgs;
use crate::cli::output::Output;
use crate::cli::render::{Options, cases, validate as check};
use crate::hook::Located;
use crate::template::functions;

#[derive(Debug, Args)]
pub(in crate::cli) struct ValidateArgs {
    /// Hook documents in YAML or JSON.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// Folder (or file) of cases.
    folder: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Exits with 1 if any file has a fault.
pub(super) fn validate(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let mut sound = true;
    for file in &args.files {
        let checked = check(&super::read(file)?, &Default::default());
        let name = checked.as_ref().ok();
        let faults = checked.as_ref().err().map(Vec::as_slice).unwrap_or_default();
        sound &= faults.is_empty();
        let value = json!({ "file": file, "hook": name, "valid": faults.is_empty(), "faults": faults });
        args.output.output.print_one(&value, || match name {
            Some(name) => format!("{}: {name} is valid", file.display()),
            None => {
                let line = |fault: &Located| format!("{}:{}: {}", file.display(), fault.line, fault.problem);
                faults.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        })?;
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Exits with 1 if any case fails.
pub(super) fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let results = cases::run(&args.folder, &Options::default())?;
    let failed = results.iter().filter(|result| !result.passed()).count();
    let output = args.output.output;
    for result in &results {
        output.print_one(&json!(result), || result.to_string().trim_end().to_owned())?;
    }
    let summary = json!({ "summary": { "cases": results.len(), "failed": failed } });
    output.print_one(&summary, || format!("{} cases, {failed} failed", results.len()))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn functions(output: Output) -> anyhow::Result<()> {
    for function in functions::all() {
        let (usage, summary, (example, gives)) = (function.usage, function.summary, function.example);
        let value = json!({ "usage": usage, "summary": summary, "example": example, "gives": gives });
        output.print_one(&value, || format!("{usage}\n    {summary}\n    {example} → {gives}"))?;
    }
    Ok(())
}
