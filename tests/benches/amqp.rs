//! A connection to the broker by amqprs alone.

use amqprs::channel::Channel;
use amqprs::connection::{Connection, OpenConnectionArguments};
use anyhow::Context as _;

/// Opens a connection and a channel of it. Both end with the connection.
pub async fn connect(url: &str) -> anyhow::Result<(Connection, Channel)> {
    let url = url::Url::parse(url)?;
    let (host, port) = (url.host_str().context("no host")?, url.port().context("no port")?);
    let password = url.password().context("no password")?;
    let connection =
        Connection::open(&OpenConnectionArguments::new(host, port, url.username(), password)).await?;
    let channel = connection.open_channel(None).await?;
    Ok((connection, channel))
}
