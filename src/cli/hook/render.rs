//! `pulsehook hook render`: a dry run on the router's own code path.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;

use super::OutputArgs;
use crate::cli::output::Output;
use crate::cli::render::diff::differences;
use crate::cli::render::{Options, RenderReport, render};
use crate::hook::parse_document;
use crate::router::decide::{Decision, FiredBy};

#[derive(Debug, Args)]
pub(in crate::cli) struct RenderArgs {
    /// Hook document in YAML or JSON.
    file: PathBuf,
    /// Event: JSON or YAML with exchange, routingKey and payload, or a bare payload with --exchange and --routing-key;
    /// `-` reads standard input.
    #[arg(long, value_name = "EVENT")]
    message: PathBuf,
    /// Exchange of the message.
    #[arg(long)]
    exchange: Option<String>,
    /// Routing key of the message.
    #[arg(long)]
    routing_key: Option<String>,
    /// What fired it: pulseMessage, schedule, triggerHook or triggerHookWithToken.
    #[arg(long, value_name = "KIND", value_parser = fired_by)]
    fired_by: Option<FiredBy>,
    /// The moment of the fire, e.g. 2026-11-22T10:05:00Z; now if not given.
    #[arg(long, value_name = "TIME")]
    now: Option<DateTime<Utc>>,
    /// The task id.
    #[arg(long, value_name = "SLUGID")]
    task_id: Option<String>,
    /// Compare with the task of this file (JSON or YAML): print what differs, and exit with 1 if anything does. `null` in
    /// the file: no task is to come of the event, for whatever reason but an error.
    #[arg(long, value_name = "TASK")]
    expect: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

fn fired_by(text: &str) -> Result<FiredBy, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "not one of pulseMessage, schedule, triggerHook, triggerHookWithToken".to_owned())
}

pub(super) fn run(args: RenderArgs) -> anyhow::Result<ExitCode> {
    let options = Options {
        exchange: args.exchange,
        routing_key: args.routing_key,
        fired_by: args.fired_by,
        now: args.now,
        task_id: args.task_id,
        limits: Default::default(),
    };
    let report = render(&args.file, &super::read(&args.file)?, &super::read(&args.message)?, &options)?;
    if let Some(expect) = &args.expect {
        return compare(expect, &report, args.output.output);
    }
    args.output.output.print(&report.to_json(), || report.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn compare(expect: &std::path::Path, report: &RenderReport, output: Output) -> anyhow::Result<ExitCode> {
    let text = super::read(expect)?;
    // To YAML that is `null`, too; here it is more likely what a command that failed has left.
    if text.trim().is_empty() {
        bail!("{} is empty: write the expected task into it, or null if none is to come", expect.display());
    }
    let expected = parse_document(&text).with_context(|| expect.display().to_string())?;
    let found = differences("task", &expected, &report.task().unwrap_or_default(), false);
    let fires = matches!(report.decision, Decision::Fire { .. });
    // A task that the queue service would refuse is none, however much it looks like the expected one; nor does a hook that
    // is broken decide not to fire.
    let as_expected =
        found.is_empty() && if expected.is_null() { !report.decision.is_error() } else { fires };
    let mut value = report.to_json();
    value["differences"] = json!(found);
    output.print(&value, || {
        if as_expected {
            return format!("{}: as expected", report.hook);
        }
        let outcome = if fires { String::new() } else { report.to_string() };
        outcome + &found.iter().map(ToString::to_string).collect::<String>()
    })?;
    Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
