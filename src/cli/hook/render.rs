//! `pulsehook hook render`: a dry run on the router's own code path.

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;

use crate::cli::render::{Options, render};
use crate::router::decide::FiredBy;

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
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
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
    let report = render(&super::read(&args.file)?, &super::read(&args.message)?, &options)?;
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
