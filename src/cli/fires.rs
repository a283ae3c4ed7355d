//! `pulsehook dead …` and `pulsehook replay`: fires that get another chance.

use anyhow::bail;
use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, ServerArgs, hook_path};
use crate::hook::HookName;

#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// List dead letters, newest first.
    List(ListArgs),
    /// Show one with its message, rendered task and reason.
    Show(OneArgs),
    /// Submit again, rendered anew with the hook as it is now, under the same task id.
    Requeue(SomeArgs),
    /// Mark as not needed; the record stays.
    Drop(SomeArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those of this hook.
    hook: Option<HookName>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// `<hook-group>/<hook-id>`.
    hook: HookName,
    /// Task id, as `dead list` shows it.
    task_id: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct SomeArgs {
    /// `<hook-group>/<hook-id>`.
    hook: HookName,
    /// Task ids, as `dead list` shows them.
    #[arg(required_unless_present = "all")]
    task_ids: Vec<String>,
    /// All dead letters of the hook.
    #[arg(long, conflicts_with = "task_ids")]
    all: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// `<hook-group>/<hook-id>`.
    hook: HookName,
    /// Task id of the fire.
    #[arg(long, value_name = "ID")]
    fire: String,
    /// As a new fire with a new task id, with the hook as it is now.
    #[arg(long)]
    as_new: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl DeadCommand {
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(args) => {
                let letters = dead_letters(&args.server.client()?, args.hook.as_ref()).await?;
                let text = || letters.iter().map(line).collect::<Vec<_>>().join("\n");
                args.server.output.print(&json!({ "deadLetters": letters }), text)
            }
            Self::Show(args) => {
                let path = format!("{}/fires/{}", hook_path(&args.hook), args.task_id);
                let letter = args.server.client()?.call(Method::GET, &path, None).await?;
                args.server.output.print(&letter, || format!("{letter:#}"))
            }
            Self::Requeue(args) => each(args, "requeue", "requeued").await,
            Self::Drop(args) => each(args, "drop", "dropped").await,
        }
    }
}

async fn dead_letters(client: &Client, hook: Option<&HookName>) -> anyhow::Result<Vec<Value>> {
    let path = hook.map(hook_path).unwrap_or_default();
    let (mut letters, mut query) = (Vec::new(), String::new());
    loop {
        let page = client.call(Method::GET, &format!("{path}/dead-letters{query}"), None).await?;
        letters.extend(page["deadLetters"].as_array().cloned().unwrap_or_default());
        match page["continuationToken"].as_str() {
            Some(token) => query = format!("?continuationToken={token}"),
            None => return Ok(letters),
        }
    }
}

fn line(letter: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{}\t{}/{}\t{}\t{}: {}",
        text(&letter["firedAt"]),
        text(&letter["hookGroupId"]),
        text(&letter["hookId"]),
        text(&letter["taskId"]),
        text(&letter["error"]["code"]),
        text(&letter["error"]["message"]).lines().next().unwrap_or_default(),
    )
}

async fn each(args: SomeArgs, action: &str, done: &str) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let task_ids = match args.all {
        false => args.task_ids,
        true => dead_letters(&client, Some(&args.hook))
            .await?
            .iter()
            .filter_map(|letter| letter["taskId"].as_str().map(ToOwned::to_owned))
            .collect(),
    };
    let mut failed = 0;
    for task_id in &task_ids {
        let path = format!("{}/fires/{task_id}/{action}", hook_path(&args.hook));
        match client.call(Method::POST, &path, Some(&json!({}))).await {
            Ok(answer) => args.server.output.print_one(&answer, || format!("{done} {task_id}"))?,
            Err(error) => {
                failed += 1;
                eprintln!("{task_id}: {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} could not be {done}", task_ids.len());
    }
    Ok(())
}

pub(super) async fn replay(args: ReplayArgs) -> anyhow::Result<()> {
    let path = format!("{}/fires/{}/replay", hook_path(&args.hook), args.fire);
    let answer =
        args.server.client()?.call(Method::POST, &path, Some(&json!({ "asNew": args.as_new }))).await?;
    let text = || format!("replayed as {}", answer["taskId"].as_str().unwrap_or_default());
    args.server.output.print(&answer, text)
}
