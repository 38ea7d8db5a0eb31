//! One end of a connection, as a host's operating system keeps it.

use std::{collections::VecDeque, io, net::SocketAddr, task::Waker, time::Duration};

use bytes::{Buf, Bytes};

use super::HostId;

/// The unit that travels from one end of a connection to the other, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// The dialer asks for a connection.
    Syn,
    /// A process listens there.
    SynAck,
    /// The dialer has received the `SynAck`: from now on the connection can be accepted.
    Ack,
    Data(Bytes),
    /// Nothing more will be written.
    Fin,
    /// There is no such connection any more, or there never was.
    Rst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndState {
    /// The `Syn` has not arrived yet.
    Asked,
    /// The `SynAck` was sent, and its `Ack` has not arrived yet.
    Greeted,
    /// The dialer waits for the `SynAck`.
    Dialing,
    /// The connection waits to be accepted.
    Backlog,
    /// A process uses the end.
    Open,
    /// The process has closed the end.
    Closed,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) host: HostId,
    pub(super) address: SocketAddr,
    pub(super) state: EndState,

    /// Segments under way to this end, each with its arrival, which is never before that of an
    /// earlier one.
    pub(super) flight: VecDeque<(Duration, Segment)>,
    /// A segment to this end was lost, so that later ones are useless.
    pub(super) lost: bool,

    received: VecDeque<Bytes>,
    /// Bytes read so far.
    pub(super) read_bytes: u64,
    /// The other end writes nothing more.
    pub(super) finished: bool,
    /// Why the connection has failed.
    pub(super) failed: Option<io::ErrorKind>,

    /// Bytes written so far.
    pub(super) written_bytes: u64,
    /// Bytes that the other end has read, as far as this end knows.
    pub(super) acknowledged_bytes: u64,
    /// This end writes nothing more.
    pub(super) shut: bool,

    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl End {
    pub(super) fn new(host: HostId, address: SocketAddr, state: EndState) -> Self {
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

    /// Whether there are received bytes that were not read.
    pub(super) fn has_unread(&self) -> bool {
        !self.received.is_empty()
    }

    /// Reads at most `bytes_max` received bytes.
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

    /// Loses all segments under way to this end.
    pub(super) fn lose_flight(&mut self) {
        if !self.flight.is_empty() {
            self.flight.clear();
            self.lost = true;
        }
    }

    /// The process has closed this end.
    pub(super) fn close(&mut self) {
        self.state = EndState::Closed;
        self.received.clear();
        (self.reader, self.writer) = (None, None);
    }
}
