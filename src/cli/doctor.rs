//! `pulsehook doctor`: checks a configuration and all that it names, and says what to do.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::ConfigArgs;
use super::output::Output;
use crate::doctor::{self, Finding, Outcome, Roles};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// What the bridge needs.
    Bridge,
    /// What the router needs.
    Router,
    /// Both.
    All,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// For which role to check: a bridge has no store and no credentials of the queue service.
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
    /// How results are shown.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exits with 1 if anything failed.
pub(super) async fn doctor(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let roles = Roles { bridge: args.role != Role::Router, router: args.role != Role::Bridge };
    let text = args.output == Output::Text;
    let findings = doctor::examine(&config, roles, |finding| {
        if text {
            println!("{}", shown(finding));
        }
    })
    .await;
    let failed = findings.iter().filter(|finding| finding.outcome == Outcome::Failed).count();
    let value = json!({ "ok": failed == 0, "findings": findings });
    args.output.print(&value, || match failed {
        0 => "\nnothing stands in the way".to_owned(),
        1 => "\n1 check failed".to_owned(),
        failed => format!("\n{failed} checks failed"),
    })?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(finding: &Finding) -> String {
    let mark = match finding.outcome {
        Outcome::Ok => "ok     ",
        Outcome::Warning => "warning",
        Outcome::Failed => "FAILED ",
        Outcome::Skipped => "skipped",
    };
    let line = format!("{mark}  {}: {}", finding.check, finding.found);
    match &finding.advice {
        Some(advice) => format!("{line}\n         → {advice}"),
        None => line,
    }
}
