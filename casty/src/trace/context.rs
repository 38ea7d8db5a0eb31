//! The place of a span in a trace.

use std::{fmt, str::FromStr};

/// The bytes of a context on its way.
const BYTES: usize = 26;

/// The bit of the flags that says that the trace is sampled.
const SAMPLED: u8 = 1;

/// The place of a span in a trace, as
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/) has it. As text it is the value of
/// the header `traceparent`.
///
/// ```
/// use casty::trace::TraceContext;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: TraceContext = header.parse()?;
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), header);
/// # Ok::<(), casty::trace::InvalidTraceContext>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
    generation: u8,
}

/// A text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a W3C `traceparent`: two digits, 32 of the trace, 16 of the span, two of flags, all of them hexadecimal, \
     with dashes between them; trace and span are not zero"
)]
pub struct InvalidTraceContext;

impl TraceContext {
    /// `None` if one of the ids is zero, which names nothing. `flags`: those of W3C; bit 0 says
    /// that the trace is sampled.
    pub fn new(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        let is_valid = trace_id != 0 && span_id != 0;
        is_valid.then_some(Self {
            trace: trace_id,
            span: span_id,
            flags,
            generation: 0,
        })
    }

    /// The same, of a trace that is caused by another, which may be caused by another, and so on:
    /// so many times. A [`Tracer`](super::Tracer) ends such a succession somewhere. It travels
    /// between nodes, and is no part of `traceparent`.
    pub fn with_generation(self, generation: u8) -> Self {
        Self { generation, ..self }
    }

    /// How many traces have caused each other down to this one.
    pub fn generation(self) -> u8 {
        self.generation
    }

    /// The id of the trace.
    pub fn trace_id(self) -> u128 {
        self.trace
    }

    /// The id of the span.
    pub fn span_id(self) -> u64 {
        self.span
    }

    /// The flags of W3C.
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// Whether the trace is sampled, so that its spans go to where they can be looked at.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub(crate) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&self.trace.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.span.to_be_bytes());
        bytes[24] = self.flags;
        bytes[25] = self.generation;
        bytes
    }

    /// `None` for bytes that are none, and for a trace that is not sampled: nothing is done for
    /// that. What is wrong with a trace is no reason to refuse a message.
    pub(crate) fn sampled_of_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace, rest) = bytes.split_first_chunk()?;
        let (span, rest) = rest.split_first_chunk()?;
        let [flags, generation] = *rest else {
            return None;
        };
        let (trace, span) = (u128::from_be_bytes(*trace), u64::from_be_bytes(*span));
        let context = Self::new(trace, span, flags)?.with_generation(generation);
        context.is_sampled().then_some(context)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace, span, flags, ..
        } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    /// Later versions of the format may have more fields after these, which are skipped.
    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let mut parts = text.split('-');
        let mut field = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if !part.bytes().all(is_lower) {
                return None;
            }
            u128::from_str_radix(part, 16).ok()
        };
        let version = field(2).ok_or(InvalidTraceContext)?;
        let fields = (field(32), field(16), field(2));
        let (Some(trace), Some(span), Some(flags)) = fields else {
            return Err(InvalidTraceContext);
        };
        if version == 0xff || version == 0 && parts.next().is_some() {
            return Err(InvalidTraceContext);
        }
        let (span, flags) = (u64::try_from(span), u8::try_from(flags));
        let (Ok(span), Ok(flags)) = (span, flags) else {
            return Err(InvalidTraceContext);
        };
        Self::new(trace, span, flags).ok_or(InvalidTraceContext)
    }
}

/// A context as a record has it. Bytes that are none read as no context: a record is read whatever
/// is wrong with its trace.
pub(crate) mod written {
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_bytes::ByteBuf;

    use super::TraceContext;

    #[expect(clippy::ref_option, reason = "serde calls it")]
    pub(crate) fn serialize<S: Serializer>(
        trace: &Option<Box<TraceContext>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match trace {
            Some(trace) => to.serialize_bytes(&trace.to_bytes()),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Box<TraceContext>>, D::Error> {
        let bytes = Option::<ByteBuf>::deserialize(from)?;
        Ok(bytes
            .and_then(|bytes| TraceContext::sampled_of_bytes(&bytes))
            .map(Box::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn it_reads_and_writes_traceparent() {
        let context: TraceContext = HEADER.parse().unwrap();
        assert_eq!(
            context.trace_id(),
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736
        );
        assert_eq!(
            (context.span_id(), context.flags()),
            (0x00f0_67aa_0ba9_02b7, 1)
        );
        assert_eq!(context.to_string(), HEADER);
        let context = context.with_generation(3);
        let read = TraceContext::sampled_of_bytes(&context.to_bytes());
        assert_eq!(read, Some(context));
    }

    #[test]
    fn later_versions_may_say_more() {
        let later = format!("01{}-what-is-new", &HEADER[2..]);
        assert_eq!(
            later.parse::<TraceContext>().unwrap().span_id(),
            0x00f0_67aa_0ba9_02b7
        );
    }

    #[test]
    fn what_names_no_span_is_refused() {
        let zero = "0".repeat(32);
        let wrong = [
            String::new(),
            "00".to_owned(),
            format!("{HEADER}-more"),
            format!("ff{}", &HEADER[2..]),
            HEADER.to_uppercase(),
            HEADER.replace('f', "+"),
            format!("00-{zero}-00f067aa0ba902b7-01"),
            format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", &zero[..16]),
        ];
        for text in wrong {
            assert_eq!(
                text.parse::<TraceContext>(),
                Err(InvalidTraceContext),
                "{text}"
            );
        }
        for wrong in [&[1; 25][..], &[1; 27], &[0; 26], &[2; 26]] {
            assert_eq!(TraceContext::sampled_of_bytes(wrong), None);
        }
    }
}
