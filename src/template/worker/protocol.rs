//! What passes between the router and a worker: frames of a length (4 bytes, big endian) and so many bytes.
//!
//! The parent sends a [`Hello`] once. Then, for each render, it sends a [`Request`] and the payload as it came; the worker
//! answers with a [`Response`] and, after [`Response::Task`], the task.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hook::Engine;
use crate::template::context::Fire;
use crate::template::{Limits, TemplateError};

/// Longest frame in bytes: a payload or a task with some room.
const MAX_FRAME: usize = 64 << 20;

/// The first frame.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Address space that the worker may use, in bytes.
    pub memory: u64,
}

/// A template as the worker needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Tells templates apart; equal for equal templates.
    pub id: String,
    /// Its language.
    pub engine: Engine,
    /// The `task` of the hook.
    pub task: Value,
}

/// One render.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The template's id.
    pub id: String,
    /// The template; absent where the worker should know it.
    pub source: Option<Source>,
    /// All about the fire but the payload.
    pub fire: Fire,
    /// What to put in where the task doesn't have the key.
    pub defaults: Vec<(String, String)>,
    /// The limits.
    pub limits: Limits,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// The task follows.
    Task,
    /// The template declines.
    Declined,
    /// The template failed.
    Failed(TemplateError),
    /// The worker doesn't know the template: send it.
    Unknown,
}

/// Writes one frame.
pub fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length as usize <= MAX_FRAME)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long"))?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(bytes)
}

/// Writes a value as one frame.
pub fn write_json(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    write(to, &serde_json::to_vec(value)?)
}

/// Reads one frame.
pub fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too long"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads a value from one frame.
pub fn read_json<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    Ok(serde_json::from_slice(&read(from)?)?)
}
