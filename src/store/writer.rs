//! The writer thread: takes whatever jobs wait, runs them in one transaction, commits, answers all.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::by_task::ByTask;
use super::{StoreError, Writing};

/// Jobs that share one transaction at most: bounds how long the first of them waits for its commit.
const JOBS_PER_COMMIT: usize = 256;

/// Jobs that wait at most; callers beyond it wait for room.
const WAITING_JOBS: usize = 1_024;

/// A job: runs inside the transaction, is told later how the commit went.
trait Job: Send {
    /// Whether [`run`](Self::run) may be called again after a rollback.
    fn repeats(&self) -> bool;
    fn run(&mut self, writing: &mut Writing<'_>) -> bool;
    fn finish(self: Box<Self>, commit: Result<(), StoreError>, path: &str);
}

struct Call<F, T> {
    job: F,
    repeats: bool,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call<F, T> {
    fn new(repeats: bool, job: F) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { job, repeats, result: None, reply }, answer)
    }
}

impl<F, T> Job for Call<F, T>
where
    T: Send,
    F: FnMut(&mut Writing<'_>) -> Result<T, StoreError> + Send,
{
    fn repeats(&self) -> bool {
        self.repeats
    }

    fn run(&mut self, writing: &mut Writing<'_>) -> bool {
        let result = (self.job)(writing);
        let succeeded = result.is_ok();
        self.result = Some(result);
        succeeded
    }

    fn finish(self: Box<Self>, commit: Result<(), StoreError>, path: &str) {
        let result = match (self.result, commit) {
            (Some(Err(error)), _) => Err(error.of(path)),
            (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // The caller may have gone away; the write stands all the same.
        let _ = self.reply.send(result);
    }
}

pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    /// Those that go along with the next ones: at most as many as there are callers, who wait for their answers.
    along: mpsc::UnboundedSender<Box<dyn Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The thread has panicked.
    pub(super) failed: CancellationToken,
}

impl Writer {
    /// Starts the thread. `ended_seq` is the highest sequence number of ended fires so far.
    pub(super) fn start(
        connection: Connection,
        path: String,
        ended_seq: i64,
        by_task: Arc<ByTask>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING_JOBS);
        let (along, along_receiver) = mpsc::unbounded_channel();
        let failed = CancellationToken::new();
        let told = failed.clone();
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || {
            let working =
                AssertUnwindSafe(|| run(connection, path, ended_seq, &by_task, receiver, along_receiver));
            if std::panic::catch_unwind(working).is_err() {
                told.cancel();
            }
        })?;
        Ok(Self { jobs: Mutex::new(Some(sender)), along, thread: Mutex::new(Some(thread)), failed })
    }

    pub(super) async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let mut job = Some(job);
        self.call(false, move |w| job.take().map_or(Err(StoreError::Closed), |job| job(w))).await
    }

    pub(super) async fn write_repeatable<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.call(true, job).await
    }

    /// The same with the transaction of somebody else's job, or with one of its own if none has come within this time.
    pub(super) async fn write_along<T, F>(&self, patience: Duration, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (call, mut answer) = Call::new(true, job);
        self.along.send(Box::new(call)).map_err(|_| StoreError::Closed)?;
        let answered = match tokio::time::timeout(patience, &mut answer).await {
            Ok(answered) => answered,
            Err(_) => {
                // How that went may differ: the job may have gone along with one before.
                let _ = self.call(true, |_| Ok(())).await;
                answer.await
            }
        };
        answered.map_err(|_| StoreError::Closed)?
    }

    async fn call<T, F>(&self, repeats: bool, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let sender = self.jobs.lock().ok().and_then(|jobs| jobs.clone()).ok_or(StoreError::Closed)?;
        let (call, answer) = Call::new(repeats, job);
        sender.send(Box::new(call)).await.map_err(|_| StoreError::Closed)?;
        drop(sender);
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn close(&self) {
        if let Ok(mut jobs) = self.jobs.lock() {
            jobs.take();
        }
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(
    connection: Connection,
    path: String,
    mut ended_seq: i64,
    by_task: &ByTask,
    mut receiver: mpsc::Receiver<Box<dyn Job>>,
    mut along: mpsc::UnboundedReceiver<Box<dyn Job>>,
) {
    let (took, grouped) =
        (histogram!("pulsehook_store_commit_seconds"), histogram!("pulsehook_store_commit_jobs"));
    let failed = counter!("pulsehook_store_failed_commits_total");
    loop {
        let mut jobs = Vec::from_iter(receiver.blocking_recv());
        while jobs.len() < JOBS_PER_COMMIT {
            match receiver.try_recv() {
                Ok(job) => jobs.push(job),
                Err(_) => break,
            }
        }
        jobs.extend(std::iter::from_fn(|| along.try_recv().ok()));
        if jobs.is_empty() {
            return;
        }
        // Those that can be repeated need no savepoint each, so they come first.
        jobs.sort_by_key(|job| !job.repeats());
        let (before, begun) = (ended_seq, Instant::now());
        let mut writing = Writing { connection: &connection, by_task, ended_seq: &mut ended_seq };
        let committed = commit(&mut writing, &mut jobs).map_err(|error| error.of(&path));
        took.record(begun.elapsed().as_secs_f64());
        grouped.record(jobs.len() as f64);
        if committed.is_err() {
            failed.increment(1);
            ended_seq = before;
            let _ = connection.execute_batch("ROLLBACK");
            by_task.roll_back_to(0);
        }
        for job in jobs {
            job.finish(committed.clone(), &path);
        }
    }
}

/// Runs the jobs in one transaction; `jobs` begins with those that can be repeated. They run unguarded, which is cheap; when one of
/// them fails all are undone and run again, each with a savepoint as the others have, so that it takes nothing else with it.
fn commit(writing: &mut Writing<'_>, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let (connection, by_task, before) = (writing.connection, writing.by_task, *writing.ended_seq);
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut unguarded = jobs.partition_point(|job| job.repeats());
    if !jobs[..unguarded].iter_mut().all(|job| job.run(writing)) {
        // A full disk may have undone it already.
        let _ = connection.execute_batch("ROLLBACK");
        *writing.ended_seq = before;
        by_task.roll_back_to(0);
        unguarded = 0;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    }
    for job in &mut jobs[unguarded..] {
        connection.prepare_cached("SAVEPOINT job")?.execute([])?;
        let added = by_task.savepoint();
        let succeeded = job.run(writing);
        if !succeeded {
            connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
            by_task.roll_back_to(added);
        }
        connection.prepare_cached("RELEASE job")?.execute([])?;
    }
    by_task.before_commit(connection)?;
    connection.prepare_cached("COMMIT")?.execute([])?;
    by_task.committed();
    Ok(())
}
