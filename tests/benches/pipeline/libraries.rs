//! The bare loop on the client libraries alone: amqprs and hyper used as their documentation shows, and no code of pulsehook.

use amqprs::FieldTable;
use amqprs::channel::{
    BasicAckArguments, BasicCancelArguments, BasicConsumeArguments, BasicQosArguments, Channel,
    ConsumerMessage, QueueBindArguments, QueueDeclareArguments, QueueDeleteArguments,
};
use amqprs::connection::Connection;
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::amqp::connect;
use super::bare::{Bare, PREFETCH, TASK_ID};
use super::source::{EXCHANGE, Source};
use super::stub::Stub;

const QUEUE: &str = "queue/pulsehook/libraries";

/// The consumer's tag.
const CONSUMER: &str = "bare";

/// See the module.
pub struct Libraries {
    connection: Connection,
    channel: Channel,
    http: Client<HttpConnector, Full<Bytes>>,
    task: String,
}

impl Libraries {
    /// Declares its queue, and binds it to what this source publishes.
    pub async fn prepare(url: &str, stub: &Stub, source: &Source) -> anyhow::Result<Self> {
        let (connection, channel) = connect(url).await?;
        let mut kind = FieldTable::new();
        kind.insert("x-queue-type".try_into()?, "quorum".to_owned().into());
        let queue = QueueDeclareArguments::durable_client_named(QUEUE).arguments(kind).finish();
        channel.queue_declare(queue).await?;
        channel.queue_bind(QueueBindArguments::new(QUEUE, EXCHANGE, &source.pattern())).await?;
        channel.basic_qos(BasicQosArguments::new(0, PREFETCH, false)).await?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        let task = format!("http://127.0.0.1:{}/api/queue/v1/task/{TASK_ID}", stub.port());
        Ok(Self { connection, channel, http, task })
    }
}

impl Bare for Libraries {
    type Delivery = ConsumerMessage;

    async fn deliveries(&self) -> anyhow::Result<impl Stream<Item = ConsumerMessage>> {
        let consumer = BasicConsumeArguments::new(QUEUE, CONSUMER).manual_ack(true).finish();
        let (_, deliveries) = self.channel.basic_consume_rx(consumer).await?;
        Ok(futures_util::stream::unfold(deliveries, |mut deliveries| async move {
            deliveries.recv().await.map(|delivery| (delivery, deliveries))
        }))
    }

    fn body(delivery: &ConsumerMessage) -> Bytes {
        delivery.content.clone().unwrap_or_default().into()
    }

    async fn call(&self, body: Bytes, delivery: ConsumerMessage) -> anyhow::Result<()> {
        let request = Request::builder().method(Method::PUT).uri(&self.task).body(Full::new(body))?;
        let answer = self.http.request(request).await?;
        anyhow::ensure!(answer.status().is_success(), "the stub answers {}", answer.status());
        answer.into_body().collect().await?;
        let tag = delivery.deliver.context("a delivery without a tag")?.delivery_tag();
        Ok(self.channel.basic_ack(BasicAckArguments::new(tag, false)).await?)
    }

    async fn end(self) -> anyhow::Result<()> {
        // A queue that goes under its consumer would take the connection along.
        self.channel.basic_cancel(BasicCancelArguments::new(CONSUMER)).await?;
        self.channel.queue_delete(QueueDeleteArguments::new(QUEUE)).await?;
        Ok(self.connection.close().await?)
    }
}
