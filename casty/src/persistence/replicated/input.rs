//! What the task of a store is told.

use tokio::sync::oneshot;

use super::{
    message::{CopyEnvelope, Tidy},
    shard::{Part, WaitingClaim},
    tidies::TidyAnswer,
};
use crate::{id::Epoch, persistence::Log, protocol::copies::CopiesView};

/// What the task is told.
pub(super) enum CopyInput {
    /// What the map says of some shards; those that are left out are as before.
    Views(Vec<(Log, CopiesView)>),
    /// Messages of another store.
    Messages(Vec<CopyEnvelope>),
    Claim {
        log: Log,
        claim: WaitingClaim,
    },
    Appends(Vec<(Log, Part)>),
    Tidy {
        log: Log,
        epoch: Epoch,
        tidy: Tidy,
        answer: TidyAnswer,
    },
    /// Something that was stored of a shard cannot be read.
    Damaged(Log),
    /// What a shard waits for, in words.
    Why {
        log: Log,
        answer: oneshot::Sender<String>,
    },
    /// Up to where the log of a shard may be shown, or why nothing of it may.
    Durable {
        log: Log,
        answer: oneshot::Sender<Result<u64, String>>,
    },
    /// The directory is closed. Nothing follows.
    Close(oneshot::Sender<()>),
}
