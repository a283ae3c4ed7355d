//! `pulsehook source …`: webhook sources of a configuration, tried out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bridge::trial::{self, Attempt, Preview};
use bytes::Bytes;
use chrono::Utc;
use clap::{Args, Subcommand};

use super::ConfigArgs;
use crate::app::source_filter;
use crate::auth::service::{Limits, Service};
use crate::config::ConfigError;

#[derive(Debug, Subcommand)]
pub(super) enum SourceCommand {
    /// List the configured sources.
    List(ConfigArgs),
    /// Check all sources: names, providers, secrets, filters. Exits with 1 if anything is wrong.
    Check(ConfigArgs),
    /// Sign an event as the provider would, and post it to the bridge.
    Send(SendArgs),
    /// Show the message that a payload would become. Needs neither server nor secret.
    Routes(AttemptArgs),
}

#[derive(Debug, Args)]
pub(super) struct AttemptArgs {
    /// Name of the source.
    name: String,
    /// The event's name, for providers that send it in a header.
    #[arg(long)]
    event: Option<String>,
    /// The delivery id; random if not given.
    #[arg(long)]
    delivery: Option<String>,
    /// JSON file with the body; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    payload: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// Where the bridge is; the configured address if not given.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    attempt: AttemptArgs,
}

impl AttemptArgs {
    fn attempt(&self) -> anyhow::Result<Attempt<'_>> {
        Ok(Attempt {
            source: &self.name,
            event: self.event.as_deref(),
            delivery: self.delivery.as_deref(),
            payload: Bytes::from(super::hook::read(&self.payload)?),
        })
    }
}

impl SourceCommand {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(args) => list(&args)?,
            Self::Check(args) => check(&args)?,
            Self::Send(args) => return send(&args).await,
            Self::Routes(args) => routes(&args)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(args: &ConfigArgs) -> anyhow::Result<()> {
    for source in trial::list(&args.load()?.bridge).map_err(anyhow::Error::msg)? {
        let title = source.title.unwrap_or_else(|| "unknown provider".into());
        println!(
            "{}\t{}\t{} ({})\t{} secrets",
            source.name, source.path, source.provider, title, source.secrets
        );
    }
    Ok(())
}

fn check(args: &ConfigArgs) -> anyhow::Result<()> {
    let config = args.load()?;
    let sources =
        bridge::check(&config.bridge, Some(&source_filter::compiler(&config.limits))).map_err(ConfigError)?;
    println!("{} sources, nothing wrong", sources.len());
    Ok(())
}

async fn send(args: &SendArgs) -> anyhow::Result<ExitCode> {
    let config = args.attempt.config.load()?;
    let url = args.url.clone().unwrap_or_else(|| format!("http://{}", config.bridge.listen));
    let request =
        trial::request(&config.bridge, &args.attempt.attempt()?, Utc::now()).map_err(anyhow::Error::msg)?;
    let time = Duration::from_secs(30);
    let service = Service::new(&url, Limits { call: time, connect: time, idle: time, concurrency: 1 })?;
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    let host = format!("{}:{}", service.host(), service.port());
    headers.insert(axum::http::header::HOST, host.parse().context("the URL's host")?);
    let answer = service
        .call(parts.method, service.target(&parts.uri.to_string()), headers, body, 1 << 20)
        .await
        .with_context(|| format!("cannot reach the bridge at {url} (--url says where it is)"))?;
    println!("{} {}", answer.status.as_u16(), String::from_utf8_lossy(&answer.body));
    Ok(if answer.status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn routes(args: &AttemptArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let compile = source_filter::compiler(&config.limits);
    let preview =
        trial::preview(&config.bridge, &config.pulse.user, &args.attempt()?, Some(&compile), Utc::now());
    match preview {
        Err(errors) => bail!(errors.join("; ")),
        Ok(Preview::Handshake { status, answer }) => {
            println!("a handshake: answered {status} {}, not published", answer.unwrap_or_default());
        }
        Ok(Preview::Message { message, filter }) => {
            println!("exchange     {}\nrouting key  {}", message.exchange, message.routing_key);
            if let Some(id) = &message.properties.message_id {
                println!("message id   {id}");
            }
            for (name, value) in &message.properties.headers {
                println!("header       {name}: {value}");
            }
            match filter {
                None => {}
                Some(Ok(true)) => println!("filter       yes: it is published"),
                Some(Ok(false)) => println!("filter       no: it is not published"),
                Some(Err(error)) => println!("filter       fails: {error}"),
            }
            println!("{}", String::from_utf8_lossy(&message.body));
        }
    }
    Ok(())
}
