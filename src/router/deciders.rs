//! Threads that decide: filter and render, apart from the event loop and with room for deep templates.
//!
//! One of them is only for hooks that keep exceeding their limits (see `pace`), and only it takes their messages.

use tokio::runtime::{Builder, Runtime};

/// Compiling and rendering recurse with the depth of templates and documents.
const STACK: usize = 16 * 1024 * 1024;

/// At least so many, so that the operating system shares the processor between a slow hook and a quick one.
const AT_LEAST: usize = 4;

/// A handle to the threads, which end when it is dropped.
pub struct Deciders {
    jobs: Threads,
    slow: Threads,
}

impl Deciders {
    /// Prepares the threads, which start when there is something to do.
    pub fn start() -> std::io::Result<Self> {
        let threads =
            std::thread::available_parallelism().map_or(AT_LEAST, |cores| cores.get().max(AT_LEAST));
        Ok(Self { jobs: Threads::start("decider", threads)?, slow: Threads::start("decider-slow", 1)? })
    }

    /// Runs a job on one of the threads. `None` when it panicked or the threads are gone. The number of jobs that wait is
    /// bounded by the intake, which bounds the batches under way. `slow`: on the thread of slow hooks.
    pub async fn run<T: Send + 'static>(
        &self,
        slow: bool,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let threads = if slow { &self.slow } else { &self.jobs };
        threads.0.as_ref()?.spawn_blocking(job).await.ok()
    }
}

/// Of a runtime that runs no tasks, the threads for what blocks: so many at most, without a spin before they sleep, and a panic
/// costs its job alone.
struct Threads(Option<Runtime>);

impl Threads {
    fn start(name: &str, threads: usize) -> std::io::Result<Self> {
        let mut runtime = Builder::new_current_thread();
        runtime.thread_name(name).thread_stack_size(STACK).max_blocking_threads(threads);
        Ok(Self(Some(runtime.build()?)))
    }
}

impl Drop for Threads {
    /// Without waiting for the jobs, as a runtime would.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_takes_neither_its_thread_nor_those_that_wait() {
        let deciders = Deciders::start().unwrap();
        for _ in 0..2 * AT_LEAST {
            let panicked: Option<()> = deciders.run(true, || std::panic::panic_any(())).await;
            assert!(panicked.is_none());
        }
        assert_eq!(deciders.run(true, || 1).await, Some(1));
        let many = (0..100).map(|number| deciders.run(false, move || number));
        let answers = futures_util::future::join_all(many).await;
        assert_eq!(answers, (0..100).map(Some).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn letting_go_of_the_threads_waits_for_no_job() {
        let threads = Threads::start("decider", 1).unwrap();
        let (begin, begun) = std::sync::mpsc::channel();
        let (hold, wait) = std::sync::mpsc::channel::<()>();
        let run = |job: Box<dyn FnOnce() -> bool + Send>| threads.0.as_ref().unwrap().spawn_blocking(job);
        let running = run(Box::new(move || begin.send(()).is_ok() && wait.recv().is_err()));
        let waiting = run(Box::new(|| true));
        begun.recv().unwrap();
        drop(threads);
        drop(hold);
        assert!(running.await.unwrap() && waiting.await.unwrap());
    }
}
