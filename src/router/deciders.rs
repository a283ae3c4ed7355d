//! Threads that decide: filter and render, apart from the event loop and with room for deep templates.
//!
//! One of them is only for hooks that keep exceeding their limits (see `pace`), and only it takes their messages.

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::oneshot;

/// Compiling and rendering recurse with the depth of templates and documents.
const STACK: usize = 16 * 1024 * 1024;

/// At least so many, so that the operating system shares the processor between a slow hook and a quick one.
const AT_LEAST: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// A handle to the threads, which end when it is dropped.
pub struct Deciders {
    jobs: Sender<Job>,
    slow: Sender<Job>,
}

impl Deciders {
    /// Starts the threads.
    pub fn start() -> std::io::Result<Self> {
        let threads =
            std::thread::available_parallelism().map_or(AT_LEAST, |cores| cores.get().max(AT_LEAST));
        let (jobs, waiting) = unbounded();
        for number in 0..threads {
            spawn(format!("decider-{number}"), waiting.clone())?;
        }
        let (slow, waiting) = unbounded();
        spawn("decider-slow".to_owned(), waiting)?;
        Ok(Self { jobs, slow })
    }

    /// Runs a job on one of the threads. `None` when it panicked or the threads are gone. The number of jobs that wait is
    /// bounded by the intake, which bounds the batches under way. `slow`: on the thread of slow hooks.
    pub async fn run<T: Send + 'static>(
        &self,
        slow: bool,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let jobs = if slow { &self.slow } else { &self.jobs };
        jobs.send(Box::new(move || {
            let _ = reply.send(job());
        }))
        .ok()?;
        answer.await.ok()
    }
}

fn spawn(name: String, waiting: Receiver<Job>) -> std::io::Result<()> {
    std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
        for job in waiting {
            // A panic costs its batch, whose messages are retried, not the thread.
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
        }
    })?;
    Ok(())
}
