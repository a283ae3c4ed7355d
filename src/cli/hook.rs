//! `pulsehook hook …`: hooks in files and at the router.

mod call;
mod history;
mod offline;
mod render;
mod schedule;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use axum::http::{Method, StatusCode};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Client, Refused, ServerArgs, hook_path};
use super::located;
use super::output::Output;
use crate::hook::{HookFile, HookName};
use crate::router::decide::{Limits, Rules};

#[derive(Debug, Subcommand)]
pub(super) enum HookCommand {
    /// Create the hook of a file; the same hook again is no error.
    Create(FileArgs),
    /// Replace a hook by the one of a file.
    Update(FileArgs),
    /// Show a hook's definition, with the health of its bindings.
    Show(NameArgs),
    /// List hooks.
    List(ListArgs),
    /// Delete a hook, its queue and the messages that wait in it.
    Delete(NameArgs),
    /// Fire a hook by hand; prints the id of its task.
    Trigger(call::TriggerArgs),
    /// Show the token with which anybody can trigger a hook.
    Token(NameArgs),
    /// Make a new token; the one before is no longer good.
    ResetToken(NameArgs),
    /// Show what a hook fired, oldest first.
    Fires(history::FiresArgs),
    /// Show why messages did not fire, newest first.
    Decisions(history::HistoryArgs),
    /// Show who made, changed, deleted or triggered a hook, newest first.
    Audit(history::HistoryArgs),
    /// Show what a message would become: decision, reason, task. Needs no server.
    Render(render::RenderArgs),
    /// Check hook files: document, filter, schema, template. Needs no server.
    Validate(offline::ValidateArgs),
    /// Run the cases in a folder: hooks, messages, and the tasks or reasons that are expected. Needs no server.
    Test(offline::TestArgs),
    /// Show when a hook is due next: one of a file (needs no server), or one at the router.
    Schedule(schedule::ScheduleArgs),
    /// List the functions and filters of templates.
    Functions(OutputArgs),
}

#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// Hook document in YAML or JSON; `-` reads standard input.
    file: PathBuf,
    /// `<hook-group>/<hook-id>`, if the file does not say so itself.
    #[arg(long, value_name = "NAME")]
    name: Option<HookName>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// `<hook-group>/<hook-id>`.
    name: HookName,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// How results are shown.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only the hooks of this group.
    group: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

impl HookCommand {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(args) => save(args, Method::PUT).await?,
            Self::Update(args) => save(args, Method::POST).await?,
            Self::Show(args) => show(args).await?,
            Self::List(args) => list(args).await?,
            Self::Delete(args) => delete(args).await?,
            Self::Trigger(args) => call::trigger(args).await?,
            Self::Token(args) => call::token(args, Method::GET).await?,
            Self::ResetToken(args) => call::token(args, Method::POST).await?,
            Self::Fires(args) => history::fires(args).await?,
            Self::Decisions(args) => history::decisions(args).await?,
            Self::Audit(args) => history::audit(args).await?,
            Self::Render(args) => return render::run(args),
            Self::Validate(args) => return offline::validate(&args),
            Self::Test(args) => return offline::test(&args),
            Self::Schedule(args) => schedule::run(args).await?,
            Self::Functions(args) => offline::functions(args.output)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The text of a file, or of standard input.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}

async fn save(args: FileArgs, method: Method) -> anyhow::Result<()> {
    let place = args.file.display();
    let file = HookFile::parse(&read(&args.file)?).map_err(|error| anyhow!("{place}: {error}"))?;
    let name = match args.name {
        Some(name) => name,
        None => file.name().map_err(|problem| anyhow!("{place}: {problem} (or give --name)"))?,
    };
    let checked = file.hook(Some(&name)).and_then(|hook| Rules::compile(&hook, &Limits::default()));
    if let Err(problems) = checked {
        let lines = located::lines(&args.file, &file, &problems);
        return Err(anyhow!("the hook is not valid\n{}", lines.join("\n")));
    }
    let client = args.server.client()?;
    let saved = client.call(method.clone(), &hook_path(&name), Some(file.value())).await;
    let saved = saved.map_err(|error| located::refusal(&args.file, &file, error))?;
    let done = if method == Method::PUT { "created" } else { "updated" };
    print_hook(&client, args.server.output, &name, &saved, format!("{done} {name}")).await
}

/// Shows a definition to programs, and to people a text and the bindings that do not stand.
async fn print_hook(
    client: &Client,
    output: Output,
    name: &HookName,
    definition: &Value,
    text: String,
) -> anyhow::Result<()> {
    output.print(definition, || text)?;
    if output == Output::Text
        && let Err(error) = print_bindings(client, name).await
    {
        eprintln!("how its bindings are cannot be told: {error:#}");
    }
    Ok(())
}

/// Tells which bindings do not stand; says nothing when all do.
async fn print_bindings(client: &Client, name: &HookName) -> anyhow::Result<()> {
    let health = client.call(Method::GET, &format!("{}/bindings", hook_path(name)), None).await?;
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    if health.get("queueError").is_some() {
        println!("  its queue does not stand yet: {}", text(&health, "queueError"));
    }
    for binding in health["bindings"].as_array().into_iter().flatten() {
        if binding["state"] != "bound" {
            println!(
                "  binding {} {} is refused: {} (it is tried again)",
                text(binding, "exchange"),
                text(binding, "routingKeyPattern"),
                text(binding, "error")
            );
        }
    }
    Ok(())
}

async fn show(args: NameArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let definition = client.call(Method::GET, &hook_path(&args.name), None).await?;
    print_hook(&client, args.server.output, &args.name, &definition, format!("{definition:#}")).await
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let groups: Vec<String> = match args.group {
        Some(group) => vec![group],
        None => {
            let answer = client.call(Method::GET, "/hooks", None).await?;
            answer["groups"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect()
        }
    };
    let mut all = Vec::new();
    for group in groups {
        let answer = match client.call(Method::GET, &format!("/hooks/{group}"), None).await {
            // Its last hook may have been deleted since.
            Err(error)
                if error
                    .downcast_ref::<Refused>()
                    .is_some_and(|refused| refused.status == StatusCode::NOT_FOUND) =>
            {
                continue;
            }
            answer => answer?,
        };
        all.extend(answer["hooks"].as_array().cloned().unwrap_or_default());
    }
    let line = |hook: &Value| {
        let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let [group, id, name] = [&hook["hookGroupId"], &hook["hookId"], &hook["metadata"]["name"]].map(field);
        format!("{group}/{id}\t{name}")
    };
    let text = || all.iter().map(line).collect::<Vec<_>>().join("\n");
    args.server.output.print(&serde_json::json!({ "hooks": all }), text)
}

async fn delete(args: NameArgs) -> anyhow::Result<()> {
    args.server.client()?.call(Method::DELETE, &hook_path(&args.name), None).await?;
    args.server.output.print(&serde_json::json!({}), || format!("deleted {}", args.name))
}
