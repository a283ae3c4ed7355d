//! Traces that go through pulse: W3C Trace Context (version 00), in the header `traceparent` of messages as of HTTP requests.
//!
//! Ids are carried whether or not anybody records: whoever listens on pulse, and the queue service, may. Where spans
//! are recorded, who records them is not known here: they are handed to a function.

use std::sync::Arc;
use std::time::SystemTime;

/// The header, in messages and in HTTP requests.
pub const HEADER: &str = "traceparent";

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span in it.
    pub span_id: [u8; 8],
    /// Whether spans of this trace are recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`. `None` for what is none; what a later version adds at the end is left out, as the standard asks.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version: [u8; 1] = bytes(parts.next()?)?;
        let trace_id: [u8; 16] = bytes(parts.next()?)?;
        let span_id: [u8; 8] = bytes(parts.next()?)?;
        let flags: [u8; 1] = bytes(parts.next()?)?;
        let valid = version[0] != 0xff
            && (version[0] != 0 || parts.next().is_none())
            && trace_id != [0; 16]
            && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, sampled: flags[0] & 1 == 1 })
    }

    /// The beginning of a trace with this id.
    pub fn root(trace_id: [u8; 16], sampled: bool) -> Self {
        Self { trace_id, span_id: random(), sampled }
    }

    /// Another span of the same trace.
    pub fn child(&self) -> Self {
        Self { span_id: random(), ..*self }
    }
}

impl std::fmt::Display for TraceContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        // The places are as long as their digits.
        let _ = hex::encode_to_slice(self.trace_id, &mut text[3..35]);
        let _ = hex::encode_to_slice(self.span_id, &mut text[36..52]);
        text[54] = b'0' + u8::from(self.sampled);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Lower-case hex digits, as many as there are bytes.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// Ids only have to differ, so the system's randomness is asked for once for each thread and not for each event.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fastrand::fill(&mut bytes);
    bytes[0] |= 1;
    bytes
}

/// What part a span has in a message's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A request was served, and a message published.
    Producer,
    /// A message was taken.
    Consumer,
    /// Something within.
    Internal,
    /// Another service was called.
    Client,
}

/// Something that took time.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its place.
    pub context: TraceContext,
    /// The span that it is part of.
    pub parent: Option<[u8; 8]>,
    /// What it is, of few different words.
    pub name: &'static str,
    /// Its part.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What it was about.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Takes spans. It must not block.
pub type Spans = Arc<dyn Fn(Span) + Send + Sync>;

/// Whether traces are begun and spans recorded.
#[derive(Clone)]
pub struct Tracing {
    /// The share of traces begun here whose spans are recorded, from 0 to 1. Others have decided for themselves.
    pub ratio: f64,
    /// Who records; `None`: nobody, and ids are passed on as they come.
    pub spans: Option<Spans>,
}

impl Default for Tracing {
    fn default() -> Self {
        Self { ratio: 1.0, spans: None }
    }
}

impl Tracing {
    /// Whether a trace that begins here with this id is recorded: the same answer wherever the same id is asked about.
    pub fn samples(&self, trace_id: &[u8; 16]) -> bool {
        let mut half = [0; 8];
        half.copy_from_slice(&trace_id[8..]);
        (u64::from_be_bytes(half) as f64) < self.ratio * (u64::MAX as f64)
    }

    /// The context for work that a request or message with this `traceparent` asks for, and the span that it is part of.
    pub fn enter(&self, parent: Option<TraceContext>) -> (TraceContext, Option<[u8; 8]>) {
        match (parent, &self.spans) {
            (Some(parent), Some(_)) => (parent.child(), Some(parent.span_id)),
            (Some(parent), None) => (parent, None),
            (None, _) => {
                let trace_id = random();
                (TraceContext::root(trace_id, self.samples(&trace_id)), None)
            }
        }
    }

    /// Records a span, if somebody does and its trace is recorded.
    pub fn record(&self, context: TraceContext, span: impl FnOnce() -> Span) {
        if let Some(spans) = self.spans.as_ref().filter(|_| context.sampled) {
            spans(span());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_header_is_read_and_written_as_the_standard_has_it() {
        let context = TraceContext::parse(TEXT).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), TEXT);
        assert!(
            TraceContext::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes")
                .is_some()
        );
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn without_a_recorder_ids_are_passed_on_and_with_one_there_are_children() {
        let parent = TraceContext::parse(TEXT);
        let passing = Tracing::default();
        assert_eq!(passing.enter(parent).0.to_string(), TEXT);
        let recording = Tracing { spans: Some(Arc::new(|_| ())), ..Tracing::default() };
        let (child, of) = recording.enter(parent);
        assert_eq!((Some(child.trace_id), of), (parent.map(|p| p.trace_id), parent.map(|p| p.span_id)));
        assert_ne!(Some(child.span_id), of);
        assert!(passing.enter(None).0.sampled);
        assert!(!Tracing { ratio: 0.0, ..Tracing::default() }.enter(None).0.sampled);
    }
}
