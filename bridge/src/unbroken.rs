//! Work that is not broken off when nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A future that runs where it is awaited, as any other. If it is dropped before its end the rest of it runs as a task. That costs
/// nothing where it does not happen: a task for each from the start would wake two threads more.
pub struct Unbroken<F: Future<Output: Send> + Send + 'static> {
    /// `None`: it has ended.
    work: Option<Pin<Box<F>>>,
    tracker: TaskTracker,
    _under_way: TaskTrackerToken,
}

impl<F: Future<Output: Send> + Send + 'static> Unbroken<F> {
    /// `tracker` waits for it, wherever it runs. To be awaited, and dropped, within a tokio runtime.
    pub fn new(work: F, tracker: &TaskTracker) -> Self {
        Self { work: Some(Box::pin(work)), tracker: tracker.clone(), _under_way: tracker.token() }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Unbroken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out meanwhile, so that it is not polled again if it panics.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Unbroken<F> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take()
            && let Ok(runtime) = Handle::try_current()
        {
            self.tracker.spawn_on(work, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_goes_on_and_is_waited_for() {
        let tracker = TaskTracker::new();
        tracker.close();
        let (done, ended) = oneshot::channel();
        let work = async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            done.send(()).unwrap();
        };
        let waiting = tokio::time::timeout(Duration::from_secs(1), Unbroken::new(work, &tracker)).await;
        assert!(waiting.is_err());
        assert!(!tracker.is_empty());
        tracker.wait().await;
        assert_eq!(ended.await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_never_polled_runs_too_and_what_has_ended_does_not_again() {
        let tracker = TaskTracker::new();
        tracker.close();
        assert_eq!(Unbroken::new(async { 5 }, &tracker).await, 5);
        assert!(tracker.is_empty());
        let (done, ended) = oneshot::channel();
        drop(Unbroken::new(async move { done.send(()).unwrap() }, &tracker));
        assert_eq!(ended.await, Ok(()));
    }

    #[tokio::test]
    async fn what_panicked_is_not_polled_again() {
        let tracker = TaskTracker::new();
        tracker.close();
        let work = Unbroken::new(async { panic!("on purpose") }, &tracker);
        assert!(tokio::spawn(work).await.is_err());
        tracker.wait().await;
    }
}
