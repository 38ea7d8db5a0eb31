//! A session over a link that loses frames: a handshake with repeats, and an orderly end.
//!
//! ```mermaid
//! stateDiagram-v2
//!     state Live {
//!         SynSent
//!         note right of SynSent
//!             stays: frames
//!             stash: write, close
//!             otherwise: reject
//!         end note
//!         Established
//!         note right of Established
//!             stays: write, received, read, frames
//!             otherwise: reject
//!         end note
//!         Closing
//!         note right of Closing
//!             stays: frames
//!             otherwise: reject
//!         end note
//!     }
//!     [*] --> Closed
//!     Closed --> SynSent: connect
//!     SynSent --> Established: acked
//!     SynSent --> SynSent: again (after patience)
//!     SynSent --> Closed: again (after patience)
//!     SynSent --> Closed: abort
//!     SynSent --> Closed: reset
//!     Established --> Closing: close
//!     Established --> Closed: abort
//!     Established --> Closed: reset
//!     Closing --> Closed: acked
//!     Closing --> Closed: forgotten (after 5s)
//!     Closing --> Closed: abort
//!     Closing --> Closed: reset
//!     note right of Closed
//!         stays: frames
//!         ignore: reset
//!         otherwise: reject
//!     end note
//! ```

use casty::{
    prelude::*,
    reply::{Later, Promise},
};

/// What goes over the link.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Syn,
    Ack,
    Data(Vec<u8>),
    Fin,
    Reset,
}

/// The peer did not answer the handshake.
#[message]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer;

/// One side of a session. The link takes the frames from here, and brings those of the peer.
#[entity(shards = 20)]
#[states(Live = SynSent, Established, Closing)]
pub mod session {
    use super::*;

    /// What the link has not taken yet.
    #[state(common)]
    #[derive(Default)]
    pub struct Link {
        out: Vec<Frame>,
    }

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    /// Waits for the peer to answer.
    #[state]
    pub struct SynSent {
        attempt: u32,
        connected: Promise<Result<(), NoAnswer>>,
    }

    #[state]
    pub struct Established {
        received: Vec<u8>,
    }

    /// Waits for the peer to know that it is over.
    #[state]
    pub struct Closing;

    #[behavior(of(all), otherwise = reject)]
    impl _ {
        /// The frames to send.
        #[message]
        fn frames(&mut self, link: &mut Link) -> Vec<Frame> {
            std::mem::take(&mut link.out)
        }
    }

    #[behavior(of(Live))]
    impl _ {
        /// Ends it at once, for both sides.
        #[message]
        fn abort(self, link: &mut Link) -> Closed {
            link.out.push(Frame::Reset);
            Closed
        }

        /// The peer has ended it.
        #[message]
        fn reset(self) -> Closed {
            Closed
        }
    }

    #[behavior(ignore(reset))]
    impl Closed {
        /// The answer comes when the handshake is over: after seven seconds at most.
        #[message(timeout = "10s")]
        fn connect(self) -> (SynSent, Later<Result<(), NoAnswer>>) {
            let (connected, later) = Promise::new();
            let attempt = 1;
            (SynSent { attempt, connected }, later)
        }
    }

    #[behavior(stash(write, close))]
    impl SynSent {
        /// One second, two, four.
        fn patience(&self) -> Duration {
            Duration::from_secs(1) * 2_u32.pow(self.attempt - 1)
        }

        #[on_enter]
        fn ask(&mut self, link: &mut Link) {
            link.out.push(Frame::Syn);
        }

        /// The peer has answered.
        #[message]
        fn acked(self) -> Established {
            self.connected.reply(Ok(()));
            let received = Vec::new();
            Established { received }
        }

        #[message(internal, after = Self::patience)]
        fn again(self) -> OneOf<SynSent, Closed> {
            if self.attempt == 3 {
                self.connected.reply(Err(NoAnswer));
                return Closed.into();
            }
            let attempt = self.attempt + 1;
            SynSent { attempt, ..self }.into()
        }
    }

    #[behavior]
    impl Established {
        /// Sends this to the peer. It waits for the handshake.
        #[message]
        fn write(&mut self, data: Vec<u8>, link: &mut Link) {
            link.out.push(Frame::Data(data));
        }

        /// The peer has sent this.
        #[message]
        fn received(&mut self, data: Vec<u8>, link: &mut Link) {
            self.received.extend(data);
            link.out.push(Frame::Ack);
        }

        /// What the peer has sent since the last time.
        #[message]
        fn read(&mut self) -> Vec<u8> {
            std::mem::take(&mut self.received)
        }

        /// Ends it when the peer knows.
        #[message]
        fn close(self, link: &mut Link) -> Closing {
            link.out.push(Frame::Fin);
            Closing
        }
    }

    #[behavior]
    impl Closing {
        #[message]
        fn acked(self) -> Closed {
            Closed
        }

        /// The peer does not answer: so be it.
        #[message(internal, after = "5s")]
        fn forgotten(self) -> Closed {
            Closed
        }
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::Machine;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frames(session: &mut Machine<Session>) -> Vec<Frame> {
        session.send(|it| it.frames()).unwrap()
    }

    #[test]
    fn what_is_written_early_waits_for_the_handshake() {
        let mut session = Machine::<Session>::new();
        session.tell(SessionMsg::Connect {});
        session.tell(SessionMsg::Write { data: vec![1] });
        assert_eq!(frames(&mut session), [Frame::Syn]);
        assert_eq!(session.send(|it| it.acked()), Ok(()));
        assert_eq!(session.state(), "Established");
        assert_eq!(frames(&mut session), [Frame::Data(vec![1])]);
        assert_eq!(session.send(|it| it.received(vec![2, 3])), Ok(()));
        assert_eq!(session.send(|it| it.read()), Ok(vec![2, 3]));
        assert_eq!(frames(&mut session), [Frame::Ack]);
    }

    #[test]
    fn the_handshake_is_tried_three_times_with_growing_patience() {
        let mut session = Machine::<Session>::new();
        session.tell(SessionMsg::Connect {});
        assert_eq!(session.timers(), [("again", SECOND)]);
        session.advance(SECOND);
        assert_eq!(session.timers(), [("again", SECOND * 2)]);
        session.advance(SECOND * 2);
        assert_eq!(session.timers(), [("again", SECOND * 4)]);
        assert_eq!(frames(&mut session), [Frame::Syn, Frame::Syn, Frame::Syn]);
        session.advance(SECOND * 4);
        assert_eq!(session.state(), "Closed");
    }

    #[test]
    fn the_asker_hears_when_the_handshake_is_over() {
        let mut session = Machine::<Session>::new();
        // Time passes while the answer is awaited.
        let connected = session.send(|it| it.connect());
        assert_eq!(connected, Err(AskError::Entity(NoAnswer)));
        assert_eq!(session.state(), "Closed");
    }

    #[test]
    fn it_ends_with_the_peer_or_without() {
        let mut session = Machine::<Session>::new();
        session.tell(SessionMsg::Connect {});
        assert_eq!(session.send(|it| it.acked()), Ok(()));
        assert_eq!(session.send(|it| it.close()), Ok(()));
        assert_eq!(frames(&mut session), [Frame::Syn, Frame::Fin]);
        session.advance(SECOND * 5);
        assert_eq!(session.state(), "Closed");
        session.tell(SessionMsg::Connect {});
        assert_eq!(session.send(|it| it.abort()), Ok(()));
        assert_eq!(frames(&mut session), [Frame::Syn, Frame::Reset]);
        assert_eq!(session.state(), "Closed");
    }
}
