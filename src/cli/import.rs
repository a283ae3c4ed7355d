//! `pulsehook import`: copies every hook of a Taskcluster Hooks deployment, and says what a person should check.
//!
//! Hooks are copied over the API, which both sides speak, or written into files for `pulsehook apply`. Nothing at the source
//! is changed; a hook that stands at both fires at both, so they can be made paused and set going when the source is
//! switched off. What cannot be copied (trigger tokens, past fires) is named.

mod advice;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use axum::http::{Method, StatusCode};
use clap::Args;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use super::client::{Client, Refused, ServerArgs, client_of, hook_path};
use super::output::{Output, text};
use crate::hook::{Hook, HookName};
use crate::router::decide::{Limits, Rules};

/// Calls at a time: the source may be busy with its own work.
const AT_ONCE: usize = 4;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The source: with --root-url and the credentials in TASKCLUSTER_CLIENT_ID, TASKCLUSTER_ACCESS_TOKEN, which need the scope
    /// hooks:list-hooks:*.
    #[command(flatten)]
    source: ServerArgs,
    /// Root URL of the pulsehook router to copy to. Who calls there is in PULSEHOOK_CLIENT_ID, PULSEHOOK_ACCESS_TOKEN and
    /// PULSEHOOK_CERTIFICATE, and needs the scopes hooks:* and assume:hook-id:*.
    #[arg(long, value_name = "URL", required_unless_present = "files")]
    to: Option<String>,
    /// Write each hook into a file of this folder, <hookGroupId>/<hookId>.json, for `pulsehook apply`.
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    files: Option<PathBuf>,
    /// Only these groups.
    #[arg(long = "group", value_name = "HOOK_GROUP_ID")]
    groups: Vec<String>,
    /// Make the copies paused: messages wait until somebody sets them going.
    #[arg(long)]
    paused: bool,
    /// Replace hooks that are there with another definition; without it they are left as they are.
    #[arg(long)]
    overwrite: bool,
}

/// What became of one hook.
struct Copied {
    name: HookName,
    outcome: Result<&'static str, String>,
    checks: Vec<String>,
}

/// Exits with 1 if a hook could not be copied.
pub(super) async fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let source = args.source.client()?;
    let target = args.to.as_deref().map(|url| client_of(url, "PULSEHOOK")).transpose()?;
    let hooks = all_hooks(&source, &args.groups).await.context("cannot read the hooks of the source")?;
    let copying = stream::iter(&hooks).map(|document| copy(&args, target.as_ref(), document));
    let copied: Vec<Copied> = copying.buffered(AT_ONCE).collect().await;
    let output = args.source.output;
    let mut failed = 0;
    for hook in &copied {
        failed += usize::from(hook.outcome.is_err());
        let (outcome, error) = match &hook.outcome {
            Ok(outcome) => (*outcome, None),
            Err(error) => ("failed", Some(error)),
        };
        let value = json!({
            "hook": hook.name.to_string(), "outcome": outcome, "error": error, "check": hook.checks,
        });
        output.print_one(&value, || {
            let mut lines = vec![format!("{outcome:<10} {}", hook.name)];
            lines.extend(
                error.map(|error| format!("             ! {}", error.replace('\n', "\n               "))),
            );
            lines.extend(hook.checks.iter().map(|check| format!("             - {check}")));
            lines.join("\n")
        })?;
    }
    if output == Output::Text {
        println!("\n{} hooks, {failed} could not be copied\n", copied.len());
        println!("To check by hand:");
        for line in advice::for_all(args.paused) {
            println!("  - {line}");
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn all_hooks(source: &Client, only: &[String]) -> anyhow::Result<Vec<Value>> {
    let groups: Vec<String> = match only {
        [] => {
            let answer = source.call(Method::GET, "/hooks", None).await?;
            let groups = answer["groups"].as_array().cloned().unwrap_or_default();
            groups.iter().filter_map(|group| group.as_str().map(str::to_owned)).collect()
        }
        only => only.to_vec(),
    };
    let mut hooks = Vec::new();
    let lists = stream::iter(&groups).map(async |group| {
        source
            .call(Method::GET, &format!("/hooks/{group}"), None)
            .await
            .with_context(|| format!("group {group}"))
    });
    for answer in lists.buffered(AT_ONCE).collect::<Vec<_>>().await {
        hooks.extend(answer?["hooks"].as_array().cloned().unwrap_or_default());
    }
    if hooks.is_empty() {
        bail!("there are none");
    }
    Ok(hooks)
}

async fn copy(args: &ImportArgs, target: Option<&Client>, document: &Value) -> Copied {
    let name =
        HookName { group: text(document, "hookGroupId").to_owned(), id: text(document, "hookId").to_owned() };
    let mut document = document.clone();
    if args.paused {
        document["paused"] = json!(true);
    }
    let hook = match Hook::from_json(&name, &document)
        .and_then(|hook| Rules::compile(&hook, &Limits::default()).map(|_| hook))
    {
        Ok(hook) => hook,
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Copied { name, outcome: Err(problems.join("\n")), checks: Vec::new() };
        }
    };
    let checks = advice::for_hook(&hook);
    let outcome = match (target, &args.files) {
        (Some(target), _) => register(target, &name, &hook.to_json(), args.overwrite).await,
        (None, Some(folder)) => write(folder, &name, &hook.to_json()),
        (None, None) => Ok("checked"),
    };
    Copied { name, outcome: outcome.map_err(|error| format!("{error:#}")), checks }
}

async fn register(
    target: &Client,
    name: &HookName,
    document: &Value,
    overwrite: bool,
) -> anyhow::Result<&'static str> {
    let path = hook_path(name);
    let present = match target.call(Method::GET, &path, None).await {
        Ok(present) => Some(present),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == StatusCode::NOT_FOUND => None,
            _ => return Err(error),
        },
    };
    match present {
        None => {
            target.call(Method::PUT, &path, Some(document)).await?;
            Ok("created")
        }
        Some(present) if present == *document => Ok("same"),
        Some(_) if overwrite => {
            target.call(Method::POST, &path, Some(document)).await?;
            Ok("replaced")
        }
        Some(_) => Ok("differs"),
    }
}

fn write(folder: &std::path::Path, name: &HookName, document: &Value) -> anyhow::Result<&'static str> {
    // An id may have slashes, and no part of a name is `.` or `..`.
    let path = folder.join(&name.group).join(format!("{}.json", name.id));
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    std::fs::write(&path, format!("{document:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok("written")
}
