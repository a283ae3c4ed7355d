//! `pulsehook hook trigger`, `token`, `reset-token`: firing a hook by hand.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use axum::http::Method;
use clap::Args;
use serde_json::{Value, json};

use super::NameArgs;
use crate::cli::client::{ServerArgs, hook_path};
use crate::cli::output::text;
use crate::hook::{HookName, parse_document};

#[derive(Debug, Args)]
pub(in crate::cli) struct TriggerArgs {
    /// `<hook-group>/<hook-id>`.
    name: HookName,
    /// The payload: JSON or YAML text; `{}` if none is given.
    #[arg(long, value_name = "TEXT")]
    payload: Option<String>,
    /// The payload from a file; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    payload_file: Option<PathBuf>,
    /// Wait so many seconds for the outcome, at most 60; 0: not at all.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// A repeat with the same key is the same trigger, and makes no second task.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn trigger(args: TriggerArgs) -> anyhow::Result<()> {
    let given = match (&args.payload, &args.payload_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => super::read(file)?,
        (None, None) => "{}".to_owned(),
    };
    let payload = parse_document(&given).context("the payload is neither JSON nor YAML")?;
    let query = args.wait.map(|seconds| format!("?wait={seconds}")).unwrap_or_default();
    let path = format!("{}/trigger{query}", hook_path(&args.name));
    let client = args.server.client()?;
    let headers = args.idempotency_key.iter().map(|key| ("idempotency-key", key.as_str()));
    let answer = client.call_with(Method::POST, &path, headers, Some(&payload)).await?;
    args.server.output.print(&answer, || match text(&answer, "taskId") {
        "" => format!("{} declined: no task (`pulsehook hook decisions {0}` tells why)", args.name),
        task_id => task_id.to_owned(),
    })
}

pub(super) async fn token(args: NameArgs, method: Method) -> anyhow::Result<()> {
    let path = format!("{}/token", hook_path(&args.name));
    let answer: Value = args.server.client()?.call(method, &path, None).await?;
    if answer.get("token").is_none() {
        bail!("the answer has no token: {}", json!(answer));
    }
    args.server.output.print(&answer, || text(&answer, "token").to_owned())
}
