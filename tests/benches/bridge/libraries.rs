//! The broker's limit with the client library alone: confirmed publishes by amqprs as its documentation shows them, and no code of
//! pulsehook.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{BasicPublishArguments, Channel, ConfirmSelectArguments};
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::sync::oneshot;

use super::amqp::connect;
use super::broker::{BODY_BYTES, EXCHANGE, ROUTING_KEY};

/// Publishes that are not confirmed yet, by their number on the channel.
#[derive(Clone, Default)]
struct Unconfirmed(Arc<Mutex<BTreeMap<u64, oneshot::Sender<()>>>>);

impl Unconfirmed {
    fn add(&self, number: u64) -> oneshot::Receiver<()> {
        let (confirmed, confirm) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, confirmed);
        confirm
    }

    /// Lets all that wait fail, rather than wait for ever.
    fn give_up(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn confirm(&self, number: u64, multiple: bool) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if multiple {
            let later = waiting.split_off(&(number + 1));
            for (_, confirmed) in std::mem::replace(&mut *waiting, later) {
                let _ = confirmed.send(());
            }
        } else if let Some(confirmed) = waiting.remove(&number) {
            let _ = confirmed.send(());
        }
    }
}

#[async_trait]
impl ChannelCallback for Unconfirmed {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), amqprs::error::Error> {
        eprintln!("libraries alone: {close}");
        self.give_up();
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.confirm(ack.delivery_tag(), ack.mutiple());
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        eprintln!("libraries alone: {} was not taken", nack.delivery_tag());
        self.give_up();
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

/// Confirmed publishes per second, into the queue that [`super::broker`] has left.
pub async fn rate(url: &str, phase: Duration, outstanding: usize) -> anyhow::Result<f64> {
    let (connection, channel) = connect(url).await?;
    let unconfirmed = Unconfirmed::default();
    channel.register_callback(unconfirmed.clone()).await?;
    channel.confirm_select(ConfirmSelectArguments::default()).await?;
    // The number of a publish is its place on the channel, so one sets out after the other.
    let last = Arc::new(tokio::sync::Mutex::new(0_u64));
    let end = Instant::now() + phase;
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..outstanding {
        let (channel, unconfirmed, last) = (channel.clone(), unconfirmed.clone(), last.clone());
        publishers.spawn(async move {
            let mut count = 0_u64;
            while Instant::now() < end {
                let mut properties = BasicProperties::default();
                properties
                    .with_message_id(&format!("alone-{publisher}-{count}"))
                    .with_delivery_mode(amqprs::DELIVERY_MODE_PERSISTENT);
                let mut to = BasicPublishArguments::new(EXCHANGE, ROUTING_KEY);
                to.mandatory(true);
                let mut last = last.lock().await;
                *last += 1;
                let confirmed = unconfirmed.add(*last);
                channel.basic_publish(properties, vec![b'x'; BODY_BYTES], to).await?;
                drop(last);
                confirmed.await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut confirmed = 0;
    for one in publishers.join_all().await {
        confirmed += one?;
    }
    connection.close().await?;
    Ok(confirmed as f64 / phase.as_secs_f64())
}
