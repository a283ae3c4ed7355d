//! `pulsehook hook validate`, `test` and `functions`: what people run in their own CI, without a server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::render::{Options, cases, validate as check};
use crate::template::functions;

#[derive(Debug, Args)]
pub(in crate::cli) struct ValidateArgs {
    /// Hook documents in YAML or JSON.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// Folder (or file) of cases.
    folder: PathBuf,
}

/// Exits with 1 if any file has a fault.
pub(super) fn validate(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let mut sound = true;
    for file in &args.files {
        match check(&super::read(file)?, &Default::default()) {
            Ok(name) => println!("{}: {name} is valid", file.display()),
            Err(faults) => {
                sound = false;
                for fault in faults {
                    println!("{}:{}: {}", file.display(), fault.line, fault.problem);
                }
            }
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Exits with 1 if any case fails.
pub(super) fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let results = cases::run(&args.folder, &Options::default())?;
    let failed = results.iter().filter(|result| !result.passed()).count();
    for result in &results {
        print!("{result}");
    }
    println!("{} cases, {failed} failed", results.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn functions() {
    for function in functions::all() {
        println!(
            "{}\n    {}\n    {} → {}",
            function.usage, function.summary, function.example.0, function.example.1
        );
    }
}
