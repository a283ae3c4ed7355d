//! What callers ask of the thread that owns the embedded transport's state.

use std::sync::{Arc, mpsc as std_mpsc};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

use crate::Message;
use crate::transport::{
    BindingHealth, Delivery, PublishError, Published, QueueSpec, Settle, Settlement, TopologyError,
};

/// One request, with the place for its answer. Answers are given after the commit, never before.
pub(super) enum Command {
    Publish {
        message: Arc<Message>,
        mandatory: bool,
        reply: oneshot::Sender<Result<Published, PublishError>>,
    },
    DeclareExchange {
        name: String,
        reply: oneshot::Sender<Result<(), TopologyError>>,
    },
    ExchangeStands {
        name: String,
        reply: oneshot::Sender<Result<bool, TopologyError>>,
    },
    DeclareQueue {
        spec: QueueSpec,
        reply: oneshot::Sender<Result<Vec<BindingHealth>, TopologyError>>,
    },
    DeleteQueue {
        name: String,
        reply: oneshot::Sender<Result<u64, TopologyError>>,
    },
    Consume {
        queue: String,
        prefetch: u16,
        pump: mpsc::UnboundedSender<Delivery>,
        stop: DropGuard,
        reply: oneshot::Sender<Result<(), TopologyError>>,
    },
    Cancel {
        queue: String,
        reply: oneshot::Sender<Result<(), TopologyError>>,
    },
    Waiting {
        queue: String,
        reply: oneshot::Sender<Result<u64, TopologyError>>,
    },
    /// The receiver of a consumer's sink is gone.
    SinkClosed {
        queue: String,
    },
    Settle {
        tag: u64,
        how: Settlement,
    },
    Close {
        reply: Option<oneshot::Sender<()>>,
    },
}

/// Sends settlements to the thread. Unbounded, and yet never longer than what was delivered.
pub(super) struct Settler(pub std_mpsc::Sender<Command>);

impl Settle for Settler {
    fn settle(&self, tag: u64, how: Settlement) {
        // Without the thread there is nothing to settle: the message is delivered again by the next process.
        let _ = self.0.send(Command::Settle { tag, how });
    }
}
