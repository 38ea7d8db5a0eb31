//! The trace of a run: a hash of everything, and the last lines as text.

use std::{collections::VecDeque, fmt, net::SocketAddr, sync::Mutex, time::Duration};

use xxhash_rust::xxh3::Xxh3;

use super::clock::true_time;
use crate::{Event, infra::sync::lock};

/// Lines of the trace that are kept, for the message of a failing test.
const LINES_KEPT: usize = 200;

#[derive(Default)]
pub(super) struct Trace(Mutex<Recorded>);

struct Recorded {
    hash: Xxh3,
    lines: VecDeque<String>,
}

impl Default for Recorded {
    fn default() -> Self {
        Self {
            hash: Xxh3::new(),
            lines: VecDeque::new(),
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    /// Records an event of a node.
    pub(super) fn event(&self, node: &str, event: &Event) {
        let at = true_time().unwrap_or_default();
        self.note(at, node, &format!("{event:?}"));
    }

    /// Records a fault.
    pub(super) fn note(&self, at: Duration, node: &str, what: &str) {
        let line = format!("{:>10} µs  {node:<8} {what}", at.as_micros());
        let mut recorded = lock(&self.0);
        recorded.hash.update(line.as_bytes());
        if recorded.lines.len() == LINES_KEPT {
            recorded.lines.pop_front();
        }
        recorded.lines.push_back(line);
    }

    /// Records bytes that were written to a connection.
    pub(super) fn written(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let at = true_time().unwrap_or_default();
        let line = format!("{} {from} {to} ", at.as_micros());
        let mut recorded = lock(&self.0);
        recorded.hash.update(line.as_bytes());
        recorded.hash.update(bytes);
    }

    pub(super) fn hash(&self) -> u64 {
        lock(&self.0).hash.digest()
    }

    pub(super) fn last(&self) -> String {
        let recorded = lock(&self.0);
        let lines: Vec<&str> = recorded.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}
