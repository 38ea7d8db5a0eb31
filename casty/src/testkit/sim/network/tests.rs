use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::io::ReadBuf;

use super::{BACKLOG, Conditions, EndId, HostId, Network, SOCKET_BYTES};

const PORT: u16 = 7;

const TICK: Duration = Duration::from_millis(1);

/// Longer than anything is under way.
const LONG: Duration = Duration::from_millis(100);

/// Two hosts; the second one listens.
struct Lab {
    network: Network,
    a: HostId,
    b: HostId,
    listener: u64,
}

impl Lab {
    fn new(seed: u64) -> Self {
        Self::with_conditions(seed, Conditions::default())
    }

    fn with_conditions(seed: u64, conditions: Conditions) -> Self {
        let mut network = Network::new(seed, conditions);
        let (a, b) = (network.add_host("a"), network.add_host("b"));
        let (_, listener) = network.bind(b, PORT).unwrap();
        Self {
            network,
            a,
            b,
            listener,
        }
    }

    /// Time passes bit by bit, so that an answer is sent when it is asked for.
    fn pass(&mut self, time: Duration) {
        let end = self.network.now + time;
        while self.network.now < end {
            let now = self.network.now + TICK;
            self.network.handle_time(now);
        }
    }

    fn address(&self) -> SocketAddr {
        self.network.resolve("b", PORT)[0]
    }

    fn dial(&mut self) -> EndId {
        let to = self.address();
        self.network.connect(self.a, to).unwrap()
    }

    fn connected(&mut self, end: EndId) -> Poll<io::Result<()>> {
        self.network.poll_connected(end, &mut cx())
    }

    fn accept(&mut self) -> Option<EndId> {
        let (host, number) = (self.b, self.listener);
        match self.network.poll_accept(host, PORT, number, &mut cx()) {
            Poll::Ready(accepted) => Some(accepted.unwrap()),
            Poll::Pending => None,
        }
    }

    fn connect(&mut self) -> (EndId, EndId) {
        let dialer = self.dial();
        self.pass(LONG);
        assert!(matches!(self.connected(dialer), Poll::Ready(Ok(()))));
        (dialer, self.accept().expect("the dialer knows of it"))
    }

    fn write(&mut self, end: EndId, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.network.poll_write(end, &mut cx(), bytes)
    }

    fn say(&mut self, end: EndId, bytes: &[u8]) {
        assert!(matches!(self.write(end, bytes), Poll::Ready(Ok(count)) if count == bytes.len()));
    }

    /// Writes until there is no room. Gives how much there was.
    fn fill(&mut self, end: EndId) -> usize {
        let mut count = 0;
        while let Poll::Ready(Ok(written)) = self.write(end, &[0; 1000]) {
            count += written;
            assert!(count <= SOCKET_BYTES, "there is no end to it");
        }
        count
    }

    fn read(&mut self, end: EndId) -> Read {
        let mut space = vec![0; 2 * SOCKET_BYTES];
        let mut buffer = ReadBuf::new(&mut space);
        match self.network.poll_read(end, &mut cx(), &mut buffer) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Err(error)) => Read::Failed(error.kind()),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Read::End,
            Poll::Ready(Ok(())) => Read::Bytes(buffer.filled().to_vec()),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Read {
    Nothing,
    Bytes(Vec<u8>),
    End,
    Failed(io::ErrorKind),
}

fn bytes(text: &str) -> Read {
    Read::Bytes(text.into())
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn refused(connecting: Poll<io::Result<()>>) -> bool {
    matches!(connecting, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn bytes_take_their_time_and_arrive_in_order() {
    for seed in 0..20 {
        let mut lab = Lab::new(seed);
        let (a, b) = lab.connect();
        let mut sent = Vec::new();
        let mut received = Vec::new();
        for n in 0..100 {
            lab.say(a, &[n]);
            sent.push(n);
            lab.pass(TICK);
            if let Read::Bytes(bytes) = lab.read(b) {
                received.extend(bytes);
            }
        }
        assert!(received.len() < sent.len(), "all of it was there at once");
        lab.pass(LONG);
        if let Read::Bytes(bytes) = lab.read(b) {
            received.extend(bytes);
        }
        assert_eq!(received, sent, "seed {seed}");
    }
}

#[test]
fn a_writer_waits_for_a_reader_that_does_not_read() {
    let mut lab = Lab::new(1);
    let (a, b) = lab.connect();
    assert_eq!(lab.fill(a), SOCKET_BYTES);
    lab.pass(LONG);
    assert!(lab.write(a, b"x").is_pending());
    lab.network.take_woken();
    assert_eq!(lab.read(b), Read::Bytes(vec![0; SOCKET_BYTES]));
    assert_eq!(lab.network.take_woken().len(), 1, "the writer");
    lab.say(a, b"x");
}

#[test]
fn a_lost_segment_leaves_a_hole_that_the_connection_never_recovers_from() {
    let mut lab = Lab::new(2);
    let (a, b) = lab.connect();
    lab.say(a, b"under way");
    lab.network.cut(lab.a, lab.b);
    lab.network.heal();
    lab.say(a, b"later");
    lab.say(b, b"back");
    lab.pass(LONG);
    assert_eq!(lab.read(b), Read::Nothing);
    assert_eq!(lab.read(a), bytes("back"));
    // A connection that has lost nothing works.
    let (a, b) = lab.connect();
    lab.network.cut(lab.a, lab.b);
    lab.pass(LONG);
    lab.network.heal();
    lab.say(a, b"again");
    lab.pass(LONG);
    assert_eq!(lab.read(b), bytes("again"));
}

#[test]
fn one_direction_can_be_cut_alone() {
    let mut lab = Lab::new(3);
    let (a, b) = lab.connect();
    lab.network.cut(lab.a, lab.b);
    lab.say(a, b"lost");
    lab.say(b, b"back");
    lab.pass(LONG);
    assert_eq!(lab.read(b), Read::Nothing);
    assert_eq!(lab.read(a), bytes("back"));
    // The writer gets no acknowledgement.
    assert_eq!(lab.fill(b), SOCKET_BYTES - "back".len());
    // The dialer does not get through.
    let dialer = lab.dial();
    lab.pass(LONG);
    assert!(lab.connected(dialer).is_pending());
    assert_eq!(lab.accept(), None);
    // The `SynAck` is lost as well: then there is nothing to accept.
    lab.network.heal();
    lab.network.cut(lab.b, lab.a);
    let dialer = lab.dial();
    lab.pass(LONG);
    assert!(lab.connected(dialer).is_pending());
    assert_eq!(lab.accept(), None);
}

#[test]
fn acknowledgements_come_with_the_healing() {
    let mut lab = Lab::new(4);
    let (a, b) = lab.connect();
    assert_eq!(lab.fill(a), SOCKET_BYTES);
    lab.pass(LONG);
    lab.network.cut(lab.b, lab.a);
    assert_eq!(lab.read(b), Read::Bytes(vec![0; SOCKET_BYTES]));
    assert!(lab.write(a, b"x").is_pending());
    lab.network.take_woken();
    lab.network.heal();
    assert_eq!(lab.network.take_woken().len(), 1, "the writer");
    lab.say(a, b"x");
}

#[test]
fn held_segments_arrive_in_order_after_healing() {
    let mut lab = Lab::new(5);
    let (a, b) = lab.connect();
    lab.say(a, b"under way, ");
    lab.network.hold(lab.a, lab.b);
    lab.pass(LONG);
    lab.say(a, b"held");
    let dialer = lab.dial();
    lab.pass(LONG);
    assert_eq!(lab.read(b), Read::Nothing);
    assert!(lab.connected(dialer).is_pending());
    lab.network.heal();
    lab.say(a, b", sent");
    lab.pass(LONG);
    assert_eq!(lab.read(b), bytes("under way, held, sent"));
    lab.pass(LONG);
    assert!(matches!(lab.connected(dialer), Poll::Ready(Ok(()))));
}

#[test]
fn held_segments_are_lost_by_a_cut() {
    let mut lab = Lab::new(6);
    let (a, b) = lab.connect();
    lab.network.hold(lab.a, lab.b);
    lab.say(a, b"held");
    lab.network.cut(lab.a, lab.b);
    lab.network.heal();
    lab.pass(LONG);
    assert_eq!(lab.read(b), Read::Nothing);
}

#[test]
fn a_dial_to_a_port_without_a_listener_is_refused() {
    let mut lab = Lab::new(7);
    lab.network.end_process(lab.b);
    let dialer = lab.dial();
    assert!(lab.connected(dialer).is_pending());
    lab.pass(LONG);
    assert!(refused(lab.connected(dialer)));
    lab.network.close(dialer);
    assert!(lab.network.ends.is_empty());
    let nowhere = "10.9.9.9:1".parse().unwrap();
    let unknown = lab.network.connect(lab.a, nowhere).unwrap_err();
    assert_eq!(unknown.kind(), io::ErrorKind::HostUnreachable);
}

#[test]
fn the_last_bytes_of_a_dead_process_arrive() {
    let mut lab = Lab::new(8);
    let (a, b) = lab.connect();
    lab.say(b, b"last words");
    lab.network.end_process(lab.b);
    assert_eq!(lab.read(a), Read::Nothing);
    lab.pass(LONG);
    assert_eq!(lab.read(a), bytes("last words"));
    assert_eq!(lab.read(a), Read::End);
    // Bytes to the dead process are answered by a reset.
    lab.say(a, b"anybody there?");
    lab.pass(LONG);
    assert_eq!(lab.read(a), Read::Failed(io::ErrorKind::ConnectionReset));
    let write = lab.write(a, b"?");
    assert!(matches!(write, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe));
    // Its own reads fail at once.
    assert_eq!(lab.read(b), Read::Failed(io::ErrorKind::NotConnected));
}

#[test]
fn a_process_that_dies_with_unread_bytes_resets() {
    let mut lab = Lab::new(9);
    let (a, b) = lab.connect();
    lab.say(a, b"never read");
    lab.pass(LONG);
    lab.say(b, b"last words");
    lab.network.end_process(lab.b);
    lab.pass(LONG);
    assert_eq!(lab.read(a), bytes("last words"));
    assert_eq!(lab.read(a), Read::Failed(io::ErrorKind::ConnectionReset));
}

#[test]
fn one_side_can_be_shut_alone() {
    let mut lab = Lab::new(10);
    let (a, b) = lab.connect();
    lab.say(a, b"question");
    lab.network.shutdown(a).unwrap();
    lab.pass(LONG);
    assert_eq!(lab.read(b), bytes("question"));
    assert_eq!(lab.read(b), Read::End);
    lab.say(b, b"answer");
    lab.pass(LONG);
    assert_eq!(lab.read(a), bytes("answer"));
    assert!(matches!(lab.write(a, b"more"), Poll::Ready(Err(_))));
}

#[test]
fn a_dial_that_is_given_up_leaves_nothing_behind() {
    let mut lab = Lab::new(11);
    let dialer = lab.dial();
    lab.network.close(dialer);
    lab.pass(LONG);
    lab.pass(LONG);
    assert_eq!(lab.accept(), None);
    assert!(lab.network.ends.is_empty());
}

#[test]
fn connections_without_a_process_are_forgotten() {
    let mut lab = Lab::new(12);
    let (a, b) = lab.connect();
    lab.network.close(a);
    lab.pass(LONG);
    lab.network.close(b);
    lab.pass(LONG);
    assert!(lab.network.ends.is_empty());
    // Connections that have lost segments as well.
    let (a, b) = lab.connect();
    lab.say(a, b"lost");
    lab.network.cut(lab.a, lab.b);
    lab.network.close(a);
    lab.network.close(b);
    lab.pass(LONG);
    assert!(lab.network.ends.is_empty());
}

#[test]
fn the_backlog_is_bounded() {
    let mut lab = Lab::new(13);
    let mut dialers = Vec::new();
    for _ in 0..=BACKLOG {
        dialers.push(lab.dial());
        lab.pass(LONG);
    }
    assert!(lab.connected(dialers[BACKLOG]).is_pending());
    assert!(matches!(lab.connected(dialers[0]), Poll::Ready(Ok(()))));
    // A closed listener refuses all of them.
    lab.network.unbind(lab.b, PORT, lab.listener);
    lab.pass(LONG);
    assert_eq!(
        lab.read(dialers[0]),
        Read::Failed(io::ErrorKind::ConnectionReset)
    );
}

#[test]
fn a_listener_of_a_dead_process_leaves_the_next_one_alone() {
    let mut lab = Lab::new(14);
    assert!(lab.network.bind(lab.b, PORT).is_err());
    lab.network.end_process(lab.b);
    let (_, next) = lab.network.bind(lab.b, PORT).unwrap();
    lab.network.unbind(lab.b, PORT, lab.listener);
    lab.listener = next;
    lab.connect();
}

#[test]
fn a_host_reaches_itself_under_all_conditions() {
    let conditions = Conditions {
        break_rate: 1.0,
        ..Conditions::default()
    };
    let mut lab = Lab::with_conditions(15, conditions);
    lab.a = lab.b;
    lab.network.cut(lab.b, lab.b);
    let (a, b) = lab.connect();
    lab.say(a, b"me");
    lab.pass(TICK);
    assert_eq!(lab.read(b), bytes("me"));
}

#[test]
fn conditions_break_links_and_repair_them() {
    let conditions = Conditions {
        break_rate: 0.05,
        repair_rate: 0.2,
        ..Conditions::default()
    };
    let mut lab = Lab::with_conditions(16, conditions);
    let (mut got_through, mut did_not) = (0, 0);
    for _ in 0..200 {
        let dialer = lab.dial();
        lab.pass(LONG);
        match lab.connected(dialer) {
            Poll::Ready(connected) => {
                connected.unwrap();
                got_through += 1;
            }
            Poll::Pending => did_not += 1,
        }
        while let Some(end) = lab.accept() {
            lab.network.close(end);
        }
        lab.network.close(dialer);
    }
    assert!(got_through > 50 && did_not > 20, "{got_through} {did_not}");
}

#[test]
fn a_bad_link_ends_connections_in_the_middle_and_flips_bits_anywhere() {
    let mut lab = Lab::new(17);
    lab.network.damage(lab.a, lab.b);
    let (mut ended, mut early, mut late) = (0, 0, 0);
    for _ in 0..300 {
        let (a, b) = lab.connect();
        for part in [10, 50, 50] {
            lab.say(a, &vec![0; part]);
        }
        lab.pass(LONG);
        let mut received = Vec::new();
        while let Read::Bytes(bytes) = lab.read(b) {
            received.extend(bytes);
        }
        let (first, rest) = received.split_at(received.len().min(60));
        let flipped = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
        early += flipped(first);
        late += flipped(rest);
        if received.len() < 110 {
            ended += 1;
            assert_eq!(lab.read(b), Read::Failed(io::ErrorKind::ConnectionReset));
        }
        lab.network.close(a);
        lab.network.close(b);
        lab.pass(LONG);
    }
    assert!(
        ended > 10 && early > 5 && late > 2,
        "{ended} {early} {late}"
    );
    lab.network.heal();
    let (a, b) = lab.connect();
    lab.say(a, b"well");
    lab.pass(LONG);
    assert_eq!(lab.read(b), bytes("well"));
}
