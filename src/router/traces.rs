//! A fire's place in a trace: a child of the span that its message names, or the beginning of a trace whose id is the task's
//! (a slugid is sixteen bytes, as a trace id is), so that whoever knows the task finds the trace.
//!
//! The fire's own span has an id that follows from the task id: a fire that goes on after a crash goes on in the same
//! span. Within it lie one span for the decision and one for each call of the queue service.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pulse::Message;
use pulse::trace::{self, Span, SpanKind, TraceContext, Tracing};

use super::submit::Submission;

/// Where the spans of one fire belong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The fire's own span.
    fire: TraceContext,
    /// The span that its message names.
    parent: Option<TraceContext>,
}

/// The `traceparent` of a message.
pub(super) fn traceparent(message: &Message) -> Option<TraceContext> {
    TraceContext::parse(message.properties.headers.get(trace::HEADER)?.as_str()?)
}

impl Place {
    pub fn new(tracing: &Tracing, parent: Option<TraceContext>, task_id: &str) -> Self {
        let mut slugid = [0; 16];
        // Task ids are slugids; another text would only have an odd trace.
        let _ = URL_SAFE_NO_PAD.decode_slice(task_id, &mut slugid);
        let mut span_id = [0; 8];
        span_id.copy_from_slice(&slugid[8..]);
        span_id[7] |= 1;
        let (trace_id, sampled) = match parent {
            Some(parent) => (parent.trace_id, parent.sampled),
            None => (slugid, tracing.samples(&slugid)),
        };
        Self { fire: TraceContext { trace_id, span_id, sampled }, parent }
    }

    /// The context for a call: with nobody who records, the one that came.
    pub fn call(&self, tracing: &Tracing) -> TraceContext {
        match (&tracing.spans, self.parent) {
            (Some(_), _) => self.fire.child(),
            (None, Some(parent)) => parent,
            (None, None) => self.fire,
        }
    }

    /// Records that a message was decided about.
    pub fn decided(
        &self,
        tracing: &Tracing,
        times: (SystemTime, SystemTime),
        about: impl FnOnce() -> Vec<(&'static str, String)>,
        error: Option<String>,
    ) {
        let context = self.fire.child();
        tracing.record(context, || Span {
            context,
            parent: Some(self.fire.span_id),
            name: "decide",
            kind: SpanKind::Internal,
            start: times.0,
            end: times.1,
            attributes: about(),
            error,
        });
    }

    /// Records one call of the queue service.
    pub fn called(&self, tracing: &Tracing, context: TraceContext, start: SystemTime, error: Option<String>) {
        tracing.record(context, || Span {
            context,
            parent: Some(self.fire.span_id),
            name: "createTask",
            kind: SpanKind::Client,
            start,
            end: SystemTime::now(),
            attributes: Vec::new(),
            error,
        });
    }

    /// Records the whole fire, at its end.
    pub fn ended(
        &self,
        tracing: &Tracing,
        fired_at_ms: i64,
        about: impl FnOnce() -> Vec<(&'static str, String)>,
        error: Option<String>,
    ) {
        let start =
            SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(fired_at_ms).unwrap_or_default());
        tracing.record(self.fire, || Span {
            context: self.fire,
            parent: self.parent.map(|parent| parent.span_id),
            name: "fire",
            kind: SpanKind::Consumer,
            start,
            end: SystemTime::now(),
            attributes: about(),
            error,
        });
    }
}

/// What a fire's span tells of it.
pub(super) fn about(submission: &Submission) -> Vec<(&'static str, String)> {
    let fire = &submission.fire;
    let mut about = vec![
        ("pulsehook.hook", submission.hook.name.to_string()),
        ("pulsehook.task_id", fire.task_id.clone()),
        ("messaging.system", "rabbitmq".to_owned()),
    ];
    about.extend(fire.message_id.clone().map(|id| ("messaging.message.id", id)));
    about
}
