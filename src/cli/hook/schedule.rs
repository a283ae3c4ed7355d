//! `pulsehook hook schedule`: the next times of a hook, before it is registered or after.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use axum::http::Method;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::{ServerArgs, hook_path};
use crate::cli::located;
use crate::hook::{HookFile, HookName};
use crate::schedule::Schedule;

#[derive(Debug, Args)]
pub(in crate::cli) struct ScheduleArgs {
    /// Hook document in YAML or JSON (`-` reads standard input), or `<hook-group>/<hook-id>` of a hook at the router.
    #[arg(value_name = "FILE|NAME")]
    hook: String,
    /// How many times to show.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// For a file: show what comes after this time, e.g. 2026-11-22T10:05:00Z; now if not given.
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Prints a time a line, UTC; remarks go to standard error.
pub(super) async fn run(args: ScheduleArgs) -> anyhow::Result<()> {
    let path = Path::new(&args.hook);
    if args.hook == "-" || path.is_file() {
        return of_file(path, &args);
    }
    let name: HookName = args.hook.parse().map_err(|error| {
        anyhow!("{} is not a file, nor the name of a hook at the router: {error}", args.hook)
    })?;
    if args.from.is_some() {
        return Err(anyhow!("--from needs a hook file; a hook at the router is shown from now on"));
    }
    of_server(&name, &args).await
}

fn of_file(path: &Path, args: &ScheduleArgs) -> anyhow::Result<()> {
    let from = args.from.unwrap_or_else(Utc::now);
    let place = path.display();
    let file = HookFile::parse(&super::read(path)?).map_err(|error| anyhow!("{place}: {error}"))?;
    // The schedule of a file that does not name its hook can be shown all the same.
    let name = file.name().or_else(|_| HookName::new("unnamed", "unnamed")).context("a name")?;
    let schedule =
        file.hook(Some(&name)).and_then(|hook| Schedule::compile(&hook.schedule)).map_err(|problems| {
            anyhow!("the hook is not valid\n{}", located::lines(path, &file, &problems).join("\n"))
        })?;
    if schedule.is_empty() {
        eprintln!("{place}: the hook has no schedule");
    }
    let next: Vec<String> = schedule
        .after(from)
        .take(args.count.into())
        .map(|moment| moment.to_rfc3339_opts(SecondsFormat::Secs, true))
        .collect();
    args.server.output.print(&json!({ "next": next }), || next.join("\n"))
}

async fn of_server(name: &HookName, args: &ScheduleArgs) -> anyhow::Result<()> {
    let target = format!("{}/schedule?count={}", hook_path(name), args.count);
    let answer = args.server.client()?.call(Method::GET, &target, None).await?;
    if answer["schedule"].as_array().is_none_or(Vec::is_empty) {
        eprintln!("{name} has no schedule");
    }
    if answer["paused"] == true {
        eprintln!("{name} is paused: it is not due before that ends");
    }
    if let Some(since) = answer["overdueSince"].as_str() {
        eprintln!("{name} was due at {since} and is not triggered yet");
    }
    let moments = || {
        let next = answer["next"].as_array().into_iter().flatten();
        next.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    };
    args.server.output.print(&answer, moments)
}
