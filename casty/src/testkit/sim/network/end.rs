//! One end of a connection: what a host's operating system keeps for it.

use std::{collections::VecDeque, io, net::SocketAddr, task::Waker, time::Duration};

use bytes::{Buf, Bytes};

use super::HostId;

/// What goes from one end of a connection to the other, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// The dialer asks for a connection.
    Syn,
    /// Somebody listens there.
    SynAck,
    /// The dialer has heard it: from now on there is a connection to accept.
    Ack,
    Data(Bytes),
    /// Nothing more will be written.
    Fin,
    /// There is no such connection, or not any more.
    Rst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The other host does not know of it yet.
    Asked,
    /// It has said that somebody listens, and not heard yet that this is known.
    Greeted,
    /// A process waits for the answer.
    Dialing,
    /// Waits to be accepted.
    Backlog,
    /// A process has it.
    Open,
    /// No process has it any more.
    Closed,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) host: HostId,
    pub(super) address: SocketAddr,
    pub(super) state: State,

    /// What is under way to this end, and when it arrives: but not before what was sent before it.
    pub(super) flight: VecDeque<(Duration, Segment)>,
    /// Something on its way to this end was lost, so that nothing behind it is of use.
    pub(super) lost: bool,

    received: VecDeque<Bytes>,
    /// Everything that was ever read.
    pub(super) read_bytes: u64,
    /// The other side writes nothing more.
    pub(super) finished: bool,
    /// Why there is no connection any more.
    pub(super) failed: Option<io::ErrorKind>,

    /// Everything that was ever written.
    pub(super) written_bytes: u64,
    /// How much of it the other side has read, as far as is known here.
    pub(super) acknowledged_bytes: u64,
    /// This side writes nothing more.
    pub(super) shut: bool,

    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl End {
    pub(super) fn new(host: HostId, address: SocketAddr, state: State) -> Self {
        Self {
            host,
            address,
            state,
            flight: VecDeque::new(),
            lost: false,
            received: VecDeque::new(),
            read_bytes: 0,
            finished: false,
            failed: None,
            written_bytes: 0,
            acknowledged_bytes: 0,
            shut: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn receive(&mut self, bytes: Bytes) {
        self.received.push_back(bytes);
    }

    /// Whether something was received that nobody has read.
    pub(super) fn has_unread(&self) -> bool {
        !self.received.is_empty()
    }

    /// Hands out what was received, at most so many bytes.
    pub(super) fn read(&mut self, bytes_max: usize, mut put: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < bytes_max
            && let Some(front) = self.received.front_mut()
        {
            let part = front.len().min(bytes_max - count);
            put(&front[..part]);
            front.advance(part);
            count += part;
            if front.is_empty() {
                self.received.pop_front();
            }
        }
        self.read_bytes += count as u64;
        count
    }

    /// Everything under way to this end is gone.
    pub(super) fn lose_flight(&mut self) {
        if !self.flight.is_empty() {
            self.flight.clear();
            self.lost = true;
        }
    }

    /// No process has this any more.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.received.clear();
        (self.reader, self.writer) = (None, None);
    }
}
