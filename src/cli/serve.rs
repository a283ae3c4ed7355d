//! `dev`, `bridge`, `router`: the long-running roles.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::ConfigArgs;
use crate::app;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// Address of API, webhooks and local queue: a loopback address; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Folder for keys and databases; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "pulsehook-data")]
    data: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn dev(args: DevArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let options = app::dev::Options { listen: args.listen, data: args.data };
    app::dev::run(config, options, app::stop_on_signals()?).await
}

pub(super) async fn bridge(args: ConfigArgs) -> anyhow::Result<()> {
    app::run_bridge(args.load()?, || args.load(), app::stop_on_signals()?).await
}

pub(super) async fn router(config: Config) -> anyhow::Result<()> {
    app::run_router(config, app::stop_on_signals()?).await
}
