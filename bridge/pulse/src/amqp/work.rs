//! One round of work on one queue: from what is wanted to what stands.

use std::sync::Arc;

use tracing::warn;

use super::consumers::{Running, Start};
use super::session::Session;
use super::wire::{Refusal, RpcError};
use crate::naming::check_name;
use crate::transport::{Binding, BindingHealth, QueueSpec};

/// What to do, in this order. Only one round is under way for a queue at a time.
pub(super) struct Work {
    pub queue: Arc<str>,
    pub stop: Option<Running>,
    pub delete: bool,
    /// Declare the queue as described, with all its bindings.
    pub declare: Option<QueueSpec>,
    pub unbind: Vec<Binding>,
    pub start: Option<Start>,
    /// The broker refused this queue's consumer before: try where it disturbs nobody.
    pub suspect: bool,
}

/// What became of it.
pub(super) struct Done {
    pub queue: Arc<str>,
    pub result: Result<Outcome, Failure>,
    /// Of the bindings that were tried.
    pub healths: Vec<BindingHealth>,
    /// Bindings that are gone, or that the broker keeps against our will.
    pub unbound: Vec<Binding>,
}

pub(super) enum Outcome {
    Deleted(u64),
    /// Everything stands; the consumer that was started.
    Stands(Option<Running>),
}

pub(super) enum Failure {
    /// The connection is gone.
    Lost(String),
    /// The broker refuses the queue itself.
    Queue(String),
    /// The broker refuses its consumer.
    Consumer(String),
}

/// Does one round.
pub(super) async fn run(session: Arc<Session>, mut work: Work) -> Done {
    let mut done = Done {
        queue: work.queue.clone(),
        result: Ok(Outcome::Stands(None)),
        healths: Vec::new(),
        unbound: Vec::new(),
    };
    done.result = steps(&session, &mut work, &mut done).await;
    done
}

async fn steps(session: &Session, work: &mut Work, done: &mut Done) -> Result<Outcome, Failure> {
    if let Some(running) = work.stop.take() {
        session.consumers.stop(running).await.map_err(Failure::queue)?;
    }
    if work.delete {
        let topology = session.topology().await.map_err(Failure::queue)?;
        return topology.delete_queue(&work.queue).await.map(Outcome::Deleted).map_err(Failure::queue);
    }
    if let Some(spec) = &work.declare {
        let topology = session.topology().await.map_err(Failure::queue)?;
        topology.declare_queue(spec).await.map_err(Failure::queue)?;
    }
    for binding in std::mem::take(&mut work.unbind) {
        let topology = session.topology().await.map_err(Failure::queue)?;
        match topology.unbind(&work.queue, &binding).await {
            Ok(()) => {}
            // Without the exchange there is no binding either.
            Err(RpcError::Refused(refusal)) if refusal.code == Refusal::NOT_FOUND => {}
            Err(RpcError::Refused(refusal)) => {
                warn!(
                    queue = %work.queue, exchange = binding.exchange, pattern = binding.pattern, %refusal,
                    "the broker refuses to remove a binding; it stays"
                );
            }
            Err(RpcError::Lost(reason)) => return Err(Failure::Lost(reason)),
        }
        done.unbound.push(binding);
    }
    for binding in work.declare.iter().flat_map(|spec| &spec.bindings) {
        let error = bind(session, &work.queue, binding).await?;
        done.healths.push(BindingHealth { binding: binding.clone(), error });
    }
    let Some(start) = work.start.take() else { return Ok(Outcome::Stands(None)) };
    if work.suspect {
        let topology = session.topology().await.map_err(Failure::consumer)?;
        topology.may_consume(&work.queue).await.map_err(Failure::consumer)?;
    }
    let running = session.consumers.start(start).await.map_err(Failure::consumer)?;
    Ok(Outcome::Stands(Some(running)))
}

/// Why the binding does not stand, if it does not.
async fn bind(session: &Session, queue: &str, binding: &Binding) -> Result<Option<String>, Failure> {
    let names = check_name("the exchange name", &binding.exchange)
        .and_then(|()| check_name("the pattern", &binding.pattern));
    if let Err(reason) = names {
        return Ok(Some(reason));
    }
    if let Some(reason) = session.missing(&binding.exchange) {
        return Ok(Some(reason));
    }
    let topology = session.topology().await.map_err(Failure::queue)?;
    match topology.bind(queue, binding).await {
        Ok(()) => Ok(None),
        Err(RpcError::Refused(refusal)) => {
            // The queue was just declared, so that it is the exchange that is missing.
            if refusal.code == Refusal::NOT_FOUND {
                session.note_missing(&binding.exchange, &refusal.text);
            }
            Ok(Some(refusal.text))
        }
        Err(RpcError::Lost(reason)) => Err(Failure::Lost(reason)),
    }
}

impl Failure {
    fn queue(error: RpcError) -> Self {
        match error {
            RpcError::Lost(reason) => Self::Lost(reason),
            RpcError::Refused(refusal) => Self::Queue(refusal.text),
        }
    }

    fn consumer(error: RpcError) -> Self {
        match error {
            RpcError::Lost(reason) => Self::Lost(reason),
            RpcError::Refused(refusal) => Self::Consumer(refusal.text),
        }
    }
}
