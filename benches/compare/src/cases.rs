//! The cases, the sides, and the notes of the table about them.

use std::fmt;

use clap::ValueEnum;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    #[value(name = "tell-1")]
    TellOne,
    TellMany,
    AskSeq,
    AskConc,
    Spawn,
    Bytes,
    #[value(name = "remote-ask-1")]
    RemoteAskOne,
    #[value(name = "remote-ask-64")]
    RemoteAskMany,
    RemoteTell,
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    Floor,
    /// Sharded entities.
    Casty,
    /// Sharded entities, over TLS.
    CastyTls,
    /// Plain actors.
    CastyActor,
    Kameo,
    Ractor,
    Actix,
    Xtra,
    Coerce,
    RioRs,
}

/// The number of askers in a remote case with many messages in flight.
pub(crate) const IN_FLIGHT: usize = 64;
/// Senders that tell many actors.
pub(crate) const SENDERS: usize = 4;

impl Case {
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::TellOne => "tell: 1 sender, 1 actor",
            Self::TellMany => "tell: 4 senders, 1,000 actors",
            Self::AskSeq => "ask: 1 asker, 1 actor",
            Self::AskConc => "ask: 64 askers, 64 actors",
            Self::Spawn => "start 100,000, one reply each",
            Self::Bytes => "bytes of an idle actor",
            Self::RemoteAskOne => "remote ask, 1 in flight",
            Self::RemoteAskMany => "remote ask, 64 in flight",
            Self::RemoteTell => "remote tell",
        }
    }

    pub(crate) fn is_remote(self) -> bool {
        matches!(
            self,
            Self::RemoteAskOne | Self::RemoteAskMany | Self::RemoteTell
        )
    }

    fn tells(self) -> bool {
        matches!(self, Self::TellOne | Self::TellMany | Self::RemoteTell)
    }

    /// Whether both processes share one CPU. To wake a sleeping CPU costs more than the rest of a
    /// message that travels alone, and the cost differs from machine to machine.
    pub(crate) fn is_pinned(self) -> bool {
        self == Self::RemoteAskOne
    }

    /// The note on the row.
    pub(crate) fn remark(self) -> Option<&'static str> {
        match self {
            Self::Spawn => Some(
                "Started by 64 tasks, each of which asks the actor that it has started before it starts the next. \
                 casty's entities are not started by hand: their first ask activates them.",
            ),
            Self::Bytes => Some(
                "The heap that 100,000 idle actors hold after one answer each, with one reference to each, divided by \
                 their number. The floor is a task with a channel.",
            ),
            Self::RemoteAskOne => Some("Both processes on one CPU."),
            _ => None,
        }
    }
}

impl Side {
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Casty => "casty, entities",
            Self::CastyTls => "casty, TLS",
            Self::CastyActor => "casty, actors",
            Self::Kameo => "kameo",
            Self::Ractor => "ractor",
            Self::Actix => "actix",
            Self::Xtra => "xtra",
            Self::Coerce => "coerce",
            Self::RioRs => "rio-rs",
        }
    }

    /// The crates whose versions matter.
    pub(crate) fn crates(self) -> &'static [&'static str] {
        match self {
            Self::Floor => &["tokio"],
            Self::Casty | Self::CastyTls | Self::CastyActor => &["casty"],
            Self::Kameo => &["kameo"],
            Self::Ractor => &["ractor", "ractor_cluster"],
            Self::Actix => &["actix"],
            Self::Xtra => &["xtra"],
            Self::Coerce => &["coerce"],
            Self::RioRs => &["rio-rs"],
        }
    }

    /// The note on the column.
    pub(crate) fn remark(self) -> Option<&'static str> {
        match self {
            Self::Floor | Self::Casty | Self::CastyActor => None,
            Self::CastyTls => Some(
                "The same entities, with TLS 1.3 on the connection, both processes with certificates of their own.",
            ),
            Self::Kameo => Some(
                "Mailboxes of 1,024; its default is 64. Its connections are encrypted, as those of one column of casty are, and those of the other sides are not.",
            ),
            Self::Ractor | Self::Coerce => Some("Mailboxes without a bound: it has no others."),
            Self::Actix => Some(
                "Two arbiters, a thread each; actors and senders alternate between them, and the first of both share \
                 one. Mailboxes of 1,024 (its default is 16). No send waits for room: a full mailbox is tried again \
                 after a yield.",
            ),
            Self::Xtra => Some(
                "Mailboxes of 1,024. They are not first in, first out: a tell may be handled after a later ask, so \
                 the ask is repeated until every tell has arrived.",
            ),
            Self::RioRs => Some(
                "No mailboxes: a lock for each object. In one process an object is asked as another object would ask it, \
                 encoded both ways. Membership and placement in memory.",
            ),
        }
    }

    /// The reason why a case cannot be measured; `None` if it can.
    pub(crate) fn cannot(self, case: Case) -> Option<&'static str> {
        match self {
            Self::CastyActor if case.is_remote() => {
                Some("Remote rows are those of entities: the path is the same for both.")
            }
            Self::CastyTls if !case.is_remote() => Some("Within one process there is no connection."),
            Self::Actix | Self::Xtra if case.is_remote() => Some("Works within one process only."),
            Self::RioRs if case.tells() => Some("Has no message without an answer."),
            _ => None,
        }
    }

    /// The note on one cell of the table.
    pub(crate) fn remark_on(self, case: Case) -> Option<&'static str> {
        match (self, case) {
            (Self::Kameo, Case::RemoteTell) => Some(
                "Acknowledged, with 64 in flight: its one-way send returns `Ok` for messages that never arrive when \
                 many are sent at once.",
            ),
            (Self::RioRs, Case::RemoteAskMany) => Some(
                "A connection for each request in flight: its client sends one request at a time.",
            ),
            _ => None,
        }
    }
}

/// The result of one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Messages or actors a second; bytes in [`Case::Bytes`].
    Value(f64),
    /// The number of messages that never arrived: no rate means anything then.
    Lost(i64),
    /// The run failed, or took too long.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Lost(count) => write!(f, "lost {count}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}
