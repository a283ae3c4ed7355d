//! AMQP by hand: what no client library would send, and foreign publishers do all the same.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rabbit::{PASSWORD, USER};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;

/// A connection with one channel in confirm mode.
pub struct RawPublisher {
    stream: TcpStream,
}

/// One message, byte for byte.
#[derive(Debug, Clone, Default)]
pub struct RawMessage<'a> {
    /// Exchange.
    pub exchange: &'a [u8],
    /// Routing key, at most 255 bytes of anything.
    pub routing_key: &'a [u8],
    /// Property flags: bit 15 content type, 13 headers, 7 message id (AMQP 0-9-1, `basic` class).
    pub flags: u16,
    /// The properties that the flags announce, as they go over the wire.
    pub properties: &'a [u8],
    /// Body, less than a frame.
    pub body: &'a [u8],
}

impl RawPublisher {
    /// Connects and logs in as [`USER`].
    pub async fn connect(address: SocketAddr, vhost: &str) -> anyhow::Result<Self> {
        let mut raw = Self { stream: TcpStream::connect(address).await? };
        raw.stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        raw.expect(10, 10).await?;
        let response = format!("\0{USER}\0{PASSWORD}");
        let mut start_ok = vec![0, 0, 0, 0];
        short(&mut start_ok, b"PLAIN");
        start_ok.extend_from_slice(&(response.len() as u32).to_be_bytes());
        start_ok.extend_from_slice(response.as_bytes());
        short(&mut start_ok, b"en_US");
        raw.method(0, 10, 11, &start_ok).await?;
        let tune = raw.expect(10, 30).await?;
        // The broker's own values, without heartbeats.
        let mut tune_ok = tune[..6].to_vec();
        tune_ok.extend_from_slice(&[0, 0]);
        raw.method(0, 10, 31, &tune_ok).await?;
        let mut open = Vec::new();
        short(&mut open, vhost.as_bytes());
        open.extend_from_slice(&[0, 0]);
        raw.method(0, 10, 40, &open).await?;
        raw.expect(10, 41).await?;
        raw.method(1, 20, 10, &[0]).await?;
        raw.expect(20, 11).await?;
        raw.method(1, 85, 10, &[0]).await?;
        raw.expect(85, 11).await?;
        Ok(raw)
    }

    /// Publishes and waits for the confirm.
    pub async fn publish(&mut self, message: &RawMessage<'_>) -> anyhow::Result<()> {
        let mut publish = vec![0, 0];
        short(&mut publish, message.exchange);
        short(&mut publish, message.routing_key);
        publish.push(0);
        self.method(1, 60, 40, &publish).await?;
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(message.body.len() as u64).to_be_bytes());
        header.extend_from_slice(&message.flags.to_be_bytes());
        header.extend_from_slice(message.properties);
        self.frame(HEADER, 1, &header).await?;
        if !message.body.is_empty() {
            self.frame(BODY, 1, message.body).await?;
        }
        self.expect(60, 80).await.map(drop)
    }

    async fn method(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        arguments: &[u8],
    ) -> anyhow::Result<()> {
        let mut payload = class.to_be_bytes().to_vec();
        payload.extend_from_slice(&method.to_be_bytes());
        payload.extend_from_slice(arguments);
        self.frame(METHOD, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = vec![kind];
        frame.extend_from_slice(&channel.to_be_bytes());
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(payload);
        frame.push(FRAME_END);
        self.stream.write_all(&frame).await?;
        Ok(())
    }

    /// The arguments of the next method, which must be this one.
    async fn expect(&mut self, class: u16, method: u16) -> anyhow::Result<Vec<u8>> {
        loop {
            let mut header = [0; 7];
            self.stream.read_exact(&mut header).await?;
            let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
            let mut payload = vec![0; size + 1];
            self.stream.read_exact(&mut payload).await?;
            ensure!(payload.pop() == Some(FRAME_END), "a frame without its end");
            if header[0] != METHOD {
                continue;
            }
            let mut wanted = class.to_be_bytes().to_vec();
            wanted.extend_from_slice(&method.to_be_bytes());
            match payload.strip_prefix(&wanted[..]) {
                Some(arguments) => return Ok(arguments.to_vec()),
                None => bail!("wanted method {class}.{method}, got {:?}", String::from_utf8_lossy(&payload)),
            }
        }
    }
}

fn short(into: &mut Vec<u8>, text: &[u8]) {
    into.push(text.len() as u8);
    into.extend_from_slice(text);
}
