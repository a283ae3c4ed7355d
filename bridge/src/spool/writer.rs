//! The thread that owns the spool's file: takes whatever waits, does it in one transaction, fsyncs, answers.

use std::sync::Mutex;

use pulse::Message;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::error;

use super::table::{Released, Stored, Table};
use super::{MAX_HELD, SpoolError, State, lock};

/// Most requests of one transaction: beyond a few hundred a commit costs per row and not per fsync, and the first
/// would wait longer for nothing.
const BATCH: usize = 512;

/// Most held events that are released in one go: each is read into memory.
pub const RELEASED: u32 = 256;

type Reply<T> = oneshot::Sender<Result<T, SpoolError>>;

/// One request to the file.
pub enum Job {
    Append {
        source: String,
        message: Message,
        size: u64,
        now: i64,
        reply: Reply<()>,
    },
    Oldest {
        source: String,
        limit: u32,
        reply: Reply<Vec<Stored>>,
    },
    Remove {
        source: String,
        ids: Vec<i64>,
        reply: Reply<()>,
    },
    Refuse {
        source: String,
        id: i64,
        reason: String,
        reply: Reply<()>,
    },
    /// `room`: whether one more event fits, which one in place of another of its size need not.
    Hold {
        source: String,
        key: [u8; 32],
        message: Message,
        size: u64,
        room: Result<(), SpoolError>,
        due: i64,
        reply: Reply<()>,
    },
    Release {
        now: i64,
        reply: Reply<()>,
    },
    Restore {
        reply: Reply<u64>,
    },
}

/// What a request brought.
enum Outcome {
    Written,
    /// The size of the event in whose place it is, if there was one.
    Held(Option<u64>),
    NotHeld(SpoolError),
    Rows(Vec<Stored>),
    /// Sizes of the events that are gone.
    Gone(Vec<u64>),
    Released(Vec<Released>),
}

pub fn run(table: Table, mut jobs: mpsc::Receiver<Job>, state: &Mutex<State>, filled: &Notify) {
    let mut batch = Vec::new();
    while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
        if commit(&table, std::mem::take(&mut batch), state) {
            filled.notify_one();
        }
    }
}

/// Does all of the batch or nothing; true if there is something new to publish or to wait for.
fn commit(table: &Table, batch: Vec<Job>, state: &Mutex<State>) -> bool {
    // Whoever asks for the state must not wait for the disk.
    let held = lock(state).held;
    let result = transaction(table, &batch, held);
    let facts = (table.oldest().ok().flatten(), table.next_due().ok().flatten());
    let mut state = lock(state);
    match result {
        Ok(outcomes) => {
            let mut news = false;
            for (job, outcome) in batch.into_iter().zip(outcomes) {
                news |= match &outcome {
                    Outcome::Written | Outcome::Held(None) => true,
                    Outcome::Released(released) => !released.is_empty(),
                    Outcome::Held(Some(_)) | Outcome::NotHeld(_) | Outcome::Rows(_) | Outcome::Gone(_) => {
                        false
                    }
                };
                answer(&mut state, job, outcome);
            }
            state.failure = None;
            (state.oldest, state.next_due) = facts;
            news
        }
        Err(failure) => {
            if !table.connection.is_autocommit() {
                let _ = table.connection.execute_batch("ROLLBACK");
            }
            let reason = failure.to_string();
            error!(
                reason,
                events = batch.len(),
                "the spool cannot write; the senders are told to come again"
            );
            for job in batch {
                fail(&mut state, job, &reason);
            }
            state.failure = Some(reason);
            false
        }
    }
}

/// `held`: how many keys are held back before it.
fn transaction(table: &Table, batch: &[Job], mut held: u64) -> rusqlite::Result<Vec<Outcome>> {
    table.connection.execute_batch("BEGIN IMMEDIATE")?;
    let outcomes = batch.iter().map(|job| perform(table, job, &mut held)).collect::<rusqlite::Result<_>>()?;
    table.connection.execute_batch("COMMIT")?;
    Ok(outcomes)
}

fn perform(table: &Table, job: &Job, held: &mut u64) -> rusqlite::Result<Outcome> {
    Ok(match job {
        Job::Append { source, message, size, now, .. } => {
            table.append(source, message, *size, *now)?;
            Outcome::Written
        }
        Job::Hold { source, key, message, size, room, due, .. } => {
            let before = table.held_size(source, key)?;
            match (before, room) {
                // Refused here it would go out at once, before the older one that it stands for.
                (Some(before), _) if room.is_ok() || *size <= before => {}
                (None, Ok(())) if *held < MAX_HELD => *held += 1,
                (_, Ok(())) => {
                    let reason = format!("it may hold back {MAX_HELD} keys");
                    return Ok(Outcome::NotHeld(SpoolError::Full(reason)));
                }
                (_, Err(full)) => return Ok(Outcome::NotHeld(full.clone())),
            }
            table.hold(source, key, message, *size, *due)?;
            Outcome::Held(before)
        }
        Job::Oldest { source, limit, .. } => Outcome::Rows(table.select(source, *limit)?),
        Job::Remove { ids, .. } => {
            let sizes: rusqlite::Result<Vec<Option<u64>>> = ids.iter().map(|id| table.remove(*id)).collect();
            Outcome::Gone(sizes?.into_iter().flatten().collect())
        }
        Job::Refuse { id, reason, .. } => {
            table.refuse(*id, reason)?;
            Outcome::Gone(table.remove(*id)?.into_iter().collect())
        }
        Job::Release { now, .. } => {
            let released = table.release(*now, RELEASED)?;
            *held = held.saturating_sub(released.len() as u64);
            Outcome::Released(released)
        }
        Job::Restore { .. } => Outcome::Released(table.restore()?),
    })
}

/// Counts what is committed, then answers. Whoever asked may have gone: what was done stays done all the same.
fn answer(state: &mut State, job: Job, outcome: Outcome) {
    match (job, outcome) {
        (Job::Append { reply, .. }, Outcome::Written) => drop(reply.send(Ok(()))),
        (Job::Hold { reply, .. }, Outcome::Held(before)) => {
            state.held += u64::from(before.is_none());
            state.held_bytes = state.held_bytes.saturating_sub(before.unwrap_or(0));
            drop(reply.send(Ok(())));
        }
        (Job::Hold { reply, size, .. }, Outcome::NotHeld(error)) => {
            state.held_bytes = state.held_bytes.saturating_sub(size);
            drop(reply.send(Err(error)));
        }
        (Job::Oldest { reply, .. }, Outcome::Rows(rows)) => drop(reply.send(Ok(rows))),
        (Job::Remove { reply, source, .. }, Outcome::Gone(sizes)) => {
            forget(state, &source, &sizes);
            drop(reply.send(Ok(())));
        }
        (Job::Refuse { reply, source, .. }, Outcome::Gone(sizes)) => {
            forget(state, &source, &sizes);
            state.refused += sizes.len() as u64;
            drop(reply.send(Ok(())));
        }
        (Job::Release { reply, .. }, Outcome::Released(released)) => {
            let bytes: u64 = released.iter().map(|event| event.held).sum();
            state.held = state.held.saturating_sub(released.len() as u64);
            state.held_bytes = state.held_bytes.saturating_sub(bytes);
            wait(state, released);
            drop(reply.send(Ok(())));
        }
        (Job::Restore { reply }, Outcome::Released(restored)) => {
            let events = restored.len() as u64;
            state.refused = state.refused.saturating_sub(events);
            wait(state, restored);
            drop(reply.send(Ok(events)));
        }
        (job, _) => fail(state, job, "a request and its outcome do not belong together"),
    }
}

fn fail(state: &mut State, job: Job, reason: &str) {
    let error = SpoolError::Failed(reason.to_owned());
    match job {
        Job::Append { source, size, reply, .. } => {
            forget(state, &source, &[size]);
            drop(reply.send(Err(error)));
        }
        Job::Hold { size, reply, .. } => {
            state.held_bytes = state.held_bytes.saturating_sub(size);
            drop(reply.send(Err(error)));
        }
        Job::Remove { reply, .. } | Job::Refuse { reply, .. } | Job::Release { reply, .. } => {
            drop(reply.send(Err(error)));
        }
        Job::Oldest { reply, .. } => drop(reply.send(Err(error))),
        Job::Restore { reply } => drop(reply.send(Err(error))),
    }
}

/// Counts events that now wait for the broker.
fn wait(state: &mut State, events: Vec<Released>) {
    for Released { source, size, .. } in events {
        *state.sources.entry(source).or_default() += 1;
        state.events += 1;
        state.bytes += size;
    }
}

fn forget(state: &mut State, source: &str, sizes: &[u64]) {
    let (events, bytes) = (sizes.len() as u64, sizes.iter().sum::<u64>());
    if let Some(left) = state.sources.get_mut(source) {
        *left = left.saturating_sub(events);
        if *left == 0 {
            state.sources.remove(source);
        }
    }
    state.events = state.events.saturating_sub(events);
    state.bytes = state.bytes.saturating_sub(bytes);
}
