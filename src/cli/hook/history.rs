//! `pulsehook hook fires`, `decisions`, `audit`: what became of messages, and who did what.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use clap::Args;
use serde_json::Value;

use crate::cli::client::{Client, Refused, ServerArgs, hook_path};
use crate::cli::output::text;
use crate::hook::HookName;

/// How often `--follow` asks.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Entries that `--follow` asks for at a time; what happens in between beyond that is not shown.
const FOLLOWED: u32 = 1_000;

#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// `<hook-group>/<hook-id>`.
    name: HookName,
    /// So many of the newest.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FiresArgs {
    #[command(flatten)]
    history: HistoryArgs,
    /// Go on, and show each fire as it comes and as it ends.
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn fires(args: FiresArgs) -> anyhow::Result<()> {
    let HistoryArgs { name, limit, server } = args.history;
    let (client, output) = (server.client()?, server.output);
    let mut shown: HashMap<String, String> = HashMap::new();
    let mut fires = last_fires(&client, &name, limit).await?;
    loop {
        // Oldest first, as a log.
        let known = std::mem::take(&mut shown);
        for fire in fires.iter().rev() {
            let (id, state) = (text(fire, "taskId"), text(fire, "taskState"));
            if known.get(id).is_none_or(|before| before != state) {
                output.print_one(fire, || fire_line(fire))?;
            }
            shown.insert(id.to_owned(), state.to_owned());
        }
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
        let oldest = fires.last().map(|fire| text(fire, "taskCreateTime").to_owned()).unwrap_or_default();
        fires = last_fires(&client, &name, FOLLOWED).await?;
        // What was not asked for at first is not news.
        fires.retain(|fire| text(fire, "taskCreateTime") >= oldest.as_str());
    }
}

/// Newest first; none if the hook has not fired yet.
async fn last_fires(client: &Client, name: &HookName, limit: u32) -> anyhow::Result<Vec<Value>> {
    let path = format!("{}/last-fires?limit={limit}", hook_path(name));
    match client.call(Method::GET, &path, None).await {
        Ok(answer) => Ok(answer["lastFires"].as_array().cloned().unwrap_or_default()),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused)
                if refused.status == StatusCode::NOT_FOUND && refused.message.contains("has not fired") =>
            {
                Ok(Vec::new())
            }
            _ => Err(error),
        },
    }
}

fn fire_line(fire: &Value) -> String {
    let mut line =
        ["taskCreateTime", "taskId", "firedBy", "taskState"].map(|field| text(fire, field)).join("\t");
    let error = text(fire, "error");
    if !error.is_empty() {
        let parsed: Value = serde_json::from_str(error).unwrap_or_default();
        line.push('\t');
        line.push_str(parsed["message"].as_str().unwrap_or(error).lines().next().unwrap_or_default());
    }
    line
}

pub(super) async fn decisions(args: HistoryArgs) -> anyhow::Result<()> {
    list(args, "decisions", "decisions", |decision| {
        ["time", "outcome", "exchange", "routingKey", "messageId", "reason"]
            .map(|field| text(decision, field))
            .join("\t")
    })
    .await
}

pub(super) async fn audit(args: HistoryArgs) -> anyhow::Result<()> {
    list(args, "audit", "audit", |entry| {
        let nobody = if entry["action"] == "trigger-hook" { "(by token)" } else { "(pulsehook)" };
        let who = entry["clientId"].as_str().unwrap_or(nobody);
        let detail = entry.get("detail").map(Value::to_string).unwrap_or_default();
        [text(entry, "time"), who, text(entry, "action"), &detail].join("\t")
    })
    .await
}

async fn list(
    args: HistoryArgs,
    route: &str,
    field: &str,
    line: impl Fn(&Value) -> String,
) -> anyhow::Result<()> {
    let path = format!("{}/{route}?limit={}", hook_path(&args.name), args.limit);
    let answer = args.server.client()?.call(Method::GET, &path, None).await?;
    args.server.output.print(&answer, || {
        answer[field].as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
    })
}
