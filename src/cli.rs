//! The command line: one module per command.

mod apply;
mod client;
mod doctor;
mod fires;
mod hook;
mod import;
mod located;
mod output;
pub mod render;
mod serve;
mod source;
mod store;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// Event router that starts Taskcluster tasks when something happens on pulse.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How logs look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "PULSEHOOK_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged: a level, or levels per module as in `info,pulsehook::router=debug`.
    #[arg(long, global = true, default_value = "info", env = "PULSEHOOK_LOG")]
    log: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process, for trying out and for development; nothing to install.
    Dev(serve::DevArgs),
    /// Serve webhooks and publish them as pulse messages.
    Bridge(ConfigArgs),
    /// Consume pulse messages, decide, submit tasks; serve the API.
    Router(ConfigArgs),
    /// A recording stand-in for the queue service, for tests and staging: takes tasks, runs nothing.
    LocalQueue(crate::queue::command::LocalQueueArgs),
    /// Create, update, show, list, delete and try hooks.
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Make the hooks at the router those of files: shows a diff, changes only what differs.
    Apply(apply::ApplyArgs),
    /// Print completions for a shell, to be put where it looks for them.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Webhook sources: list, check, send an event as the provider would, show the message it becomes.
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Dead letters: messages that could not become tasks, kept with their reason.
    #[command(subcommand)]
    Dead(fires::DeadCommand),
    /// Fire a recorded message again.
    Replay(fires::ReplayArgs),
    /// Copy every hook of a Taskcluster Hooks deployment, and say what a person should check.
    Import(import::ImportArgs),
    /// Back up, restore and check the router's store.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Check a configuration and all that it names: broker and rights, store, queue service, credentials, scopes, mail, clock.
    /// Says what to do about each. Exits with 1 if anything fails.
    Doctor(doctor::DoctorArgs),
    /// Render templates for a router, on standard input and output.
    #[command(hide = true)]
    RenderWorker,
}

/// The configuration file of a role.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration file, laid over the defaults; the environment (PULSEHOOK_<SECTION>__<KEY>) is laid over it.
    #[arg(long, value_name = "FILE", env = "PULSEHOOK_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.config.as_deref(), std::env::vars())?)
    }
}

impl Cli {
    /// Runs the command. Exit codes: 0 done, 1 failed or (where a command says so) different, 2 wrong usage.
    pub fn run(self) -> ExitCode {
        if let Command::RenderWorker = self.command {
            return render_worker();
        }
        self.start_logging();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("pulsehook: cannot start: {error}");
                return ExitCode::FAILURE;
            }
        };
        let code = match runtime.block_on(self.command.run()) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("pulsehook: {error:#}");
                ExitCode::FAILURE
            }
        };
        // What still blocks a thread (a standby that waits for the store, say) is of no use to anybody now.
        runtime.shutdown_background();
        code
    }

    fn start_logging(&self) {
        let filter = EnvFilter::try_new(&self.log).unwrap_or_else(|error| {
            eprintln!("pulsehook: --log {}: {error}; logging at info", self.log);
            EnvFilter::new("info")
        });
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        // Only one subscriber can be set, and this is the only place that sets one.
        let _ = match self.log_format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
    }
}

impl Command {
    async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Dev(args) => serve::dev(args).await?,
            Self::Bridge(args) => serve::bridge(args).await?,
            Self::Router(args) => serve::router(args.load()?).await?,
            Self::LocalQueue(args) => {
                crate::queue::command::run(args, crate::app::stop_on_signals()?).await?
            }
            Self::Hook(command) => return command.run().await,
            Self::Apply(args) => return apply::apply(args).await,
            Self::Completions { shell } => {
                clap_complete::generate(shell, &mut Cli::command(), "pulsehook", &mut std::io::stdout());
            }
            Self::Source(command) => return command.run().await,
            Self::Dead(command) => command.run().await?,
            Self::Import(args) => return import::import(args).await,
            Self::Store(command) => return command.run().await,
            Self::Doctor(args) => return doctor::doctor(args).await,
            Self::Replay(args) => fires::replay(args).await?,
            Self::RenderWorker => return Ok(render_worker()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A worker has no runtime, no logs and little memory; see [`crate::template::worker`].
fn render_worker() -> ExitCode {
    match crate::template::worker::serve(std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
