//! The attacks, by name, and what has to hold for each. What has to hold in any case is judged by
//! `main.rs`: no crash, no member lost, no error of the load, little memory, few lines of the log.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use crate::{early, late, speak::Attacker};

type Attack = fn(Arc<Attacker>, usize) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Where a case makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Both,
    Tls,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) mode: Mode,
    /// Attackers at a time.
    pub(crate) crowd: usize,
    /// Part of the short run, too.
    pub(crate) short: bool,
    /// Why it does no harm, besides the checks and bounds that are the same for all.
    pub(crate) because: &'static str,
    attack: Attack,
}

macro_rules! case {
    ($name:literal, $mode:ident, $crowd:literal, $short:literal, $attack:path, $because:literal) => {
        Case {
            name: $name,
            mode: Mode::$mode,
            crowd: $crowd,
            short: $short,
            because: $because,
            attack: |attacker, n| Box::pin($attack(attacker, n)),
        }
    };
}

/// One node gets few descriptors in this case.
pub(crate) const DESCRIPTORS: &str = "descriptors";

pub(crate) const CASES: &[Case] = &[
    case!(
        "half-handshakes",
        Both,
        2500,
        true,
        early::half_handshake,
        "a handshake has a deadline, and there are so many at a time"
    ),
    case!(
        "slow-handshakes",
        Both,
        1500,
        false,
        early::slow_handshake,
        "the deadline is that of the whole handshake, not of a byte"
    ),
    case!(
        "large-hellos",
        Both,
        900,
        false,
        early::large_hello,
        "the bytes of a hello are bounded, and a length alone costs none"
    ),
    case!(
        "garbage",
        Both,
        32,
        true,
        early::garbage,
        "a stranger's first bytes decide, and are not logged at length"
    ),
    case!(
        "lying-lengths",
        Both,
        100,
        true,
        early::lying_length,
        "memory grows with what arrives, not with what is announced"
    ),
    case!(
        "strangers",
        Tls,
        16,
        true,
        early::stranger,
        "without a certificate of the authority nothing is decoded"
    ),
    case!(
        "replays",
        Both,
        16,
        true,
        early::replay,
        "with TLS a recording is noise. Without it it is as good as its process: its commands \
         may come twice, and what is stale (terms, versions, epochs) is told by its number"
    ),
    case!(
        "flips",
        Both,
        32,
        true,
        early::flip,
        "a frame with a flipped bit ends its connection, and no frame behind it is read"
    ),
    case!(
        "splices",
        Both,
        32,
        true,
        early::splice,
        "the rest of another stream is that of its hello's process, or no frame"
    ),
    case!(
        "forged-hellos",
        Both,
        32,
        true,
        early::forged_hello,
        "the name of a member displaces no connection of that member; a later generation is \
         believed only if the claimant's address confirms it"
    ),
    case!(
        "facts",
        Both,
        16,
        true,
        late::facts,
        "only a member is heard, as far as TLS tells; else a name that is in the map"
    ),
    case!(
        "bad-control",
        Both,
        16,
        false,
        late::bad_control,
        "what cannot be read costs a line of the log now and then"
    ),
    case!(
        "wrong-epochs",
        Both,
        16,
        false,
        late::wrong_epochs,
        "an epoch that is past bounces, one that is ahead waits for the map, in a bounded place"
    ),
    case!(
        "forged-replies",
        Both,
        16,
        true,
        late::forged_replies,
        "the accepting side asked nothing: such a frame ends the connection"
    ),
    case!(
        "many-ids",
        Both,
        8,
        false,
        late::many_ids,
        "`max_active` bounds the entities that a stranger may make"
    ),
    case!(
        "flood",
        Both,
        8,
        false,
        late::flood,
        "a sender that ignores its window loses the connection"
    ),
    case!(
        "slow-readers",
        Both,
        24,
        true,
        late::slow_reader,
        "replies that nobody reads are bounded"
    ),
    case!(
        "descriptors",
        Both,
        1200,
        true,
        early::half_handshake,
        "the listener waits until descriptors are free; connections that stand stay"
    ),
];

impl Case {
    pub(crate) fn is_for(&self, tls: bool) -> bool {
        match self.mode {
            Mode::Both => true,
            Mode::Tls => tls,
        }
    }

    /// Attacks for so long. Returns what the attackers did.
    pub(crate) async fn run(&self, attacker: Arc<Attacker>, limit: Duration) -> String {
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..self.crowd {
            crowd.spawn(attacker.clone().repeat(n, self.attack));
        }
        tokio::time::sleep(limit).await;
        drop(crowd);
        attacker.report()
    }
}
