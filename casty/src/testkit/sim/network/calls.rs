//! The system calls of a host's processes, and the end of a process.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll, Waker},
};

use rand::RngExt;
use tokio::io::ReadBuf;

use super::{
    Backlog, EndId, HostId, Network, PORTS, SOCKET_BYTES,
    end::{End, EndState, Segment},
    links::Passage,
};
use crate::transport::net::PeerIdentity;

/// The share of writes that a bad link damages.
const DAMAGE_RATE: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// A bit is not what it was.
    Flip,
    /// The connection ends in the middle.
    Cut,
}

/// The name that has the addresses of all nodes.
const ALL_NODES: &str = "nodes";

impl Network {
    /// The addresses of a name: a node's, or those of all nodes that were ever started.
    pub(super) fn resolve(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        let hosts = self.hosts.iter();
        let named = hosts.filter(|host| host.name == name || name == ALL_NODES);
        named.map(|host| SocketAddr::new(host.ip, port)).collect()
    }

    /// Listens on a port, or on a free one for port 0. Returns the listener's address and number.
    pub(super) fn bind(&mut self, host: HostId, port: u16) -> io::Result<(SocketAddr, u64)> {
        let port = if port == 0 { self.port(host) } else { port };
        let host = &mut self.hosts[host.0];
        if host.listeners.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.bound += 1;
        host.listeners.insert(port, Backlog::new(self.bound));
        Ok((SocketAddr::new(host.ip, port), self.bound))
    }

    /// Closes a listener. Connections that wait to be accepted are refused.
    pub(super) fn unbind(&mut self, host: HostId, port: u16, number: u64) {
        let listeners = &mut self.hosts[host.0].listeners;
        // A listener that outlived its process must not take the port from the next one.
        if listeners.get(&port).is_none_or(|it| it.number != number) {
            return;
        }
        let backlog = listeners.remove(&port);
        for waiting in backlog.into_iter().flat_map(|backlog| backlog.waiting) {
            self.close(waiting);
        }
    }

    pub(super) fn poll_accept(
        &mut self,
        host: HostId,
        port: u16,
        number: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<EndId>> {
        let listener = self.hosts[host.0].listeners.get_mut(&port);
        let Some(backlog) = listener.filter(|listener| listener.number == number) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some(accepted) = backlog.waiting.pop_front() else {
            remember(&mut backlog.acceptor, cx);
            return Poll::Pending;
        };
        if let Some(end) = self.ends.get_mut(&accepted) {
            end.state = EndState::Open;
        }
        Poll::Ready(Ok(accepted))
    }

    pub(super) fn connect(&mut self, host: HostId, to: SocketAddr) -> io::Result<EndId> {
        let Some(target) = self.hosts.iter().position(|host| host.ip == to.ip()) else {
            return Err(io::ErrorKind::HostUnreachable.into());
        };
        let here = SocketAddr::new(self.ip(host), self.port(host));
        let dialer = EndId(self.dialed * 2);
        self.dialed += 1;
        self.ends
            .insert(dialer, End::new(host, here, EndState::Dialing));
        let asked = End::new(HostId(target), to, EndState::Asked);
        self.ends.insert(dialer.peer(), asked);
        self.send(dialer.peer(), Segment::Syn);
        Ok(dialer)
    }

    /// The verified name of the host at the other end, if it has one. Pending for as long as that
    /// host does not do its part.
    pub(super) fn poll_established(&self, at: EndId) -> Poll<io::Result<Option<PeerIdentity>>> {
        let Some(peer) = self.ends.get(&at.peer()) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let host = &self.hosts[peer.host.0];
        if host.stays_silent {
            return Poll::Pending;
        }
        Poll::Ready(Ok(host.identity.clone().map(PeerIdentity::member)))
    }

    pub(super) fn poll_connected(
        &mut self,
        at: EndId,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let end = self.open(at)?;
        if let Some(error) = end.failed {
            return Poll::Ready(Err(error.into()));
        }
        if end.state == EndState::Open {
            return Poll::Ready(Ok(()));
        }
        remember(&mut end.reader, cx);
        Poll::Pending
    }

    pub(super) fn poll_read(
        &mut self,
        at: EndId,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = self.open(at)?;
        let count = end.read(into.remaining(), |part| into.put_slice(part));
        if count > 0 {
            if self.hears_of_reading(at.peer()) {
                self.wake_writer(at.peer());
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = end.failed {
            return Poll::Ready(Err(error.into()));
        }
        if end.finished || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        remember(&mut end.reader, cx);
        Poll::Pending
    }

    /// Whether acknowledgements reach an end.
    fn hears_of_reading(&self, at: EndId) -> bool {
        let (Some(end), Some(peer)) = (self.ends.get(&at), self.ends.get(&at.peer())) else {
            return false;
        };
        self.links.passage(peer.host, end.host) == Passage::Open
    }

    pub(super) fn poll_write(
        &mut self,
        at: EndId,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let hears = self.hears_of_reading(at);
        let read = self.ends.get(&at.peer()).map(|peer| peer.read_bytes);
        let end = self.open(at)?;
        if end.failed.is_some() || end.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if let Some(read) = read
            && hears
        {
            end.acknowledged_bytes = read;
        }
        let unread = usize::try_from(end.written_bytes - end.acknowledged_bytes);
        let room = SOCKET_BYTES.saturating_sub(unread.unwrap_or(SOCKET_BYTES));
        let count = room.min(bytes.len());
        if count == 0 && !bytes.is_empty() {
            remember(&mut end.writer, cx);
            return Poll::Pending;
        }
        end.written_bytes += count as u64;
        let host = end.host;
        if count > 0 {
            self.count(host, at.peer(), count as u64);
            let damage = self.draw_damage(host, at.peer());
            let mut data = bytes[..count].to_vec();
            let is_cut = damage == Some(Damage::Cut);
            match damage {
                Some(Damage::Cut) => data.truncate(self.rng.random_range(0..count)),
                Some(Damage::Flip) => {
                    let bit = self.rng.random_range(0..count * 8);
                    data[bit / 8] ^= 1 << (bit % 8);
                }
                None => {}
            }
            self.send(at.peer(), Segment::Data(data.into()));
            if is_cut {
                self.send(at.peer(), Segment::Rst);
            }
        }
        Poll::Ready(Ok(count))
    }

    /// Whether a link damages what is about to be sent, and how.
    fn draw_damage(&mut self, from: HostId, to: EndId) -> Option<Damage> {
        let to = self.ends.get(&to)?.host;
        if !self.links.damages(from, to) || !self.rng.random_bool(DAMAGE_RATE) {
            return None;
        }
        let flips: bool = self.rng.random();
        Some(if flips { Damage::Flip } else { Damage::Cut })
    }

    /// Counts the bytes that a host writes to another.
    fn count(&mut self, host: HostId, to: EndId, bytes: u64) {
        if self.ends.get(&to).is_none_or(|peer| peer.host != host) {
            let written = &mut self.hosts[host.0].written;
            written.bytes += bytes;
            written.segments += 1;
        }
    }

    /// Shuts the writing side of an end.
    pub(super) fn shutdown(&mut self, at: EndId) -> io::Result<()> {
        let end = self.open(at)?;
        if end.failed.is_none() && !std::mem::replace(&mut end.shut, true) {
            self.send(at.peer(), Segment::Fin);
        }
        Ok(())
    }

    /// Closes an end. Bytes that it has written still arrive. If it has unread bytes, the other end
    /// gets a reset.
    pub(super) fn close(&mut self, at: EndId) {
        let Some(end) = self.ends.get_mut(&at) else {
            return;
        };
        let last = match end.state {
            _ if end.failed.is_some() => None,
            EndState::Backlog => Some(Segment::Rst),
            EndState::Open if end.has_unread() => Some(Segment::Rst),
            EndState::Open if !end.shut => Some(Segment::Fin),
            EndState::Asked
            | EndState::Greeted
            | EndState::Dialing
            | EndState::Open
            | EndState::Closed => None,
        };
        end.close();
        if let Some(last) = last {
            self.send(at.peer(), last);
        }
        self.forget_if_dead(at);
    }

    /// Ends a host's process: all of its ends and listeners are closed.
    pub(in super::super) fn end_process(&mut self, host: HostId) {
        let mut ours = self.between(|_, to| to == host);
        // Before its `Syn` has arrived, an end belongs to no process.
        ours.retain(|at| self.ends[at].state != EndState::Asked);
        for at in ours {
            self.close(at);
        }
        self.hosts[host.0].listeners.clear();
    }

    fn open(&mut self, at: EndId) -> io::Result<&mut End> {
        match self.ends.get_mut(&at) {
            Some(end) if end.state != EndState::Closed => Ok(end),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// A free port, for a dialer or a listener.
    fn port(&mut self, host: HostId) -> u16 {
        let host = &mut self.hosts[host.0];
        loop {
            let port = host.port;
            host.port = if port == *PORTS.end() {
                *PORTS.start()
            } else {
                port + 1
            };
            if !host.listeners.contains_key(&port) {
                return port;
            }
        }
    }
}

fn remember(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}
