//! The spans of messages.

use tracing::{Level, Span, field::Empty};

use crate::{
    event::ActorPath,
    id::NodeId,
    trace::{self, Relation, TraceContext},
};

/// The span of an ask, from its message to its answer.
#[derive(Debug)]
pub(crate) struct Asking(Span);

impl Asking {
    /// Begins one, if what asks is part of a trace. Returns what goes along with the message.
    #[cold]
    pub(crate) fn begin(to: &ActorPath, message: &'static str) -> Option<(Self, TraceContext)> {
        let tracer = trace::tracer()?;
        let here = tracer.context(&Span::current())?;
        let span = tracing::span!(
            target: "casty::trace",
            Level::INFO,
            "ask",
            otel.name = format_args!("{}/{message}", to.kind),
            otel.kind = "client",
            otel.status_code = Empty,
            otel.status_description = Empty,
            rpc.system = "casty",
            rpc.service = to.kind,
            rpc.method = message,
            casty.entity.id = to.id,
        );
        // A subscriber that does not want the span still has the traces of what asks.
        let context = tracer.context(&span).unwrap_or(here);
        Some((Self(span), context))
    }

    /// The ask ends without an answer.
    #[cold]
    pub(crate) fn fail(&self, reason: &dyn std::fmt::Display) {
        self.0.record("otel.status_code", "ERROR");
        let reason = tracing::field::display(reason);
        self.0.record("otel.status_description", reason);
    }
}

/// The span of a message that is about to be handled on this node. The caller enters it.
#[cold]
pub(crate) fn handles(
    actor: &ActorPath,
    message: &'static str,
    node: &NodeId,
    relation: Relation,
) -> Option<Span> {
    let tracer = trace::tracer()?;
    macro_rules! handling {
        ($kind:literal, $($field:tt)*) => {
            tracing::span!(
                target: "casty::trace",
                parent: None,
                Level::INFO,
                "handle",
                otel.name = format_args!("{}/{message}", actor.kind),
                otel.kind = $kind,
                otel.status_code = Empty,
                otel.status_description = Empty,
                casty.entity.id = actor.id,
                casty.node = %node,
                $($field)*
            )
        };
    }
    let span = match relation {
        Relation::Parent(parent) => {
            let span = handling!(
                "server",
                rpc.system = "casty",
                rpc.service = actor.kind,
                rpc.method = message
            );
            tracer.set_parent(&span, parent);
            span
        }
        Relation::Cause(cause) => {
            let span = handling!(
                "consumer",
                messaging.system = "casty",
                messaging.operation.type = "process",
                messaging.destination.name = actor.kind
            );
            tracer.set_cause(&span, cause);
            span
        }
    };
    (!span.is_disabled()).then_some(span)
}

/// The span of a projection that handles the events of a record.
#[cold]
pub(crate) fn projects(projection: &str, actor: &ActorPath, cause: TraceContext) -> Option<Span> {
    let tracer = trace::tracer()?;
    let span = tracing::span!(
        target: "casty::trace",
        parent: None,
        Level::INFO,
        "project",
        otel.name = format_args!("{projection}/{}", actor.kind),
        otel.kind = "consumer",
        messaging.system = "casty",
        messaging.operation.type = "process",
        messaging.destination.name = projection,
        casty.entity.id = actor.id,
    );
    tracer.set_cause(&span, cause);
    (!span.is_disabled()).then_some(span)
}

/// The handler has ended. `panic`: for this reason, if it has panicked.
#[cold]
pub(crate) fn ends(span: &Span, panic: Option<&str>) {
    if let Some(reason) = panic {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", reason);
    }
}

/// The span of work that an actor does not wait for, if what begins it is part of a trace.
#[cold]
pub(crate) fn works(actor: &ActorPath) -> Option<Span> {
    let tracer = trace::tracer()?;
    let begins = tracer.context(&Span::current())?;
    // A child by its context alone: a child of the handler's span itself would keep that open.
    let span = tracing::span!(
        target: "casty::trace",
        parent: None,
        Level::INFO,
        "pipe",
        otel.name = format_args!("{} pipe", actor.kind),
        casty.entity.id = actor.id,
    );
    tracer.set_parent(&span, begins);
    (!span.is_disabled()).then_some(span)
}
