//! `pulsehook local-queue`: the local queue as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::local::{Config, Credentials, Data, LocalQueue};
use crate::server;

/// A recording stand-in for the Taskcluster Queue: takes tasks and keeps them, runs nothing
#[derive(Debug, Args)]
pub struct LocalQueueArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// SQLite file that keeps the tasks
    #[arg(long, value_name = "FILE", default_value = "pulsehook-queue.db")]
    data: PathBuf,
    /// Keep the tasks in memory only
    #[arg(long, conflicts_with = "data")]
    memory: bool,
    /// The client that may create tasks
    #[arg(long, value_name = "ID", default_value = "pulsehook", env = "TASKCLUSTER_CLIENT_ID")]
    client_id: String,
    /// Where its access token is: env:NAME or file:PATH
    #[arg(long, value_name = "REFERENCE", default_value = "env:TASKCLUSTER_ACCESS_TOKEN")]
    access_token: String,
    /// Take tasks from whoever is on this machine, unsigned or with any signature (loopback addresses only)
    #[arg(long, conflicts_with = "access_token")]
    open: bool,
    /// Let callers provoke failures through /__faults__ (for tests; loopback addresses only)
    #[arg(long)]
    faults: bool,
}

/// Serves until `stop`. The first line on stdout is `listening on http://ADDR`.
pub async fn run(args: LocalQueueArgs, stop: CancellationToken) -> anyhow::Result<()> {
    for (on, option) in [(args.open, "--open"), (args.faults, "--faults")] {
        anyhow::ensure!(
            !on || args.listen.ip().is_loopback(),
            "{option} is for loopback addresses only, and {} is none",
            args.listen
        );
    }
    let credentials = (!args.open).then(|| Credentials {
        client_id: args.client_id,
        access_token: pulse::Secret::new(args.access_token),
    });
    let data = if args.memory { Data::Memory } else { Data::File(args.data) };
    let described = match &data {
        Data::Memory => "memory".to_owned(),
        Data::File(path) => path.display().to_string(),
    };
    let queue = LocalQueue::open(Config { data, credentials, faults: args.faults })?;
    let listener =
        server::listen(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    println!("recording tasks in {described}; this stand-in runs nothing");
    queue.serve(listener, stop).await;
    Ok(())
}
