//! `pulsehook apply`: makes the hooks at the router those of files. Changes only what differs, and shows how.
//!
//! Every file is read and checked before anything is changed. With `--prune`, hooks that are in none of the files are deleted,
//! in the groups that the files name and nowhere else.

mod files;
mod plan;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use axum::http::{Method, StatusCode};
use clap::Args;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use super::client::{Client, Refused, ServerArgs, hook_path};
use plan::{Action, Step};

/// Calls at a time: enough to hide their latency, few for a router that does other things too.
const AT_ONCE: usize = 8;

/// Exit code of a dry run that found differences.
const DIFFERENT: u8 = 2;

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// Hook files in YAML or JSON, and folders of them (with all that is below).
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Delete hooks that are in none of the files, in the groups that the files name.
    #[arg(long)]
    prune: bool,
    /// Change nothing, show what would change; exits with 2 if anything would.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn apply(args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let hooks = files::read_all(&args.paths)?;
    let client = args.server.client()?;
    let groups = plan::groups(&hooks);
    let present: Vec<anyhow::Result<Vec<Value>>> =
        stream::iter(&groups).map(|group| hooks_of(&client, group)).buffer_unordered(AT_ONCE).collect().await;
    let mut registered = Vec::new();
    for hooks in present {
        registered.extend(hooks?);
    }
    let steps = plan::plan(&hooks, &registered, args.prune);
    files::check_templates(&hooks, &steps)?;
    let output = args.server.output;
    let done: Vec<anyhow::Result<()>> = match args.dry_run {
        true => steps.iter().map(|_| Ok(())).collect(),
        false => {
            // Deletions come last, and only once everything else stands: a hook may have another name from now on.
            let (saves, deletions) =
                steps.split_at(steps.partition_point(|step| !matches!(step.action, Action::Delete)));
            let doing =
                |steps| stream::iter(steps).map(|step| run(&client, step)).buffered(AT_ONCE).collect();
            let mut done: Vec<anyhow::Result<()>> = doing(saves).await;
            match done.iter().all(Result::is_ok) {
                true => done.extend(doing(deletions).await),
                false => done.extend(deletions.iter().map(|_| {
                    Err(anyhow!(
                        "not deleted, because other changes failed; apply again when they are mended"
                    ))
                })),
            }
            done
        }
    };
    let (mut succeeded, mut unsaved) = (Vec::new(), 0);
    for (step, result) in steps.iter().zip(done) {
        match result {
            Ok(()) => {
                succeeded.push(step);
                output.print_one(&step.to_json(), || step.to_string())?;
            }
            Err(error) => {
                let error = match hooks.get(&step.name) {
                    Some(found) => {
                        unsaved += 1;
                        found.refusal(error)
                    }
                    None => error,
                };
                eprintln!("{}: {error:#}", step.name);
            }
        }
    }
    let failed = steps.len() - succeeded.len();
    let summary = plan::summary(succeeded.into_iter(), hooks.len(), failed, unsaved, args.dry_run);
    output.print_one(&json!({ "summary": summary.to_json() }), || summary.to_string())?;
    if failed > 0 {
        bail!("{failed} of {} changes failed", steps.len());
    }
    let different = args.dry_run && !steps.is_empty();
    Ok(if different { ExitCode::from(DIFFERENT) } else { ExitCode::SUCCESS })
}

async fn hooks_of(client: &Client, group: &str) -> anyhow::Result<Vec<Value>> {
    match client.call(Method::GET, &format!("/hooks/{group}"), None).await {
        Ok(answer) => Ok(answer["hooks"].as_array().cloned().unwrap_or_default()),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == StatusCode::NOT_FOUND => Ok(Vec::new()),
            _ => Err(error),
        },
    }
}

async fn run(client: &Client, step: &Step) -> anyhow::Result<()> {
    let path = hook_path(&step.name);
    match &step.action {
        Action::Create(document) => client.call(Method::PUT, &path, Some(document)).await?,
        Action::Update { document, .. } => client.call(Method::POST, &path, Some(document)).await?,
        Action::Delete => client.call(Method::DELETE, &path, None).await?,
    };
    Ok(())
}
