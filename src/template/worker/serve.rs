//! The worker's side: `pulsehook render-worker`.

use std::collections::HashMap;
use std::io::{self, BufReader, BufWriter, Read, Write};

use super::protocol::{Hello, Request, Response, Source, read, read_json, write, write_json};
use crate::template::{Template, TemplateError};

/// Compiled templates that a worker keeps.
const KEPT: usize = 200;

/// Serves renders until the input ends, which is how the parent stops a worker. Limits its own memory first.
pub fn serve(input: impl Read, output: impl Write) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut output = BufWriter::new(output);
    let hello: Hello = read_json(&mut input)?;
    limit_memory(hello.memory)?;
    let mut templates: HashMap<String, Template> = HashMap::new();
    loop {
        let request: Request = match read_json(&mut input) {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let payload = read(&mut input)?;
        let (response, task) = match render(&mut templates, request, &payload) {
            Ok(Some(task)) => (Response::Task, task),
            Ok(None) => (Response::Declined, Vec::new()),
            Err(Some(error)) => (Response::Failed(error), Vec::new()),
            Err(None) => (Response::Unknown, Vec::new()),
        };
        write_json(&mut output, &response)?;
        if let Response::Task = response {
            write(&mut output, &task)?;
        }
        output.flush()?;
    }
}

/// `Err(None)`: the template isn't known.
fn render(
    templates: &mut HashMap<String, Template>,
    request: Request,
    payload: &[u8],
) -> Result<Option<Vec<u8>>, Option<TemplateError>> {
    if let Some(Source { id, engine, task }) = request.source {
        let template = Template::compile_task(&task, engine, &request.limits)
            .map_err(|problems| Some(TemplateError::new(crate::hook::problem::join(&problems))))?;
        if templates.len() >= KEPT {
            templates.clear();
        }
        templates.insert(id, template);
    }
    let template = templates.get(&request.id).ok_or(None)?;
    let defaults: Vec<(&str, String)> =
        request.defaults.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    template.render_here(&request.fire.into(), payload, &defaults, &request.limits).map_err(Some)
}

#[cfg(unix)]
fn limit_memory(bytes: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
    // A worker that dies must not fill the disk.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

#[cfg(not(unix))]
fn limit_memory(_bytes: u64) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "render workers need a Unix"))
}
