//! The router's side: a few workers, kept and replaced.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::protocol::{Hello, Request, Response, Source, read, read_json, write, write_json};
use crate::template::context::Fire;
use crate::template::{Limits, TemplateError};

/// Renders after which a worker is replaced, so that what leaks or fragments doesn't add up.
const RENDERS: u32 = 10_000;
/// How much longer than the render's own limit a worker is waited for: it should answer that it ran out of time by itself.
const GRACE: Duration = Duration::from_millis(200);

/// A pool of render workers.
pub struct Workers {
    program: PathBuf,
    arguments: Vec<String>,
    most: usize,
    memory: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Worker>,
    busy: usize,
}

struct Worker {
    child: Child,
    input: BufWriter<ChildStdin>,
    answers: Receiver<io::Result<(Response, Vec<u8>)>>,
    renders: u32,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only where it has ended already; waiting keeps it from staying a zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one attempt gives.
enum Attempt {
    Answer(Response, Vec<u8>),
    TookTooLong,
    Died,
}

impl Workers {
    /// A pool whose workers are `program` with `arguments` (`pulsehook render-worker`). None is started yet.
    pub fn new(program: PathBuf, arguments: &[&str], limits: &Limits) -> Self {
        Self {
            program,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            most: limits.workers.max(1),
            memory: limits.worker_bytes,
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// Workers of this very program.
    pub fn of_this_program(limits: &Limits) -> io::Result<Self> {
        Ok(Self::new(std::env::current_exe()?, &["render-worker"], limits))
    }

    /// Renders in a worker; waits until one is free. Blocks the thread, at most some times `limits.render_ms`.
    pub fn render(
        &self,
        source: &Source,
        fire: &Fire,
        payload: &[u8],
        defaults: &[(&str, String)],
        limits: &Limits,
    ) -> Result<Option<Vec<u8>>, TemplateError> {
        let mut request = Request {
            id: source.id.clone(),
            source: None,
            fire: fire.clone(),
            defaults: defaults.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            limits: limits.clone(),
        };
        let _slot = self.slot();
        // A worker that dies with its first render was killed by that render; an older one may just have been worn out.
        for _ in 0..3 {
            let mut worker = self.worker().map_err(|error| {
                TemplateError::new(format!(
                    "the template needs a render worker, and none can be started: {error}"
                ))
            })?;
            let fresh = worker.renders == 0;
            match worker.attempt(&request, payload, Duration::from_millis(limits.render_ms) + GRACE) {
                Attempt::Answer(Response::Unknown, _) => {
                    request.source = Some(source.clone());
                    self.keep(worker);
                }
                Attempt::Answer(response, task) => {
                    self.keep(worker);
                    return match response {
                        Response::Task => Ok(Some(task)),
                        Response::Failed(error) => Err(error),
                        Response::Declined | Response::Unknown => Ok(None),
                    };
                }
                Attempt::TookTooLong => {
                    return Err(TemplateError::exceeded(format!(
                        "takes longer than {} ms to render",
                        limits.render_ms
                    )));
                }
                Attempt::Died if !fresh => {}
                Attempt::Died => break,
            }
        }
        Err(TemplateError::exceeded(format!("needs more than {} MB of memory to render", self.memory >> 20)))
    }

    fn slot(&self) -> Slot<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self
            .freed
            .wait_while(state, |state| state.busy >= self.most)
            .unwrap_or_else(PoisonError::into_inner);
        state.busy += 1;
        Slot(self)
    }

    fn worker(&self) -> io::Result<Worker> {
        if let Some(worker) = self.state.lock().unwrap_or_else(PoisonError::into_inner).idle.pop() {
            return Ok(worker);
        }
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the worker has no pipes"));
        };
        // Reads cannot be given a deadline; a thread that reads can be waited for with one.
        let (answer, answers) = sync_channel(1);
        std::thread::Builder::new().name("render-worker".into()).spawn(move || {
            loop {
                let next = read_json::<Response>(&mut output).and_then(|response| {
                    let task = if let Response::Task = response { read(&mut output)? } else { Vec::new() };
                    Ok((response, task))
                });
                let ended = next.is_err();
                if answer.send(next).is_err() || ended {
                    return;
                }
            }
        })?;
        let mut input = BufWriter::new(input);
        write_json(&mut input, &Hello { memory: self.memory })?;
        Ok(Worker { child, input, answers, renders: 0 })
    }

    fn keep(&self, worker: Worker) {
        if worker.renders < RENDERS {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).idle.push(worker);
        }
    }
}

struct Slot<'a>(&'a Workers);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).busy -= 1;
        self.0.freed.notify_one();
    }
}

impl Worker {
    fn attempt(&mut self, request: &Request, payload: &[u8], limit: Duration) -> Attempt {
        let until = Instant::now() + limit;
        let sent = write_json(&mut self.input, request)
            .and_then(|()| write(&mut self.input, payload))
            .and_then(|()| self.input.flush());
        if sent.is_err() {
            return Attempt::Died;
        }
        let attempt = match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ok((response, task))) => Attempt::Answer(response, task),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Attempt::Died,
            Err(RecvTimeoutError::Timeout) => Attempt::TookTooLong,
        };
        if matches!(attempt, Attempt::Answer(Response::Task | Response::Declined | Response::Failed(_), _)) {
            self.renders += 1;
        }
        attempt
    }
}
