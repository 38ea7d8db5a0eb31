//! Segments: sending, travelling, arriving.

use std::{cmp::Reverse, io, net::SocketAddr};

use super::{
    BACKLOG, EndId, Network,
    end::{EndState, Segment},
    links::Passage,
};

impl Network {
    /// Sends a segment to an end, from its peer.
    pub(super) fn send(&mut self, to: EndId, segment: Segment) {
        let (Some(sender), Some(receiver)) = (self.ends.get(&to.peer()), self.ends.get(&to)) else {
            return;
        };
        let (from_host, to_host) = (sender.host, receiver.host);
        // Within a host, segments arrive at once.
        let latency = if from_host == to_host {
            std::time::Duration::ZERO
        } else {
            self.roll(from_host, to_host);
            self.conditions.latency(&mut self.rng)
        };
        let cut = self.links.passage(from_host, to_host) == Passage::Cut;
        let Some(receiver) = self.ends.get_mut(&to) else {
            return;
        };
        receiver.lost |= cut;
        if receiver.lost {
            return;
        }
        let arrival = self.now + latency;
        receiver.flight.push_back((arrival, segment));
        self.sent += 1;
        self.due.push(Reverse((arrival, self.sent, to)));
    }

    /// Receives the segments that are due at an end, unless they are held back.
    pub(super) fn arrive(&mut self, at: EndId) {
        loop {
            let (Some(sender), Some(receiver)) = (self.ends.get(&at.peer()), self.ends.get(&at))
            else {
                return;
            };
            let open = self.links.passage(sender.host, receiver.host) == Passage::Open;
            match receiver.flight.front() {
                Some((arrival, _)) if open && *arrival <= self.now => {}
                _ => return,
            }
            let segment = self
                .ends
                .get_mut(&at)
                .and_then(|end| end.flight.pop_front());
            if let Some((_, segment)) = segment {
                self.receive(at, segment);
            }
            self.forget_if_dead(at);
        }
    }

    fn receive(&mut self, at: EndId, segment: Segment) {
        let Some(end) = self.ends.get_mut(&at) else {
            return;
        };
        match (segment, end.state) {
            (Segment::Syn, _) => self.asked(at),
            (Segment::SynAck, EndState::Dialing) => {
                end.state = EndState::Open;
                self.wake_reader(at);
                self.send(at.peer(), Segment::Ack);
            }
            (Segment::Ack, EndState::Greeted) => self.opened(at),
            (Segment::Data(bytes), EndState::Open | EndState::Backlog) => {
                end.receive(bytes);
                self.wake_reader(at);
            }
            (Segment::Fin, EndState::Open | EndState::Backlog) => {
                end.finished = true;
                self.wake_reader(at);
            }
            (Segment::Rst, EndState::Greeted) => end.close(),
            (Segment::Rst, EndState::Dialing) => {
                end.failed = Some(io::ErrorKind::ConnectionRefused);
                self.wake_reader(at);
            }
            (Segment::Rst, EndState::Open | EndState::Backlog) => {
                end.failed = Some(io::ErrorKind::ConnectionReset);
                self.wake_reader(at);
                self.wake_writer(at);
            }
            // No process has this end any more. The other end learns of that by a reset.
            (Segment::SynAck | Segment::Ack | Segment::Data(_), EndState::Closed) => {
                self.refuse(at);
            }
            _ => {}
        }
    }

    /// A `Syn` has arrived.
    fn asked(&mut self, at: EndId) {
        match self.backlog(at) {
            Some(waiting) if waiting < BACKLOG => {
                if let Some(end) = self.ends.get_mut(&at) {
                    end.state = EndState::Greeted;
                }
                self.send(at.peer(), Segment::SynAck);
            }
            // The backlog is full: the `Syn` is dropped.
            Some(_) => {}
            None => self.refuse(at),
        }
    }

    /// An `Ack` has arrived: the connection can be accepted.
    fn opened(&mut self, at: EndId) {
        if self.backlog(at).is_none() {
            return self.refuse(at);
        }
        let Some(end) = self.ends.get_mut(&at) else {
            return;
        };
        end.state = EndState::Backlog;
        let (host, port) = (end.host, end.address.port());
        if let Some(backlog) = self.hosts[host.0].listeners.get_mut(&port) {
            backlog.waiting.push_back(at);
            self.woken.extend(backlog.acceptor.take());
        }
    }

    /// The number of connections that wait to be accepted at an end's port. `None` without a
    /// listener.
    fn backlog(&self, at: EndId) -> Option<usize> {
        let end = self.ends.get(&at)?;
        let listeners = &self.hosts[end.host.0].listeners;
        Some(listeners.get(&end.address.port())?.waiting.len())
    }

    fn refuse(&mut self, at: EndId) {
        if let Some(end) = self.ends.get_mut(&at) {
            end.close();
        }
        let peer = at.peer();
        let hears = self.ends.get(&peer);
        if hears.is_some_and(|peer| peer.state != EndState::Closed && peer.failed.is_none()) {
            self.send(peer, Segment::Rst);
        }
    }

    /// Removes a connection once no process has an end of it and no segment is under way.
    pub(super) fn forget_if_dead(&mut self, at: EndId) {
        let dead = |id| {
            let end = self.ends.get(&id);
            end.is_some_and(|end| {
                let nobodys = matches!(
                    end.state,
                    EndState::Asked | EndState::Greeted | EndState::Closed
                );
                nobodys && end.flight.is_empty()
            })
        };
        if dead(at) && dead(at.peer()) {
            self.ends.remove(&at);
            self.ends.remove(&at.peer());
        }
    }

    pub(super) fn wake_reader(&mut self, at: EndId) {
        let waker = self.ends.get_mut(&at).and_then(|end| end.reader.take());
        self.woken.extend(waker);
    }

    pub(super) fn wake_writer(&mut self, at: EndId) {
        let waker = self.ends.get_mut(&at).and_then(|end| end.writer.take());
        self.woken.extend(waker);
    }

    /// The addresses of an end and of its peer.
    pub(super) fn addresses(&self, at: EndId) -> Option<(SocketAddr, SocketAddr)> {
        Some((
            self.ends.get(&at)?.address,
            self.ends.get(&at.peer())?.address,
        ))
    }
}
