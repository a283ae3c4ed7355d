//! Carries deliveries of one queue into its consumer's sink, so that a full sink holds back this queue only.

use std::sync::mpsc as std_mpsc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::command::Command;
use crate::transport::Delivery;

/// Runs until the consumer is stopped or its sink is closed. Whatever has not reached the sink by then is dropped, which
/// puts it back into its queue.
///
/// `waiting` holds at most the consumer's prefetch.
pub(super) async fn run(
    queue: String,
    mut waiting: mpsc::UnboundedReceiver<Delivery>,
    sink: mpsc::Sender<Delivery>,
    stop: CancellationToken,
    commands: std_mpsc::Sender<Command>,
) {
    loop {
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sink.closed() => break,
            delivery = waiting.recv() => match delivery {
                Some(delivery) => delivery,
                None => return,
            },
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            sent = sink.send(delivery) => if sent.is_err() { break },
        }
    }
    // Delivering again at once into a closed sink would go round in circles. Nothing reaches `waiting` after `stop`, so
    // waiting for it keeps this queue's deliveries from being sent back before the consumer is known to be gone.
    let _ = commands.send(Command::SinkClosed { queue });
    stop.cancelled().await;
}
