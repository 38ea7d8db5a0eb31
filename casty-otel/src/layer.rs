//! How casty's spans become those of OpenTelemetry.

use casty::trace::{AlreadyInstalled, TraceContext, Tracer};
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    },
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Has the messages of all systems and clients of this process carry the traces of its
/// [OpenTelemetry layer](tracing_opentelemetry::layer). [`Otlp::start`](crate::Otlp::start) does so
/// as well.
///
/// # Errors
/// This process has a tracer already.
pub fn install() -> Result<(), AlreadyInstalled> {
    casty::trace::install(Spans)
}

/// The spans of the [OpenTelemetry layer](tracing_opentelemetry::layer) of this process.
pub(crate) struct Spans;

impl Tracer for Spans {
    fn context(&self, span: &Span) -> Option<TraceContext> {
        let mut context = span.context();
        if !context.has_active_span() {
            // No layer of OpenTelemetry sees this span, and perhaps one sees a span around it.
            context = Context::current();
        }
        let span = context.span();
        let span = span.span_context();
        if !span.is_sampled() {
            return None;
        }
        let (trace, id) = (span.trace_id(), span.span_id());
        let context = TraceContext::new(
            u128::from_be_bytes(trace.to_bytes()),
            u64::from_be_bytes(id.to_bytes()),
            span.trace_flags().to_u8(),
        );
        context.map(|it| it.with_generation(generation(span)))
    }

    fn set_parent(&self, span: &Span, parent: TraceContext) {
        let parent = Context::new().with_remote_span_context(remote(parent));
        // An error says that no layer sees the span.
        let _ = span.set_parent(parent);
    }

    fn set_cause(&self, span: &Span, cause: TraceContext) {
        let _ = span.set_parent(Context::new());
        span.add_link(remote(cause));
    }
}

/// A span that is elsewhere.
fn remote(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace_id().to_be_bytes()),
        SpanId::from_bytes(context.span_id().to_be_bytes()),
        TraceFlags::new(context.flags()),
        true,
        state(context.generation()),
    )
}

/// The member of a trace's state (W3C) that says how many traces have caused each other.
const GENERATION: &str = "casty";

fn generation(span: &SpanContext) -> u8 {
    let generation = span.trace_state().get(GENERATION);
    generation.and_then(|it| it.parse().ok()).unwrap_or(0)
}

fn state(generation: u8) -> TraceState {
    if generation == 0 {
        return TraceState::NONE;
    }
    TraceState::from_key_value([(GENERATION, generation)]).unwrap_or_default()
}

/// A sampler that samples what has a link to a sampled span, and asks another one about all else.
///
/// A message that is told begins a trace of its own. Without this sampler one in a hundred of the
/// traces that a sampled request causes would be sampled, if one in a hundred requests is. With it
/// all of them are, and those that they cause, for 16 generations: entities that tell each other
/// for ever, or a timer that begins itself anew, are not followed for ever.
#[derive(Clone, Debug)]
pub struct Linked<S>(pub S);

/// How many traces that cause each other are sampled.
const GENERATIONS_MAX: u8 = 16;

impl<S: ShouldSample + Clone + 'static> ShouldSample for Linked<S> {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut causes = links.iter().map(|link| &link.span_context);
        let has_parent = parent.is_some_and(Context::has_active_span);
        let cause = causes.find(|cause| cause.is_sampled() && !has_parent);
        let Some(cause) = cause else {
            let asked = &self.0;
            return asked.should_sample(parent, trace, name, kind, attributes, links);
        };
        let generation = generation(cause).saturating_add(1);
        let decision = if generation <= GENERATIONS_MAX {
            SamplingDecision::RecordAndSample
        } else {
            SamplingDecision::Drop
        };
        SamplingResult {
            decision,
            attributes: Vec::new(),
            trace_state: state(generation),
        }
    }
}
